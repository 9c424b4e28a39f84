//! rvacuum_plan(): the sink that returns what would move, and why, as rows. Moves nothing.

use crate::pg::error::Report;
use crate::pg::rows::Rows;
use crate::session::transaction;
use crate::vacuum::plan::SweepSink;
use pgrx::{IntoDatum, pg_sys};
use rbytea_store::{Backend, PayloadId};

/// Turns the plan into rows of rvacuum_plan().
pub struct PlanOutput {
    rows: Rows,
}

impl PlanOutput {
    /// Into the result of a call.
    pub fn new(rows: Rows) -> Self {
        Self { rows }
    }

    fn row(&mut self, action: &str, id: &PayloadId, len: Option<u64>, reason: &str) {
        self.rows.put([
            action.into_datum(),
            pgrx::Uuid::from_bytes(*id.uuid.as_bytes()).into_datum(),
            Some(pg_sys::Datum::from(id.birth)),
            len.map(pg_sys::Datum::from),
            reason.into_datum(),
        ]);
    }
}

impl SweepSink for PlanOutput {
    fn trash(&mut self, store: &dyn Backend, id: &PayloadId) -> Result<(), Report> {
        let len = store.size(id)?;
        let reason = if transaction::did_not_commit(id.birth) {
            "the transaction that wrote it did not commit"
        } else {
            "no row refers to it any more"
        };
        self.row("trash", id, len, reason);
        Ok(())
    }

    fn restore(&mut self, _store: &dyn Backend, id: &PayloadId, len: u64) -> Result<(), Report> {
        self.row("restore", id, Some(len), "a row refers to it");
        Ok(())
    }
}
