//! The walk over the store that turns marks into moves: directory by directory, judged by plan.rs, carried out (or
//! only shown) by an [`Act`]. Any error ends the run (I10).

use super::plan::{MarkKey, Marks};
use super::rows::Rows;
use crate::error;
use crate::mark::SortedKeys;
use crate::store::{FileStore, Moves, PayloadId, Restored, Trashed};
use crate::xact::{self, Access};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use std::collections::{BTreeSet, HashSet};
use std::time::SystemTime;

/// Marked payloads that are not in LIVE and are looked for in TRASH at once: 16 bytes each.
const MISSING_AT_ONCE: usize = 1 << 20;

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

/// What was seen on the way.
pub struct Sweep {
    /// Files in LIVE.
    pub files: u64,
    /// Files that are too young to be judged.
    pub young: u64,
    /// Payloads that a tuple refers to and that are neither in LIVE nor in TRASH.
    pub lost: u64,
}

/// Judges every file of the database.
pub fn whole_store(upper: u64, keys: &mut SortedKeys, act: &mut dyn Act) -> Result<Sweep, ErrorReport> {
    xact::with_store(Access::Write, |store| {
        let mut marks = Marks::new(keys);
        let mut missing = HashSet::new();
        let mut sweep = Sweep { files: 0, young: 0, lost: 0 };
        let mut era = None;
        for shard in store.shards(0..=u64::MAX)? {
            check_for_interrupts!();
            let shard = shard?;
            if let Some(done) = era.replace(shard.era).filter(|&era| era != shard.era) {
                finish_era(store, done, upper, act)?;
            }
            let listing = store.list_shard(shard)?;
            sweep.files += listing.payloads.len() as u64;
            let verdict = marks.judge(&listing.payloads, upper);
            sweep.young += verdict.young;
            for id in &verdict.garbage {
                check_for_interrupts!();
                act.trash(store, id)?;
            }
            missing.extend(verdict.missing);
            if missing.len() >= MISSING_AT_ONCE {
                sweep.lost += restore(store, std::mem::take(&mut missing), act)?;
            }
        }
        if let Some(done) = era {
            finish_era(store, done, upper, act)?;
        }
        missing.extend(marks.missing_at_end());
        sweep.lost += restore(store, missing, act)?;
        Ok(sweep)
    })
}

/// Brings back the marked payloads that are in TRASH, looking through it only if some are missing from LIVE. Returns the
/// number of those that are in neither.
fn restore(store: &FileStore, mut missing: HashSet<MarkKey>, act: &mut dyn Act) -> Result<u64, ErrorReport> {
    if missing.is_empty() {
        return Ok(0);
    }
    let mut found = Vec::new();
    store.list_trash(&mut |id, entry| {
        if missing.contains(&MarkKey::of(&id)) {
            found.push((id, entry.len));
        }
        Ok(())
    })?;
    for (id, len) in found {
        check_for_interrupts!();
        missing.remove(&MarkKey::of(&id));
        act.restore(store, &id, len)?;
    }
    // Somebody may have brought a file back after its directory was judged and before TRASH was read.
    for shard in missing.iter().map(MarkKey::shard).collect::<BTreeSet<_>>() {
        check_for_interrupts!();
        for id in store.list_shard(shard)?.payloads {
            missing.remove(&MarkKey::of(&id));
        }
    }
    Ok(missing.len() as u64)
}

/// Only an era that no running transaction can write to is done for good.
fn finish_era(store: &FileStore, era: u64, upper: u64, act: &mut dyn Act) -> Result<(), ErrorReport> {
    if era < upper >> 16 { act.era_done(store, era) } else { Ok(()) }
}

/// What has to move, remembered until the whole store has been listed: a listing that fails must not find files moved
/// already (I10).
#[derive(Default)]
pub struct Plan {
    trash: Vec<PayloadId>,
    restore: Vec<(PayloadId, u64)>,
    eras: Vec<u64>,
    overflow: bool,
}

/// Moves that a plan remembers, 32 bytes each at most.
const PLANNED_AT_ONCE: usize = 1 << 20;

impl Plan {
    /// Carries the plan out. False if there was more to do than it can remember: then nothing has been done, but the
    /// whole store has been listed once without an error, and the sweep can be made again with moves at once.
    pub fn carry_out(self, carry: &mut Carry) -> Result<bool, ErrorReport> {
        if self.overflow {
            return Ok(false);
        }
        xact::with_store(Access::Write, |store| {
            for id in &self.trash {
                check_for_interrupts!();
                carry.trash(store, id)?;
            }
            for (id, len) in &self.restore {
                check_for_interrupts!();
                carry.restore(store, id, *len)?;
            }
            self.eras.iter().try_for_each(|&era| carry.era_done(store, era))
        })?;
        Ok(true)
    }

    fn remember<T>(list: &mut Vec<T>, overflow: &mut bool, item: T) {
        if list.len() < PLANNED_AT_ONCE { list.push(item) } else { *overflow = true }
    }
}

impl Act for Plan {
    fn trash(&mut self, _store: &FileStore, id: &PayloadId) -> Result<(), ErrorReport> {
        Self::remember(&mut self.trash, &mut self.overflow, *id);
        Ok(())
    }

    fn restore(&mut self, _store: &FileStore, id: &PayloadId, len: u64) -> Result<(), ErrorReport> {
        Self::remember(&mut self.restore, &mut self.overflow, (*id, len));
        Ok(())
    }

    fn era_done(&mut self, _store: &FileStore, era: u64) -> Result<(), ErrorReport> {
        Self::remember(&mut self.eras, &mut self.overflow, era);
        Ok(())
    }
}

/// Carries the plan out.
pub struct Carry {
    now: SystemTime,
    moves: Moves,
    trashed: u64,
    restored: u64,
    bytes: u64,
}

impl Carry {
    /// Nothing moved yet.
    pub fn new() -> Self {
        Self { now: SystemTime::now(), moves: Moves::new(), trashed: 0, restored: 0, bytes: 0 }
    }

    /// Makes the moves durable. Returns files moved to TRASH, files moved back, and the bytes of the former.
    pub fn finish(self) -> Result<(u64, u64, u64), ErrorReport> {
        xact::with_store(Access::Write, |store| Ok(store.sync_moves(self.moves)?))?;
        Ok((self.trashed, self.restored, self.bytes))
    }
}

impl Act for Carry {
    fn trash(&mut self, store: &FileStore, id: &PayloadId) -> Result<(), ErrorReport> {
        if let Trashed::Moved { len } = store.trash(id, self.now, &mut self.moves)? {
            self.trashed += 1;
            self.bytes += len;
        }
        Ok(())
    }

    fn restore(&mut self, store: &FileStore, id: &PayloadId, _len: u64) -> Result<(), ErrorReport> {
        if store.restore(id)? == Restored::Restored {
            self.restored += 1;
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
