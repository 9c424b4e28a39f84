//! Interrupts, looked for where something has to be given back.

use crate::pg::error;
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_sys};

/// Looks for interrupts while a file is being written that must not stay behind half written. PostgreSQL ends a session that is to be
/// terminated where it notices that, and no destructor runs any more; so this is an ERROR first, which unwinds, and the session ends when it
/// looks for interrupts again. A background worker ends as PostgreSQL ends it: it reports its errors, and this would be none.
pub fn check() {
    // SAFETY: plain reads of the process's own state.
    let ends = unsafe {
        pg_sys::ProcDiePending != 0
            && pg_sys::InterruptHoldoffCount == 0
            && pg_sys::CritSectionCount == 0
            && pg_sys::MyBgworkerEntry.is_null()
    };
    if ends {
        error::raise(error::report(
            PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        ));
    }
    check_for_interrupts!();
}
