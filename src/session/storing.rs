//! What the transactions that are running have stored so far, for rbytea_stat_progress_store: in the server's own progress slots, unless
//! another command has them.

use crate::pg::progress::{self, STORING};
use crate::pg::rows::{RawResult, Rows};
use pgrx::{IntoDatum, pg_extern, pg_sys};
use std::cell::Cell;

/// Which number is in which slot.
#[derive(Clone, Copy)]
enum Slot {
    Payloads,
    Bytes,
    Written,
    Expected,
}

/// What the current transaction has stored.
#[derive(Clone, Copy)]
struct Stored {
    payloads: i64,
    /// Of them all.
    bytes: i64,
}

thread_local! {
    static STORED: Cell<Stored> = const { Cell::new(Stored { payloads: 0, bytes: 0 }) };
}

/// Bytes of a payload between two reports.
pub const STEP: u64 = 1 << 20;

/// So many bytes of a payload are written; `expected` of all of them, if that is known.
pub fn written(bytes: u64, expected: Option<u64>) {
    let Stored { payloads, bytes: before } = STORED.get();
    show(payloads, before, bytes.cast_signed(), expected.unwrap_or(0).cast_signed());
}

/// A payload of so many bytes is finished.
pub fn finished(bytes: u64) {
    let Stored { payloads, bytes: before } = STORED.get();
    let stored = Stored { payloads: payloads + 1, bytes: before.saturating_add_unsigned(bytes) };
    STORED.set(stored);
    show(stored.payloads, stored.bytes, 0, 0);
}

/// The transaction has ended.
pub fn ended() {
    STORED.set(Stored { payloads: 0, bytes: 0 });
    if progress::own_command() == STORING {
        // SAFETY: writes the backend's own status.
        unsafe { pg_sys::pgstat_progress_end_command() }
    }
}

fn show(payloads: i64, bytes: i64, written: i64, expected: i64) {
    match progress::own_command() {
        STORING => {}
        // SAFETY: writes the backend's own status.
        pg_sys::ProgressCommandType::PROGRESS_COMMAND_INVALID => unsafe {
            pg_sys::pgstat_progress_start_command(STORING, pg_sys::InvalidOid);
        },
        _ => return,
    }
    let slots = [Slot::Payloads, Slot::Bytes, Slot::Written, Slot::Expected].map(|slot| slot as i32);
    let values = [payloads, bytes, written, expected];
    // SAFETY: as above; both arrays have this length, and there are twenty slots.
    unsafe {
        pg_sys::pgstat_progress_update_multi_param(slots.len() as i32, slots.as_ptr(), values.as_ptr());
    }
}

/// The transactions of this cluster that are storing payloads, a row for each.
#[pg_extern]
fn rbytea_store_progress(fcinfo: pg_sys::FunctionCallInfo) -> RawResult {
    // SAFETY: fcinfo is the call at hand, of a set-returning function.
    let mut rows = unsafe { Rows::begin(fcinfo) };
    for status in progress::statuses(STORING) {
        let number = |slot: Slot| status.st_progress_param.get(slot as usize).copied().unwrap_or(0);
        rows.put([
            status.st_procpid.into_datum(),
            status.st_databaseid.into_datum(),
            number(Slot::Payloads).into_datum(),
            number(Slot::Bytes).into_datum(),
            number(Slot::Written).into_datum(),
            Some(number(Slot::Expected)).filter(|&expected| expected > 0).into_datum(),
        ]);
    }
    RawResult(None)
}
