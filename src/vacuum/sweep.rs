//! The walk over the store that turns marks into moves: directory by directory, judged by plan.rs, carried out (or
//! only shown) by an [`Act`]. Any error ends the run (I10).

use super::history::Run;
use super::plan::{MarkKey, Marks};
use crate::mark::SortedReferences;
use crate::pace::Pace;
use crate::progress::{self, Phase};
use crate::rows::Rows;
use crate::store::{Ahead, FileStore, Listings, Moves, OsFs, PayloadId, Restored, Trashed};
use crate::xact::{self, Access};
use crate::{error, memory, signals};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::thread::available_parallelism;
use std::time::SystemTime;

/// Marked payloads that are not in LIVE and are looked for in TRASH at once: about 32 bytes each.
const MISSING_AT_ONCE: usize = 1 << 18;

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
#[derive(Default)]
pub struct Sweep {
    /// Directories of LIVE that were read.
    pub directories: u64,
    /// Files in them.
    pub files: u64,
    /// Files that are too young to be judged.
    pub young: u64,
    /// Bytes of the files that rows refer to.
    pub bytes: u64,
    /// Payloads that a tuple refers to and that are neither in LIVE nor in TRASH.
    pub lost: u64,
}

/// Whether a file was born in the range. Counts the directories and files that it sees.
pub fn any_born(births: &Range<u64>, run: &mut Run, pace: &mut Pace) -> Result<bool, ErrorReport> {
    let Some(last) = births.end.checked_sub(1).filter(|last| births.start <= *last) else { return Ok(false) };
    xact::with_store(Access::Write, |store| {
        for shard in store.shards(births.start..=last)? {
            pace.file()?;
            run.directories += 1;
            let listing = store.list_shard(shard?)?;
            run.files += listing.payloads.len() as u64;
            if listing.payloads.iter().any(|id| births.contains(&id.birth)) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Lists the files of the database that were born in the range, while `work` runs and asks for them.
pub fn listing<T>(
    births: &Range<u64>,
    pace: &mut Pace,
    work: impl FnOnce(&mut Listings<'_, OsFs>, &mut Pace) -> Result<T, ErrorReport>,
) -> Result<T, ErrorReport> {
    // A whole sweep looks at what is younger as well, to say that it is there.
    let last = if births.start == 0 { u64::MAX } else { births.end.saturating_sub(1) };
    let threads = if pace.may_hurry() { threads() } else { 0 };
    let room = maintenance_work_mem() / 4 / size_of::<PayloadId>();
    let ahead = Ahead { threads, room, start: &signals::blocked };
    xact::store_apart()?.list_ahead(births.start..=last, &ahead, |listings| work(listings, pace))?
}

/// As many as there is something else to do meanwhile: the mark.
fn threads() -> usize {
    const MOST: usize = 4;
    available_parallelism().map_or(1, |cores| (cores.get() - 1).clamp(1, MOST))
}

/// In bytes.
fn maintenance_work_mem() -> usize {
    // SAFETY: a plain read of a setting, in kilobytes.
    unsafe { pg_sys::maintenance_work_mem }.unsigned_abs() as usize * 1024
}

/// Judges every file that is listed. `references` must be all of those to payloads that were born in the range.
pub fn walk(
    births: &Range<u64>,
    references: &mut SortedReferences,
    listings: &mut Listings<'_, OsFs>,
    act: &mut dyn Act,
    pace: &mut Pace,
) -> Result<Sweep, ErrorReport> {
    progress::phase(Phase::Sweeping);
    xact::with_store(Access::Write, |store| {
        let mut marks = Marks::new(references);
        let mut missing = HashSet::new();
        let mut sweep = Sweep::default();
        let mut era = None;
        for listed in listings {
            pace.file()?;
            let (shard, listing) = listed?;
            if let Some(done) = era.replace(shard.era).filter(|&era| era != shard.era) {
                finish_era(store, done, births.end, act)?;
            }
            let verdict = marks.judge(&listing.payloads, births);
            sweep.directories += 1;
            sweep.files += listing.payloads.len() as u64;
            sweep.young += verdict.young;
            sweep.bytes += verdict.bytes;
            progress::listed(sweep.directories, sweep.files);
            for id in &verdict.garbage {
                check_for_interrupts!();
                act.trash(store, id)?;
            }
            missing.try_reserve(verdict.missing.len()).map_err(|_| memory::out_of_memory())?;
            missing.extend(verdict.missing);
            if missing.len() >= MISSING_AT_ONCE {
                sweep.lost += restore(store, std::mem::take(&mut missing), act)?;
            }
        }
        if let Some(done) = era {
            finish_era(store, done, births.end, act)?;
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
        check_for_interrupts!();
        if missing.contains(&MarkKey::of(&id)) {
            // No more than are missing.
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
