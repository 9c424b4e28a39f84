//! Transactions of background processes, which run no statement that would begin one.

use crate::pg::error::Report;
use crate::pg::subtransaction::{Caught, catch};
use pgrx::pg_sys;

/// Runs `work` in a transaction of its own; an ERROR rolls it back.
pub fn transaction<T>(work: impl FnOnce() -> Result<T, Report>) -> Result<T, Caught> {
    let result = catch(|| {
        // SAFETY: the process is in no transaction.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = work()?;
        // SAFETY: ends what was begun above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(result)
    });
    if result.is_err() {
        // SAFETY: the error has been taken over; the abort releases whatever the transaction held.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    result
}
