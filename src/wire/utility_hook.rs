//! Utility statements whose results or tables are not those of a query that has been presented.

use super::{create_table, cursors};
use crate::pg::statement;
use pgrx::{pg_guard, pg_sys};
use std::ffi::c_char;
use std::sync::OnceLock;

/// The hook that was installed before ours.
static PREVIOUS: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// Hooks in, where every session does that at its start.
pub fn init() {
    // SAFETY: called from _PG_init; the hook is a plain variable, and ours lives as long as the library.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
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
    // SAFETY: the server passes a statement with a parse tree; all arguments are passed on as they came, but for a
    // statement that is a copy.
    unsafe {
        let second = create_table::Second::of(utility);
        let destination = cursors::receiver(utility, context, destination);
        statement::run_next(
            PREVIOUS.get().copied().flatten(),
            second.as_ref().map_or(utility, |second| second.utility),
            query,
            read_only_tree,
            context,
            params,
            environment,
            destination,
            completion,
        );
    }
}
