//! The history of runs that failed in a statement: its transaction's abort takes every row with it, so a background
//! worker, in a transaction of its own, adds that row.

use crate::vacuum::history::Run;
use crate::vacuum::worker;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::{pg_guard, pg_sys};
use std::fmt;
use std::ptr::null_mut;

/// How the worker appears in pg_stat_activity.
const NAME: &str = "rbytea vacuum history";
/// Bytes that a background worker can be given when it is registered (BGW_EXTRALEN), with a NUL.
const EXTRA: usize = 128;

/// Has the row of a failed run added, with as much of the error as fits bgw_extra. The statement's own error is what
/// matters: a row that is missing because no worker slot is free is not reported.
pub fn report(run: Run) {
    let mut text = FailureReport(run).to_string();
    text.truncate(text.floor_char_boundary(EXTRA - 1));
    // SAFETY: the structure is copied; plain read of the current database.
    unsafe {
        let builder = BackgroundWorkerBuilder::new(NAME)
            .set_library("rbytea")
            .set_function("rbytea_vacuum_failure")
            .enable_spi_access()
            .set_extra(&text)
            .set_argument(Some(pg_sys::Datum::from(pg_sys::MyDatabaseId)));
        let mut worker = pg_sys::BackgroundWorker::from(&builder);
        pg_sys::RegisterDynamicBackgroundWorker(&mut worker, null_mut());
    }
}

/// The worker's main function; the argument is the OID of the database.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rbytea_vacuum_failure(argument: pg_sys::Datum) {
    worker::connect(pg_sys::Oid::from(argument.value() as u32));
    if let Some(report) = FailureReport::parse(BackgroundWorker::get_extra()) {
        worker::record_failure(report.0);
    }
}

/// What the row needs, as a line: the start, the origin, files moved with their bytes, their date and the end of the
/// WAL before them if there were moves, and the error, which may be cut off.
struct FailureReport(Run);

impl FailureReport {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(7, ' ');
        let mut part = || parts.next();
        let (started, origin) = (part()?.parse().ok()?, part()?.to_string());
        let (trashed, bytes) = (part()?.parse().ok()?, part()?.parse().ok()?);
        let (moved_at, lsn) = (part()?.parse().ok(), part()?.parse().ok());
        let error = Some(part()?.to_string());
        Some(Self(Run { started, origin, trashed, bytes, moved_at, lsn, error, ..Run::default() }))
    }
}

impl fmt::Display for FailureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { started, origin, trashed, bytes, moved_at, lsn, error, .. } = &self.0;
        write!(f, "{started} {origin} {trashed} {bytes} ")?;
        match (moved_at, lsn) {
            (Some(moved_at), Some(lsn)) => write!(f, "{moved_at} {lsn} ")?,
            _ => f.write_str("- - ")?,
        }
        f.write_str(error.as_deref().unwrap_or_default())
    }
}
