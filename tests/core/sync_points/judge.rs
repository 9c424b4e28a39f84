//! The verdict on a disk: a new process opens it, and finds everything that the database knows of, and nothing else remains
//! after two runs of the vacuum.

use super::vacuum::{Pass, collect_dropped, day, vacuum};
use super::world::{Row, View, World, places};
use crate::evidence::Found;
use crate::memfs::MemFs;
use crate::support::{config, read};
use rbytea::store::{Config, Fs, Kind, Restored, Store};
use std::collections::BTreeSet;

/// What is wrong with a disk.
#[derive(Debug)]
pub enum Wrong {
    /// A row's payload does not read back, or not where it has to be.
    Lost(String),
    /// A row's file is nowhere.
    Dangling(String),
    /// Files that no row needs are left.
    Leaked(String),
}

/// What was found in how many cases; the first few that were wrong are printed.
#[derive(Default)]
pub struct Tally {
    pub found: Found,
    printed: u32,
}

impl Tally {
    pub fn count(&mut self, verdict: Result<(), Wrong>, case: impl FnOnce() -> String) {
        self.found.cases += 1;
        let Err(wrong) = verdict else { return };
        match &wrong {
            Wrong::Lost(_) => self.found.lost += 1,
            Wrong::Dangling(_) => self.found.dangling += 1,
            Wrong::Leaked(_) => self.found.leaked += 1,
        }
        if self.printed < 3 {
            self.printed += 1;
            eprintln!("{}\n  {wrong:?}", case());
        }
    }
}

/// Both outcomes of a transaction that was prepared are possible.
pub fn judge(disk: &MemFs, world: &World, view: &View, round: u64) -> Result<(), Wrong> {
    if view.in_doubt.is_empty() {
        return judge_decided(disk, world, view, round);
    }
    let mut committed = View { in_doubt: BTreeSet::new(), ..view.clone() };
    // While it is in doubt, and after either decision.
    readable(disk, world, view)?;
    judge_decided(&disk.after_kill(), world, &committed, round)?;
    committed.rows.extend(&view.in_doubt);
    judge_decided(disk, world, &committed, round)
}

/// `round`: how many judgements this disk has behind it, which have left files in TRASH with their dates.
fn judge_decided(disk: &MemFs, world: &World, view: &View, round: u64) -> Result<(), Wrong> {
    owned(disk, world, view)?;
    readable(disk, world, view)?;
    restorable(disk, world, view)?;
    recover(disk, world, view, round).map_err(|e| Wrong::Lost(format!("the vacuum fails: {e}")))?;
    readable(disk, world, view)?;
    clean(disk, world, view, round)?;
    // Garbage may come back now, for a directory that was removed is not synced. The next run collects it.
    readable(&disk.after_crash(), world, view)
}

/// Two runs: the second deletes what the first moved to TRASH.
pub fn recover(disk: &MemFs, world: &World, view: &View, round: u64) -> rbytea::store::Result<()> {
    let day = |number| day(100 + 2 * round + number);
    for (date, bound) in [(day(0), None), (day(1), Some(day(0)))] {
        let pass = Pass { upper: u64::MAX, date, bound };
        for &database in &view.databases {
            vacuum(&store(disk, world, database), &world.references(view, database), &pass)?;
        }
        if let Some(&database) = view.databases.first() {
            collect_dropped(&store(disk, world, database), &view.databases, &pass)?;
        }
    }
    Ok(())
}

/// As a new process opens it.
fn store(disk: &MemFs, world: &World, database: u32) -> Store<MemFs> {
    let mut store = Store::with_fs(disk.clone(), Config { database, ..config(disk.root()) }).unwrap();
    // whoever became the owner vacuums
    if let Ok(Some(owner)) = store.owner()
        && world.owners.contains(&owner)
    {
        store = Store::with_fs(disk.clone(), Config { owner, ..store.config().clone() }).unwrap();
    }
    store
}

