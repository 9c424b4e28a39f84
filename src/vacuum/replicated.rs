//! What replication brings into the history. With a publication FOR ALL TABLES each run of another cluster arrives here as
//! a row, and each row that it trims as a DELETE; the initial copy of the table brings all that it has. A row trigger that
//! fires where session_replication_role is replica, as in every worker that applies changes, discards them before an
//! index is touched. What a run of this cluster writes in a session with that setting stays.

use crate::pg::error;
use crate::pg::rows::RawResult;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::trigger_support::{
    called_as_trigger, trigger_fired_before, trigger_fired_by_update, trigger_fired_for_row,
};
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use std::cell::Cell;

thread_local! {
    /// Whether a run of this process is writing its row.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, what this process does to the history is done; an ERROR ends it too.
pub struct Recording(());

impl Recording {
    /// A run begins to write its row.
    pub fn begin() -> Self {
        RECORDING.set(true);
        Self(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDING.set(false);
    }
}

/// The function of the row trigger on the history.
#[pg_extern]
fn rbytea_discard_replicated(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand; its context is a TriggerData if called_as_trigger says so.
    let data = unsafe { called_as_trigger(fcinfo).then(|| *(*fcinfo).context.cast::<pg_sys::TriggerData>()) };
    let Some(data) =
        data.filter(|data| trigger_fired_before(data.tg_event) && trigger_fired_for_row(data.tg_event))
    else {
        let code = PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED;
        return Err(error::report(
            code,
            "function \"rbytea_discard_replicated\" was not called as a BEFORE ROW trigger",
        )
        .into());
    };
    let row = if trigger_fired_by_update(data.tg_event) { data.tg_newtuple } else { data.tg_trigtuple };
    // No row, which is not a NULL: the trigger manager skips the change.
    let done = if RECORDING.get() { row } else { std::ptr::null_mut() };
    Ok(RawResult(Some(pg_sys::Datum::from(done))))
}
