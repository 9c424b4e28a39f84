//! Looking for what is wrong in a store: names and kinds that it did not give, rights that it did not give, and where
//! the file of a payload is. Moves nothing and opens no payload; constant memory but for one leaf directory.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::fs::{Entry, EntryKind, Fs};
use super::layout::{
    OWNER, TRASH, era_dir, parse_byte_dir, parse_copy_name, parse_database_dir, parse_dropped_dir,
    parse_era_dir, parse_new_owner_name,
};
use super::list::{directory, payload};
use super::paths::{found, shown};
use super::store::FileStore;
use crate::backend::{Flaw, Inspection, Listing};
use crate::error::{Error, Result};
use crate::payload::Shard;

/// Takes each entry: what is wrong with it, if anything, and its path below the root.
pub type Report<'a> = &'a mut dyn FnMut(Option<Flaw>, PathBuf) -> Result<()>;

impl<F: Fs> FileStore<F> {
    /// Looks at the root and at its entries. Other users may be able to read the root itself, but must not be able to
    /// write.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_root(&self, report: Report<'_>) -> Result<()> {
        let root = self.fs.stat("").map_err(self.io("stat directory", ""))?;
        if !root.owned || root.mode & 0o022 != 0 {
            report(Some(Flaw::WrongRights), shown(""))?;
        }
        let is_database =
            |name: &str| parse_database_dir(name).is_some() || parse_dropped_dir(name).is_some();
        // lost+found belongs to the file system, where the root is a mount point.
        let report: Report<'_> =
            &mut |flaw, path| if path == Path::new("lost+found") { Ok(()) } else { report(flaw, path) };
        self.inspect("", report, &mut |entry| match entry.kind {
            EntryKind::File => entry.name == OWNER || parse_new_owner_name(entry.name.as_bytes()).is_some(),
            EntryKind::Dir => directory(entry).is_some_and(is_database),
            EntryKind::Other => false,
        })
    }

    /// Looks at the directory of the database; returns its eras, ascending.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_database(&self, report: Report<'_>) -> Result<Vec<u64>> {
        let mut eras = Vec::new();
        self.inspect(&self.database, report, &mut |entry| {
            let name = directory(entry);
            let era = name.and_then(parse_era_dir);
            eras.extend(era);
            era.is_some() || name == Some(TRASH)
        })?;
        eras.sort_unstable();
        Ok(eras)
    }

    /// Looks at every file in TRASH.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_trash(&self, report: Report<'_>) -> Result<()> {
        self.inspect(&self.in_database(TRASH), report, &mut |entry| {
            payload(entry).is_some()
                || entry.kind == EntryKind::File && parse_copy_name(entry.name.as_bytes()).is_some()
        })
    }

    /// Looks at the directory of an era; returns its leaf directories, ascending.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_era(&self, era: u64, report: Report<'_>) -> Result<Vec<Shard>> {
        let mut shards = Vec::new();
        self.inspect(&self.in_database(&era_dir(era)), report, &mut |entry| {
            let byte = directory(entry).and_then(parse_byte_dir);
            shards.extend(byte.map(|byte| Shard { era, byte }));
            byte.is_some()
        })?;
        shards.sort_unstable();
        Ok(shards)
    }

    /// Looks at every file of a leaf directory; returns the payloads in it, as `list_shard` does.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_shard(&self, shard: Shard, report: Report<'_>) -> Result<Listing> {
        let path = self.in_database(&shard.path());
        self.inspect(&path, report, &mut |entry| payload(entry).is_some_and(|id| id.shard() == shard))?;
        self.list_shard(shard)
    }

    /// Looks at each entry of a directory; one that does not exist has none.
    fn inspect(
        &self,
        dir: &str,
        report: Report<'_>,
        belongs: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<()> {
        let read = self.fs.read_dir(dir, &mut |opened, entry| {
            let ours = belongs(&entry);
            let flaw = match found(self.fs.stat_in(opened, entry.name)) {
                // moved or removed since the directory was read
                Ok(None) => return Ok(()),
                Err(_) => Some(Flaw::Unreadable),
                Ok(Some(_)) if !ours => Some(Flaw::ForeignName),
                Ok(Some(stat)) => (!stat.has(self.config.rights)).then_some(Flaw::WrongRights),
            };
            report(flaw, Path::new(dir).join(entry.name))
        });
        found(read).map_err(self.io("read directory", dir))?.unwrap_or(Ok(()))
    }

    /// The whole inspection: the root, TRASH, and LIVE shard by shard.
    pub(super) fn inspect_all(&self, inspection: &mut dyn Inspection) -> Result<()> {
        let mut walk = Walk { inspection, ended: false };
        walk.dir(|report| self.inspect_root(report))?;
        if !walk.ended {
            walk.ended = walk.inspection.root_done().is_break();
        }
        walk.dir(|report| self.inspect_trash(report))?;
        for era in walk.dir(|report| self.inspect_database(report))? {
            for shard in walk.dir(|report| self.inspect_era(era, report))? {
                let listing = walk.dir(|report| self.inspect_shard(shard, report))?;
                if !walk.ended {
                    walk.ended = walk.inspection.shard(shard, &listing).is_break();
                }
            }
        }
        Ok(())
    }
}

/// An inspection on its way through the store.
struct Walk<'a> {
    inspection: &'a mut dyn Inspection,
    ended: bool,
}

impl Walk<'_> {
    /// Looks at a directory. One that cannot be read is reported, and has nothing in it.
    fn dir<T: Default>(&mut self, inspect: impl FnOnce(Report<'_>) -> Result<T>) -> Result<T> {
        if self.ended {
            return Ok(T::default());
        }
        let (inspection, ended) = (&mut *self.inspection, &mut self.ended);
        let inspected = inspect(&mut |flaw, path| match inspection.entry(flaw, &path) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                *ended = true;
                Err(Error::Unsupported { what: "going on" })
            }
        });
        match inspected {
            Err(_) if self.ended => Ok(T::default()),
            Err(Error::Io { path, .. }) => {
                self.ended = self.inspection.entry(Some(Flaw::Unreadable), &path).is_break();
                Ok(T::default())
            }
            inspected => inspected,
        }
    }
}