/// OWNER is whole, and names the last owner that was told so or one that was about to be.
fn owned(disk: &MemFs, world: &World, view: &View) -> Result<(), Wrong> {
    let found = Store::with_fs(disk.clone(), config(disk.root())).unwrap().owner();
    let found = found.map_err(|e| Wrong::Lost(format!("OWNER: {e}")))?;
    let position = found.map(|found| world.owners.iter().position(|owner| *owner == found));
    match (view.owner, position) {
        (None, None | Some(Some(_))) => Ok(()),
        (Some(told), Some(Some(found))) if found >= told => Ok(()),
        (told, _) => Err(Wrong::Lost(format!("OWNER is {found:?}, and not that of {told:?}"))),
    }
}

/// I1, I4, I6, I7: every row's payload reads back, by its digest and by its file's bytes, in LIVE unless it was in TRASH from
/// the beginning.
fn readable(disk: &MemFs, world: &World, view: &View) -> Result<(), Wrong> {
    for row in view.rows.iter().chain(&view.in_doubt).map(|row| &world.rows[*row]) {
        let store = store(disk, world, row.database);
        match read(&store, &row.payload) {
            Ok(bytes) if bytes == row.bytes => {}
            Ok(_) => return Err(Wrong::Lost(format!("{} has other bytes", name(row)))),
            Err(e) if e.kind() == Kind::NotFound => return Err(Wrong::Dangling(name(row))),
            Err(e) => return Err(Wrong::Lost(format!("{}: {e}", name(row)))),
        }
        let files = places(row.database, &row.payload.id).map(|path| disk.peek(&path));
        if files.iter().flatten().any(|bytes| *bytes != row.stored) {
            return Err(Wrong::Lost(format!("the file of {} has changed", name(row))));
        }
        if files[0].is_none() && !row.was_in_trash {
            return Err(Wrong::Lost(format!("{} was moved to TRASH", name(row))));
        }
    }
    Ok(())
}

/// I7: what is in TRASH comes back for good when it is stored.
fn restorable(disk: &MemFs, world: &World, view: &View) -> Result<(), Wrong> {
    for row in view.rows.iter().map(|row| &world.rows[*row]).filter(|row| row.was_in_trash) {
        let disk = disk.after_kill();
        let restored = store(&disk, world, row.database).restore(&row.payload.id);
        // Of a move that somebody else has not synced a crash may leave the file in TRASH, where it is found.
        let durable = match restored {
            Ok(Restored::Restored) => true,
            Ok(Restored::WasLive) => false,
            _ => return Err(Wrong::Dangling(format!("{} does not come back: {restored:?}", name(row)))),
        };
        for (disk, live) in [(&disk, true), (&disk.after_crash(), durable)] {
            let store = store(disk, world, row.database);
            let found = store.is_live(&row.payload.id).unwrap_or(false) || !live;
            if !found || read(&store, &row.payload).is_err() {
                return Err(Wrong::Dangling(format!("{} came back and is not there", name(row))));
            }
        }
    }
    Ok(())
}

/// The files are those of the rows, and OWNER. A row's file may have its name in TRASH as well as in LIVE; that one goes
/// when the row does.
fn clean(disk: &MemFs, world: &World, view: &View, round: u64) -> Result<(), Wrong> {
    let rows = view.rows.iter().map(|row| &world.rows[*row]);
    let names = rows.map(|row| places(row.database, &row.payload.id));
    let (live, trash): (BTreeSet<_>, BTreeSet<_>) = names.map(|[live, trash]| (live, trash)).unzip();
    let files = disk.files().into_iter().filter(|file| file != "OWNER" && !is_temporary(file));
    let files: BTreeSet<_> = files.collect();
    if let Some(missing) = live.difference(&files).next() {
        return Err(Wrong::Dangling(format!("{missing} is not LIVE")));
    }
    let others: Vec<_> = files.difference(&live).collect();
    if others.iter().any(|file| !trash.contains(*file)) {
        return Err(Wrong::Leaked(format!("{others:?}")));
    }
    if others.is_empty() {
        return Ok(());
    }
    let (disk, nothing) = (disk.after_kill(), View { databases: view.databases.clone(), ..View::default() });
    recover(&disk, world, &nothing, round + 1)
        .map_err(|e| Wrong::Lost(format!("the vacuum fails: {e}")))?;
    clean(&disk, world, &nothing, round)
}

/// What a crash leaves of a file that had not got its own name.
fn is_temporary(file: &str) -> bool {
    file.ends_with(".tmp")
}

fn name(row: &Row) -> String {
    format!("{}/{}", row.database, row.payload.id.file_name())
}
