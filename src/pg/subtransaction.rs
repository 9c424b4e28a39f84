//! An internal subtransaction around work that may fail: an ERROR rolls it back and is returned, and the transaction
//! goes on.

use crate::pg::error::{self, Report};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// An ERROR that was caught.
pub struct Caught {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// All of it.
    pub report: Report,
}

impl From<Caught> for Report {
    fn from(caught: Caught) -> Self {
        caught.report
    }
}

/// Runs `work` in a subtransaction. An ERROR inside of it, raised or returned, rolls it back and is returned.
pub fn subtransaction<T>(work: impl FnOnce() -> Result<T, Report>) -> Result<T, Caught> {
    // SAFETY: plain reads; both outlive the subtransaction.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: we are inside of a transaction that is not a parallel worker's; as PL/pgSQL does it, the memory context
    // stays the caller's.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
    }
    let result = catch(work);
    // SAFETY: ends the subtransaction that was begun above, and puts back what it has changed.
    unsafe {
        match &result {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    result
}

/// Runs `work` and returns an ERROR that was raised in it as one that was returned. What it had begun in the server
/// has to be cleaned up by an abort of the transaction or subtransaction around it.
pub fn catch<T>(work: impl FnOnce() -> Result<T, Report>) -> Result<T, Caught> {
    // A report does not expose its SQLSTATE; one that was caught does.
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(work().unwrap_or_else(|report| error::raise(report)))))
        .catch_others(|error| Err(caught(error)))
        .catch_rust_panic(|error| Err(caught(error)))
        .execute()
}

fn caught(error: CaughtError) -> Caught {
    let (CaughtError::PostgresError(error)
    | CaughtError::ErrorReport(error)
    | CaughtError::RustPanic { ereport: error, .. }) = error;
    let code = error.sql_error_code();
    let mut report = error::report(code, error.message());
    if let Some(detail) = error.detail() {
        report = report.set_detail(detail);
    }
    if let Some(hint) = error.hint() {
        report = report.set_hint(hint);
    }
    Caught { code, report }
}
