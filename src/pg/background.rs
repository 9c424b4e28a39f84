//! Background processes: waiting, and transactions, as they run no statement that would begin one.

use crate::pg::compat;
use crate::pg::error::Report;
use crate::pg::subtransaction::{Caught, catch};
use pgrx::{check_for_interrupts, pg_sys};
use std::ffi::{c_int, c_long};
use std::time::Duration;

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

/// What a background worker does first that is connected to no database, so that it can read shared catalogs only.
pub fn begin_without_database() {
    compat::pqsignal(pg_sys::SIGHUP, compat::SignalHandlerForConfigReload);
    compat::pqsignal(pg_sys::SIGTERM, compat::SignalHandlerForShutdownRequest);
    // SAFETY: called once, by the worker's main function. The settings are those of the postmaster when it began to start this process, which
    // ignored reloads until now.
    unsafe {
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
}

/// Waits for a signal, for at most so long. Returns whether the settings were read again; does not return when the process is to end, which it does
/// with exit code 1 (the postmaster starts it again then, unless it shuts down).
pub fn wait(timeout: Duration) -> bool {
    let milliseconds = timeout.as_millis().clamp(1, c_int::MAX as u128) as c_long;
    // SAFETY: waits for this process's latch; the postmaster's death ends the process.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        pg_sys::WaitLatch(pg_sys::MyLatch, events as c_int, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
        if pg_sys::ShutdownRequestPending != 0 {
            pg_sys::proc_exit(1);
        }
        check_for_interrupts!();
        let reload = pg_sys::ConfigReloadPending != 0;
        if reload {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
        reload
    }
}
