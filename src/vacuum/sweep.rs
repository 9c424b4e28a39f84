//! The walk over the store that turns marks into moves: shard by shard, judged by `rbytea_store::judgement`, and
//! handed to a [`SweepSink`] that keeps, executes or outputs what has to move. Any error ends the run (I10).

use crate::mark::SortedReferences;
use crate::pg::error::{self, Report};
use crate::pg::memory::{self, maintenance_work_mem};
use crate::pg::pace::Pace;
use crate::pg::progress::{self, Phase};
use crate::pg::signals;
use crate::session::opening;
use crate::session::opening::Access;
use crate::session::transaction;
use crate::vacuum::history::Run;
use crate::vacuum::plan::SweepSink;
use pgrx::check_for_interrupts;
use rbytea_store::judgement::{MarkKey, Marks};
use rbytea_store::{Ahead, Backend, Error, Listed, PayloadId};
use std::collections::{BTreeSet, HashSet};
use std::ops::{Range, RangeInclusive};
use std::thread::available_parallelism;

/// Marked payloads that are not in LIVE and are looked for in TRASH at once: about 32 bytes each.
const MISSING_AT_ONCE: usize = 1 << 18;

/// What a walk over the store has counted.
#[derive(Default)]
pub struct Sweep {
    /// Directories of LIVE that were read.
    pub directories: u64,
    /// Files in them.
    pub files: u64,
    /// Files of transactions that had not ended when the run's snapshot was taken.
    pub not_judged: u64,
    /// Bytes of the files that rows refer to.
    pub bytes: u64,
    /// Payloads that a tuple refers to and that are neither in LIVE nor in TRASH.
    pub lost: u64,
}

/// Whether a file was born in the range. Counts the directories and files that it sees.
pub fn any_born(births: &Range<u64>, run: &mut Run, pace: &mut Pace) -> Result<bool, Report> {
    let Some(last) = births.end.checked_sub(1).filter(|last| births.start <= *last) else { return Ok(false) };
    let mut find = |listings: &mut Listings<'_>| {
        loop {
            pace.file()?;
            let Some(listed) = listings.next() else { return Ok(false) };
            let (_, listing) = listed?;
            run.directories += 1;
            run.files += listing.payloads.len() as u64;
            if listing.payloads.iter().any(|id| births.contains(&id.birth)) {
                return Ok(true);
            }
        }
    };
    transaction::with_store(Access::Write, |store| list(store, births.start..=last, &Ahead::NOT, &mut find))
}

/// What a store lists, shard by shard.
pub type Listings<'a> = dyn Iterator<Item = Result<Listed, Error>> + 'a;

/// Lists the shards of `births` while `work` runs, and returns its result.
fn list<T>(
    store: &dyn Backend,
    births: RangeInclusive<u64>,
    ahead: &Ahead<'_>,
    work: impl FnOnce(&mut Listings<'_>) -> Result<T, Report>,
) -> Result<T, Report> {
    let (mut work, mut result) = (Some(work), None);
    store.list(births, ahead, &mut |listings| result = work.take().map(|work| work(listings)))?;
    result.unwrap_or_else(|| Err(error::internal("a store listed nothing to its caller")))
}

/// Lists the files of the database that were born in the range, while `work` runs and asks for them.
pub fn listing<T>(
    births: &Range<u64>,
    pace: &mut Pace,
    work: impl FnOnce(&mut Listings<'_>, &mut Pace) -> Result<T, Report>,
) -> Result<T, Report> {
    // A whole sweep lists later births as well, to count what it cannot judge.
    let last = if births.start == 0 { u64::MAX } else { births.end.saturating_sub(1) };
    let threads = if pace.may_parallelize() { threads() } else { 0 };
    let room = maintenance_work_mem() / 4 / size_of::<PayloadId>();
    let ahead = Ahead { threads, room, start: &signals::blocked };
    list(&*opening::open_independent()?, births.start..=last, &ahead, |listings| work(listings, pace))
}

/// One core is left for the mark, which runs meanwhile.
fn threads() -> usize {
    const MOST: usize = 4;
    available_parallelism().map_or(1, |cores| (cores.get() - 1).clamp(1, MOST))
}

/// Judges every file that is listed. `references` must be all of those to payloads that were born in the range.
pub fn walk(
    births: &Range<u64>,
    references: &mut SortedReferences,
    listings: &mut Listings<'_>,
    sink: &mut dyn SweepSink,
    pace: &mut Pace,
) -> Result<Sweep, Report> {
    progress::phase(Phase::Sweeping);
    transaction::with_store(Access::Write, |store| {
        let mut marks = Marks::new(references);
        let mut missing = HashSet::new();
        let mut sweep = Sweep::default();
        let mut era = None;
        for listed in listings {
            pace.file()?;
            let (shard, listing) = listed?;
            if let Some(done) = era.replace(shard.era).filter(|&era| era != shard.era) {
                finish_era(store, done, births.end, sink)?;
            }
            let verdict = marks.judge(&listing.payloads, births);
            sweep.directories += 1;
            sweep.files += listing.payloads.len() as u64;
            sweep.not_judged += verdict.young;
            sweep.bytes += verdict.bytes;
            progress::listed(sweep.directories, sweep.files);
            for id in &verdict.garbage {
                check_for_interrupts!();
                sink.trash(store, id)?;
            }
            missing.try_reserve(verdict.missing.len()).map_err(|_| memory::out_of_memory())?;
            missing.extend(verdict.missing);
            if missing.len() >= MISSING_AT_ONCE {
                sweep.lost += restore(store, std::mem::take(&mut missing), sink)?;
            }
        }
        if let Some(done) = era {
            finish_era(store, done, births.end, sink)?;
        }
        missing.extend(marks.missing_at_end());
        sweep.lost += restore(store, missing, sink)?;
        Ok(sweep)
    })
}

/// Brings back the marked payloads that are in TRASH, looking through it only if some are missing from LIVE. Returns
/// the number of those that are in neither.
fn restore(
    store: &dyn Backend,
    mut missing: HashSet<MarkKey>,
    sink: &mut dyn SweepSink,
) -> Result<u64, Report> {
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
        sink.restore(store, &id, len)?;
    }
    // A row trigger may have brought a file back after its directory was judged and before TRASH was read.
    for shard in missing.iter().map(MarkKey::shard).collect::<BTreeSet<_>>() {
        check_for_interrupts!();
        for id in store.list_shard(shard)?.payloads {
            missing.remove(&MarkKey::of(&id));
        }
    }
    Ok(missing.len() as u64)
}

/// An era is done for good only if no running transaction can write to it.
fn finish_era(store: &dyn Backend, era: u64, upper: u64, sink: &mut dyn SweepSink) -> Result<(), Report> {
    if era < upper >> 16 { sink.era_done(store, era) } else { Ok(()) }
}
