//! The history of runs that failed in a statement: its transaction takes every row with it, so a background worker, which
//! has one of its own, adds that row.

use super::history::Run;
use super::worker;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::{pg_guard, pg_sys};
use std::ptr::null_mut;

/// How the worker appears in pg_stat_activity.
const NAME: &str = "rbytea vacuum history";
/// What can be told to a background worker in bytes (BGW_EXTRALEN), with a NUL.
const EXTRA: usize = 128;

/// Has the row of a failed run added, with as much of the error as a worker can be told. The statement's own error is what
/// matters: that a row may be missing because there is no free worker is not reported.
pub fn report(run: &Run) {
    let mut text = format!("{} {} {}", run.started, run.origin, run.error.as_deref().unwrap_or_default());
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
    let mut parts = BackgroundWorker::get_extra().splitn(3, ' ');
    let (Some(started), Some(origin), Some(error)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    worker::record_failure(Run {
        started: started.parse().unwrap_or_default(),
        origin: origin.to_string(),
        error: Some(error.to_string()),
        ..Run::default()
    });
}
