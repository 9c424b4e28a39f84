//! Looking for what is wrong in a store: names and kinds that it did not give, rights that it did not give, and where
//! the file of a payload is. Moves nothing and opens no payload; constant memory but for one leaf directory.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::Result;
use super::fs::{Entry, EntryKind, Fs, Stat};
use super::layout::{
    OWNER, PayloadId, Shard, TRASH, era_dir, parse_byte_dir, parse_copy_name, parse_database_dir,
    parse_dropped_dir, parse_era_dir, parse_new_owner_name,
};
use super::list::{Listing, directory, payload};
use super::{Store, found, shown};

/// What is wrong with an entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The store gives nothing of this kind this name here, and never touches it.
    ForeignName,
    /// Not the mode or not the owner that the store gives.
    WrongRights,
    /// It cannot even be looked at.
    Unreadable,
}

/// Takes each entry: what is wrong with it, if anything, and its path below the root.
pub type Inspector<'a> = &'a mut dyn FnMut(Option<Flaw>, PathBuf) -> Result<()>;

/// Where the file of a payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Below the root.
    pub path: PathBuf,
    /// In TRASH rather than LIVE.
    pub in_trash: bool,
    /// What is there: not always a file.
    pub stat: Stat,
}

impl<F: Fs> Store<F> {
    /// Looks for a payload's file as [`open_payload`](Self::open_payload) does (I7).
    ///
    /// # Errors
    /// `Io`.
    pub fn locate(&self, id: &PayloadId) -> Result<Option<Located>> {
        for in_trash in [false, true, false] {
            let path = if in_trash { self.trashed(id) } else { self.live(id) };
            if let Some(stat) = found(self.fs.stat(&path)).map_err(self.io("stat file", &path))? {
                return Ok(Some(Located { path: shown(&path), in_trash, stat }));
            }
        }
        Ok(None)
    }

    /// Looks at the root and at what is in it. Others may be able to read the root itself, but must not be able to write.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_root(&self, report: Inspector<'_>) -> Result<()> {
        let root = self.fs.stat("").map_err(self.io("stat directory", ""))?;
        if !root.owned || root.mode & 0o022 != 0 {
            report(Some(Flaw::WrongRights), shown(""))?;
        }
        let is_database =
            |name: &str| parse_database_dir(name).is_some() || parse_dropped_dir(name).is_some();
        // The file system's own, where the root is a mount point.
        let report: Inspector<'_> =
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
    pub fn inspect_database(&self, report: Inspector<'_>) -> Result<Vec<u64>> {
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
    pub fn inspect_trash(&self, report: Inspector<'_>) -> Result<()> {
        self.inspect(&self.in_database(TRASH), report, &mut |entry| {
            payload(entry).is_some()
                || entry.kind == EntryKind::File && parse_copy_name(entry.name.as_bytes()).is_some()
        })
    }

    /// Looks at the directory of an era; returns its leaf directories, ascending.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_era(&self, era: u64, report: Inspector<'_>) -> Result<Vec<Shard>> {
        let mut shards = Vec::new();
        self.inspect(&self.in_database(&era_dir(era)), report, &mut |entry| {
            let byte = directory(entry).and_then(parse_byte_dir);
            shards.extend(byte.map(|byte| Shard { era, byte }));
            byte.is_some()
        })?;
        shards.sort_unstable();
        Ok(shards)
    }

    /// Looks at every file of a leaf directory; returns the payloads in it, as [`list_shard`](Self::list_shard) does.
    ///
    /// # Errors
    /// `Io`, or what `report` returns.
    pub fn inspect_shard(&self, shard: Shard, report: Inspector<'_>) -> Result<Listing> {
        let path = self.in_database(&shard.path());
        self.inspect(&path, report, &mut |entry| payload(entry).is_some_and(|id| id.shard() == shard))?;
        self.list_shard(shard)
    }

    /// Looks at each entry of a directory; one that does not exist has none.
    fn inspect(
        &self,
        dir: &str,
        report: Inspector<'_>,
        belongs: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<()> {
        let read = self.fs.read_dir(dir, &mut |opened, entry| {
            let ours = belongs(&entry);
            let flaw = match found(self.fs.stat_in(opened, entry.name)) {
                // moved or removed since the directory was read
                Ok(None) => return Ok(()),
                Err(_) => Some(Flaw::Unreadable),
                Ok(Some(_)) if !ours => Some(Flaw::ForeignName),
                Ok(Some(stat)) => (!stat.is_private()).then_some(Flaw::WrongRights),
            };
            report(flaw, Path::new(dir).join(entry.name))
        });
        found(read).map_err(self.io("read directory", dir))?.unwrap_or(Ok(()))
    }
}
