//! The sink that moves files between LIVE and TRASH, and counts them. Its moves are durable once `finish` has
//! returned.

use crate::pg::error::{self, Report};
use crate::pg::{pace, progress};
use crate::session::opening::Access;
use crate::session::transaction;
use crate::vacuum::history::Moved;
use crate::vacuum::plan::SweepSink;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use rbytea_store::{Backend, Moves, PayloadId, Restored, Trashed};
use std::time::SystemTime;

/// Moves each file that it is given.
pub struct Executor {
    now: SystemTime,
    moves: Box<dyn Moves>,
    moved: Moved,
}

impl Executor {
    /// Nothing moved yet. `now` is the date that files in TRASH get.
    pub fn begin(now: SystemTime) -> Result<Self, Report> {
        let moves = transaction::with_store(Access::Write, |store| Ok(store.moves()))?;
        Ok(Self { now, moves, moved: Moved::default() })
    }

    /// What has been moved so far.
    pub fn moved(&self) -> Moved {
        self.moved
    }

    /// Makes the moves durable.
    pub fn finish(self) -> Result<(), Report> {
        Ok(self.moves.sync()?)
    }
}

impl SweepSink for Executor {
    fn trash(&mut self, _store: &dyn Backend, id: &PayloadId) -> Result<(), Report> {
        if let Trashed::Moved { len } = self.moves.trash(id, self.now)? {
            self.moved.trashed += 1;
            self.moved.bytes += len;
            progress::moved(self.moved.trashed);
            if pace::may_end_soon() {
                self.moves.log();
            }
        }
        Ok(())
    }

    fn restore(&mut self, store: &dyn Backend, id: &PayloadId, len: u64) -> Result<(), Report> {
        if store.restore(id)? == Restored::Restored {
            self.moved.restored += 1;
            self.moved.restored_bytes += len;
            let message = format!("payload {} was in TRASH although a row refers to it; it is back", id.uuid);
            error::emit(error::report(PgSqlErrorCode::ERRCODE_WARNING, message), PgLogLevel::WARNING);
        }
        Ok(())
    }

    fn era_done(&mut self, store: &dyn Backend, era: u64) -> Result<(), Report> {
        Ok(store.era_swept(era)?)
    }
}
