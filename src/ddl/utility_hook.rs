//! The hook around utility statements: what CREATE DATABASE and DECLARE … WITH HOLD mean for payloads. Everything else
//! about statements goes through triggers.

use crate::ddl::clone_database;
use crate::pg::{error, statement};
use crate::session::held_cursors;
use pgrx::{pg_guard, pg_sys};
use std::ffi::c_char;
use std::sync::OnceLock;

/// The hook that was installed before ours.
static PREVIOUS: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// Hooks in; only while the server loads `shared_preload_libraries`, so that every session has it from its start.
pub fn init() {
    // SAFETY: called from _PG_init; the hook is a plain variable, and ours lives as long as the library.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
    clone_database::init();
}

#[allow(clippy::too_many_arguments, reason = "the server's hook has as many")]
#[pg_guard]
unsafe extern "C-unwind" fn process_utility(
    utility: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server passes a statement with a parse tree; all arguments are passed on as they came. What is
    // looked at before and after is found out before, because a statement like COMMIT may free its own parse tree.
    unsafe {
        let _template = clone_database::remember((*utility).utilityStmt);
        let cursor = held_cursors::Change::of((*utility).utilityStmt);
        statement::run_next(
            PREVIOUS.get().copied().flatten(),
            utility,
            query,
            read_only_tree,
            context,
            params,
            environment,
            destination,
            completion,
        );
        if let Some(Err(report)) = cursor.map(held_cursors::after) {
            error::raise(report);
        }
    }
}
