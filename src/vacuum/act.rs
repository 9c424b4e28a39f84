//! What becomes of a file that the sweep has judged: remembered, carried out, or only shown.

use super::sweep::maintenance_work_mem;
use crate::pace::Pace;
use crate::progress;
use crate::rows::Rows;
use crate::store::{FileStore, Moves, PayloadId, Restored, Trashed};
use crate::xact::{self, Access};
use crate::{error, memory};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode, pg_sys};
use std::time::SystemTime;

/// What to do with a file that has to move.
pub trait Act {
    /// LIVE → TRASH: no tuple refers to it.
    fn trash(&mut self, store: &FileStore, id: &PayloadId) -> Result<(), ErrorReport>;
    /// TRASH → LIVE: a tuple refers to it.
    fn restore(&mut self, store: &FileStore, id: &PayloadId, len: u64) -> Result<(), ErrorReport>;
    /// All files of an era (births with the same upper 48 bits) have been judged.
    fn era_done(&mut self, _store: &FileStore, _era: u64) -> Result<(), ErrorReport> {
        Ok(())
    }
}

/// What has to move, remembered until the whole store has been listed: a listing that fails must not find files moved
/// already (I10).
pub struct Plan {
    trash: Vec<PayloadId>,
    restore: Vec<(PayloadId, u64)>,
    eras: Vec<u64>,
    room: usize,
    overflow: bool,
}

impl Plan {
    /// Remembers what fits a quarter of maintenance_work_mem; the listing has another one, and the mark has half.
    pub fn within_memory() -> Self {
        let room = maintenance_work_mem() / 4 / (2 * size_of::<(PayloadId, u64)>());
        let room = room.clamp(1 << 10, 1 << 18);
        Self { trash: Vec::new(), restore: Vec::new(), eras: Vec::new(), room, overflow: false }
    }

    /// Carries the plan out. False if there was more to do than it can remember: then nothing has been done, but the
    /// whole store has been listed once without an error, and the sweep can be made again with moves at once.
    pub fn carry_out(self, carry: &mut Carry, pace: &mut Pace) -> Result<bool, ErrorReport> {
        if self.overflow {
            return Ok(false);
        }
        xact::with_store(Access::Write, |store| {
            for id in &self.trash {
                pace.file()?;
                carry.trash(store, id)?;
            }
            for (id, len) in &self.restore {
                pace.file()?;
                carry.restore(store, id, *len)?;
            }
            self.eras.iter().try_for_each(|&era| carry.era_done(store, era))
        })?;
        Ok(true)
    }

    fn remember<T>(list: &mut Vec<T>, room: usize, overflow: &mut bool, item: T) -> Result<(), ErrorReport> {
        if list.len() < room {
            return memory::push(list, item);
        }
        *overflow = true;
        Ok(())
    }
}

impl Act for Plan {
    fn trash(&mut self, _store: &FileStore, id: &PayloadId) -> Result<(), ErrorReport> {
        Self::remember(&mut self.trash, self.room, &mut self.overflow, *id)
    }

    fn restore(&mut self, _store: &FileStore, id: &PayloadId, len: u64) -> Result<(), ErrorReport> {
        Self::remember(&mut self.restore, self.room, &mut self.overflow, (*id, len))
    }

    fn era_done(&mut self, _store: &FileStore, era: u64) -> Result<(), ErrorReport> {
        Self::remember(&mut self.eras, self.room, &mut self.overflow, era)
    }
}

/// Carries the plan out.
pub struct Carry {
    now: SystemTime,
    moves: Moves,
    moved: Moved,
}

/// What was moved.
#[derive(Default, Clone, Copy)]
pub struct Moved {
    /// Files moved to TRASH.
    pub trashed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files moved back.
    pub restored: u64,
    /// Their bytes.
    pub restored_bytes: u64,
}

impl Carry {
    /// Nothing moved yet. `now` is the date that files in TRASH get.
    pub fn new(now: SystemTime) -> Self {
        Self { now, moves: Moves::new(), moved: Moved::default() }
    }

    /// What has been moved so far.
    pub fn moved(&self) -> Moved {
        self.moved
    }

    /// Makes the moves durable.
    pub fn finish(self) -> Result<(), ErrorReport> {
        xact::with_store(Access::Write, |store| Ok(store.sync_moves(self.moves)?))
    }
}

impl Act for Carry {
    fn trash(&mut self, store: &FileStore, id: &PayloadId) -> Result<(), ErrorReport> {
        if let Trashed::Moved { len } = store.trash(id, self.now, &mut self.moves)? {
            self.moved.trashed += 1;
            self.moved.bytes += len;
            progress::moved(self.moved.trashed);
        }
        Ok(())
    }

    fn restore(&mut self, store: &FileStore, id: &PayloadId, len: u64) -> Result<(), ErrorReport> {
        if store.restore(id)? == Restored::Restored {
            self.moved.restored += 1;
            self.moved.restored_bytes += len;
            let message = format!("payload {} was in TRASH although a row refers to it; it is back", id.uuid);
            error::tell(error::report(PgSqlErrorCode::ERRCODE_WARNING, message), PgLogLevel::WARNING);
        }
        Ok(())
    }

    fn era_done(&mut self, store: &FileStore, era: u64) -> Result<(), ErrorReport> {
        Ok(store.remove_empty_dirs(era)?)
    }
}

/// Shows the plan as rows of rvacuum_plan().
pub struct Show {
    rows: Rows,
}

impl Show {
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

impl Act for Show {
    fn trash(&mut self, store: &FileStore, id: &PayloadId) -> Result<(), ErrorReport> {
        let len = store.size(id)?;
        let reason = if xact::did_not_commit(id.birth) {
            "the transaction that wrote it did not commit"
        } else {
            "no row refers to it any more"
        };
        self.row("trash", id, len, reason);
        Ok(())
    }

    fn restore(&mut self, _store: &FileStore, id: &PayloadId, len: u64) -> Result<(), ErrorReport> {
        self.row("restore", id, Some(len), "a row refers to it");
        Ok(())
    }
}
