//! The history of runs that failed in a statement: its transaction takes every row with it, so a background worker, which
//! has one of its own, adds that row.

use super::history::Run;
use super::worker;
use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::{pg_guard, pg_sys};
use std::ptr::null_mut;

/// How the worker appears in pg_stat_activity.
const NAME: &str = "rbytea vacuum history";

/// What the worker is told: where the row is.
const DATABASE_SHIFT: u32 = 32;

/// Has the row of a failed run added. The statement's own error is what matters: that a row may be missing because there is
/// no free worker is not reported.
pub fn report(run: &Run) {
    let Ok(text) = serde_json::to_vec(run) else { return };
    // SAFETY: the segment is as long as what is written; it is pinned until the worker has read it, or given up again if
    // there will be no worker. Both functions that can raise an ERROR do so before anything is pinned.
    unsafe {
        let segment = pg_sys::dsm_create(LENGTH + text.len(), 0);
        let address = pg_sys::dsm_segment_address(segment).cast::<u8>();
        address.cast::<u64>().write(text.len() as u64);
        address.add(LENGTH).copy_from_nonoverlapping(text.as_ptr(), text.len());
        let handle = pg_sys::dsm_segment_handle(segment);
        let argument = u64::from(pg_sys::MyDatabaseId.to_u32()) << DATABASE_SHIFT | u64::from(handle);
        let builder = BackgroundWorkerBuilder::new(NAME)
            .set_library("rbytea")
            .set_function("rbytea_vacuum_failure")
            .enable_spi_access()
            .set_argument(Some(pg_sys::Datum::from(argument)));
        let mut worker = pg_sys::BackgroundWorker::from(&builder);
        pg_sys::dsm_pin_segment(segment);
        if !pg_sys::RegisterDynamicBackgroundWorker(&mut worker, null_mut()) {
            pg_sys::dsm_unpin_segment(handle);
        }
        pg_sys::dsm_detach(segment);
    }
}

/// Bytes before the text: its length.
const LENGTH: usize = 8;

/// The worker's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rbytea_vacuum_failure(argument: pg_sys::Datum) {
    let argument = argument.value() as u64;
    worker::connect(pg_sys::Oid::from((argument >> DATABASE_SHIFT) as u32));
    if let Some(run) = take(argument as u32) {
        worker::record_failure(run);
    }
}

/// Reads the row, and lets the segment go.
fn take(handle: u32) -> Option<Run> {
    // SAFETY: without a resource owner a mapping lasts as long as the process. The segment was written by `report`.
    unsafe {
        let segment = pg_sys::dsm_attach(handle);
        if segment.is_null() {
            return None;
        }
        pg_sys::dsm_unpin_segment(handle);
        let address = pg_sys::dsm_segment_address(segment).cast::<u8>();
        let length = usize::try_from(address.cast::<u64>().read()).ok()?;
        let text = std::slice::from_raw_parts(
            address.add(LENGTH),
            length.min(pg_sys::dsm_segment_map_length(segment)),
        );
        let run = serde_json::from_slice(text).ok();
        pg_sys::dsm_detach(segment);
        run
    }
}
