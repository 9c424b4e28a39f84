//! bytea on the wire: drivers choose by a type's OID how a result is decoded and a parameter is encoded, so what a client sends
//! and gets is described as bytea, and rbytea stays inside of the server. Uses `pg` alone; lib.rs registers its hook,
//! where the library is preloaded.
//!
//! A statement is changed after its analysis: each visible result of type rbytea goes through a function to bytea, each
//! parameter that was inferred to be an rbytea becomes a bytea that is cast. Only statements that the client itself has
//! sent; a view, a table that is made of a query, and every function keep rbytea.

mod calls;
mod client;
mod create_table;
mod parameters;
mod results;
mod stored;

use crate::pg::{installed, settings};
use pgrx::{pg_guard, pg_sys};
use std::sync::OnceLock;

/// The hook that was installed before ours.
static PREVIOUS: OnceLock<pg_sys::post_parse_analyze_hook_type> = OnceLock::new();

/// Hooks in; only where every session has it from its start, as types must not change between two statements.
pub fn init() {
    // SAFETY: called from _PG_init; the hook is a plain variable, and ours lives as long as the library.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::post_parse_analyze_hook);
        pg_sys::post_parse_analyze_hook = Some(post_parse_analyze);
    }
    create_table::init();
}

#[pg_guard]
unsafe extern "C-unwind" fn post_parse_analyze(
    pstate: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: the server passes the state and the result of an analysis that has just ended.
    unsafe {
        if let Some(previous) = PREVIOUS.get().copied().flatten() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous(pstate, query, jumble));
        }
        if !settings::client_type_is_bytea() || !client::has_sent(pstate) {
            return;
        }
        // Only for these are the catalogs read: ROLLBACK is analysed in a transaction that has failed.
        if let Some(statement) = client::statement(query) {
            let Some(types) = installed::installed() else { return };
            if client::stays(&types) {
                return;
            }
            parameters::present(pstate, query, statement, &types);
            stored::present(statement, &types);
            results::present(statement, &types);
            if client::prepares(pstate) && results::has_bytea(statement) {
                client::remember(pstate);
            }
        }
    }
}
