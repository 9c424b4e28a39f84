//! The verdict on a disk: a new process opens it and reads the payload of every row that PostgreSQL has, and no other
//! file remains after two runs of the vacuum.

use super::vacuum::{Pass, collect_dropped, day, vacuum};
use super::world::{Row, View, World, places};
use crate::support::{DATABASE, read, registered};
use rbytea_evidence::Found;
use rbytea_memfs::MemFs;
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Config, FileStore, Kind, OwnerId, Restored};
use std::collections::BTreeSet;

/// What is wrong with a disk.
pub enum Wrong {
    /// A row's payload does not read back, or is in TRASH although it was LIVE.
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
            let (Wrong::Lost(what) | Wrong::Dangling(what) | Wrong::Leaked(what)) = &wrong;
            eprintln!("{}:\n  {what}", case());
        }
    }
}

/// Judges a disk. `round`: how many recoveries it has behind it, which have left files in TRASH with their dates.
pub fn judge(disk: &MemFs, world: &World, view: &View, round: u64) -> Result<(), Wrong> {
    let owner = owner(disk, world, view)?;
    if view.in_doubt.is_empty() {
        return Case { world, view, owner, round }.judge(disk);
    }
    // While the transaction is prepared, and after its rollback and its commit.
    Case { world, view, owner, round }.readable(disk)?;
    let mut view = view.clone();
    let in_doubt = std::mem::take(&mut view.in_doubt);
    Case { world, view: &view, owner, round }.judge(&disk.after_kill())?;
    view.rows.extend(in_doubt);
    Case { world, view: &view, owner, round }.judge(disk)
}

/// OWNER is whole, and names the last owner that was acknowledged or a later one.
fn owner(disk: &MemFs, world: &World, view: &View) -> Result<OwnerId, Wrong> {
    let found = store(disk, world.owners[0], DATABASE).owner();
    let found = found.map_err(|e| Wrong::Lost(format!("OWNER: {e}")))?;
    let Some(found) = found else {
        let unclaimed = view.owner.is_none().then_some(world.owners[0]);
        return unclaimed.ok_or_else(|| Wrong::Lost("OWNER is missing".into()));
    };
    match world.owners.iter().position(|owner| *owner == found) {
        Some(at) if view.owner.is_none_or(|acknowledged| at >= acknowledged) => Ok(found),
        _ => Err(Wrong::Lost(format!("OWNER is still {found}"))),
    }
}

/// As a new process opens it.
fn store(disk: &MemFs, owner: OwnerId, database: u32) -> FileStore<MemFs> {
    FileStore::with_fs(disk.clone(), Config { database, owner, ..registered(disk.root()) })
}

/// What the disk is judged by: every row has to be readable before and after a recovery.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub world: &'a World,
    pub view: &'a View,
    /// The cluster that vacuums.
    pub owner: OwnerId,
    pub round: u64,
}

impl<'a> Case<'a> {
    fn judge(&self, disk: &MemFs) -> Result<(), Wrong> {
        self.readable(disk)?;
        self.restorable(disk)?;
        self.recover(disk).map_err(|e| Wrong::Lost(format!("the vacuum fails: {e}")))?;
        self.readable(disk)?;
        self.clean(disk)?;
        // Garbage may come back now, for a directory that was removed is not synced. The next run collects it.
        self.readable(&disk.after_crash())
    }

    fn rows(&self) -> impl Iterator<Item = &'a Row> + use<'a> {
        let Self { world, view, .. } = *self;
        view.rows.iter().chain(&view.in_doubt).map(|row| &world.rows[*row])
    }

    fn store(&self, disk: &MemFs, row: &Row) -> FileStore<MemFs> {
        store(disk, self.owner, row.database)
    }

    /// Two runs of the vacuum: the second deletes what the first moved to TRASH.
    pub fn recover(&self, disk: &MemFs) -> rbytea_store::Result<()> {
        let day = |number| day(100 + 2 * self.round + number);
        let databases = &self.view.databases;
        for (date, bound) in [(day(0), None), (day(1), Some(day(0)))] {
            let pass = Pass { upper: u64::MAX, date, bound };
            for &database in databases {
                let references = self.world.references(self.view, database);
                vacuum(&store(disk, self.owner, database), &references, &pass)?;
            }
            for &database in databases {
                collect_dropped(&store(disk, self.owner, database), databases, &pass)?;
            }
        }
        Ok(())
    }

    /// I1, I4, I6, I7: every row's payload reads back, by its digest and by its file's bytes, in LIVE unless it was
    /// in TRASH from the beginning.
    fn readable(&self, disk: &MemFs) -> Result<(), Wrong> {
        for row in self.rows() {
            match read(&self.store(disk, row), &row.payload) {
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
    fn restorable(&self, disk: &MemFs) -> Result<(), Wrong> {
        for row in self.rows().filter(|row| row.was_in_trash) {
            let disk = disk.after_kill();
            let restored = self.store(&disk, row).restore(&row.payload.id);
            // After a move that another process has not synced, a crash may leave the file in TRASH, where it is
            // found.
            let durable = match restored {
                Ok(Restored::Restored) => true,
                Ok(Restored::WasLive) => false,
                _ => return Err(Wrong::Dangling(format!("{} does not come back: {restored:?}", name(row)))),
            };
            for (disk, must_be_live) in [(&disk, true), (&disk.after_crash(), durable)] {
                let store = self.store(disk, row);
                let live = store.is_live(&row.payload.id).unwrap_or(false);
                if !live && must_be_live || read(&store, &row.payload).is_err() {
                    return Err(Wrong::Dangling(format!("{} came back and is not there", name(row))));
                }
            }
        }
        Ok(())
    }

    /// The files are those of the rows, and OWNER. A row's file may have its name in TRASH as well as in LIVE; that
    /// one goes when the row does.
    fn clean(&self, disk: &MemFs) -> Result<(), Wrong> {
        let names = self.rows().map(|row| places(row.database, &row.payload.id));
        let (live, trash): (BTreeSet<_>, BTreeSet<_>) = names.map(|[live, trash]| (live, trash)).unzip();
        let files = disk.files().into_iter().filter(|file| file != "OWNER");
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
        let view = View { databases: self.view.databases.clone(), ..View::default() };
        let empty = Case { view: &view, round: self.round + 1, ..*self };
        let disk = disk.after_kill();
        empty.recover(&disk).map_err(|e| Wrong::Lost(format!("the vacuum fails: {e}")))?;
        empty.clean(&disk)
    }
}

fn name(row: &Row) -> String {
    format!("{}/{}", row.database, row.payload.id.file_name())
}
