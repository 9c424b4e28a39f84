//! A run of the vacuum, as src/vacuum/{run,sweep,purge,dropped}.rs make it, without the mark: the references are
//! given.

use rbytea_memfs::MemFs;
use rbytea_store::judgement::{MarkKey, Marks, Reference, unreferenced};
use rbytea_store::{Ahead, Backend, FileStore, PayloadRef, Restored, Result};
use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Births from here on are not judged.
    pub upper: u64,
    /// The date that files in TRASH get.
    pub date: SystemTime,
    /// Files in TRASH with this date, or an older one, may be deleted.
    pub bound: Option<SystemTime>,
}

/// So many days after all others.
pub fn day(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000 + number * 86_400)
}

/// Judges every file of the store's database. All moves are durable when it succeeds.
pub fn vacuum(store: &FileStore<MemFs>, references: &[PayloadRef], pass: &Pass) -> Result<()> {
    store.check_owner()?;
    store.begin_moves()?;
    let mut marks: Vec<_> = references.iter().map(Reference::to).collect();
    marks.sort_unstable();
    let mut garbage = Vec::new();
    let mut missing = HashSet::new();
    let mut eras = BTreeSet::new();
    let ahead = Ahead { threads: 0, room: 1000, start: &|start| start() };
    store.list_ahead(0..=u64::MAX, &ahead, |listings| {
        let mut judge = Marks::new(marks.iter().copied());
        for listed in listings {
            let (shard, listing) = listed?;
            eras.insert(shard.era);
            let verdict = judge.judge(&listing.payloads, &(0..pass.upper));
            garbage.extend(verdict.garbage);
            missing.extend(verdict.missing);
        }
        missing.extend(judge.missing_at_end());
        Ok(())
    })??;
    let mut restorable = Vec::new();
    store.list_trash(&mut |id, _| {
        restorable.extend(missing.contains(&MarkKey::of(&id)).then_some(id));
        Ok(())
    })?;
    purge(store, &marks, pass)?;
    let mut moves = store.moves();
    let carried = (|| {
        for id in &garbage {
            moves.trash(id, pass.date)?;
        }
        for id in &restorable {
            assert_ne!(store.restore(id)?, Restored::Missing, "no other process moves files");
        }
        eras.iter().filter(|&&era| era < pass.upper >> 16).try_for_each(|&era| store.era_swept(era))
    })();
    // Also after an error, for the moves made before it.
    let synced = moves.sync();
    carried.and(synced)
}

fn purge(store: &FileStore<MemFs>, marks: &[Reference], pass: &Pass) -> Result<()> {
    let mut candidates = Vec::new();
    store.list_trash(&mut |id, entry| {
        let old_enough = pass.bound.is_some_and(|bound| entry.trashed_at <= bound) && id.birth < pass.upper;
        candidates.extend(old_enough.then_some(id));
        Ok(())
    })?;
    let mut moves = store.moves();
    for id in unreferenced(candidates, marks.iter().copied()) {
        moves.purge(&id)?;
    }
    moves.sync()
}

/// Puts the directories of databases that are gone aside, and deletes those that have been there long enough; before
/// that, what a crash has left of files that had not got their own names.
pub fn collect_dropped(store: &FileStore<MemFs>, databases: &BTreeSet<u32>, pass: &Pass) -> Result<()> {
    store.remove_leftovers(pass.date)?;
    for oid in store.databases()? {
        if !databases.contains(&oid) {
            store.trash_database(oid, pass.date)?;
        }
    }
    for dropped in store.dropped_databases()? {
        if pass.bound.is_some_and(|bound| dropped.trashed_at <= bound) {
            store.purge_database(&dropped, &mut || ())?;
        }
    }
    Ok(())
}
