//! Moving files between LIVE and TRASH, and the only delete (I6, I7, I8).
//! Every move is one rename that replaces nothing, so a file always has exactly one name, whoever else moves it.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use super::error::{Error, Result};
use super::fs::{EntryKind, Fs, Stat};
use super::layout::{PayloadId, Shard, TRASH, era_dir, parse_copy_name, parse_new_owner_name};
use super::sync::{Known, Moves};
use super::{ATTEMPTS, Store, found};

/// Where `restore` found the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// Already LIVE.
    WasLive,
    /// In TRASH; it is LIVE now, and durably so.
    Restored,
    /// Neither LIVE nor in TRASH.
    Missing,
}

/// What `trash` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trashed {
    /// Moved to TRASH.
    Moved {
        /// Bytes of the file.
        len: u64,
    },
    /// The file was not LIVE any more.
    Gone,
}

impl<F: Fs> Store<F> {
    /// Whether the payload's file is LIVE at this moment.
    ///
    /// # Errors
    /// `Io`.
    pub fn is_live(&self, id: &PayloadId) -> Result<bool> {
        Ok(self.size(id)?.is_some())
    }

    /// Bytes of the payload's file in LIVE; `None` when it is not there.
    ///
    /// # Errors
    /// `Io`, also when something other than a file has its name.
    pub fn size(&self, id: &PayloadId) -> Result<Option<u64>> {
        self.file_len(&self.live(id))
    }

    pub(super) fn file_len(&self, path: &str) -> Result<Option<u64>> {
        match found(self.fs.stat(path)).map_err(self.io("stat file", path))? {
            None => Ok(None),
            Some(stat) if stat.kind == EntryKind::File => Ok(Some(stat.len)),
            Some(_) => Err(self.io("stat file", path)(not_a_file())),
        }
    }

    /// Brings a file back from TRASH if it is there; the move is durable on return (I7).
    ///
    /// Safe against others that trash or restore the same file meanwhile; such a file may be `WasLive`.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    pub fn restore(&self, id: &PayloadId) -> Result<Restored> {
        let (live, trashed) = (self.live(id), self.trashed(id));
        let leaf = self.in_database(&id.shard().path());
        // a file that is moved to and fro can be missed in one place after the other, but not for ever
        for _ in 0..ATTEMPTS {
            if self.is_live(id)? {
                return Ok(Restored::WasLive);
            }
            match self.fs.rename_noreplace(&trashed, &live) {
                Ok(()) if self.sync_restored(&leaf)? => return Ok(Restored::Restored),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Restored::WasLive),
                // Either name's directory, or the file in TRASH, is missing.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if self.file_len(&trashed)?.is_some() {
                        self.make_dirs(&leaf)?;
                    } else if !self.is_live(id)? {
                        return Ok(Restored::Missing);
                    }
                }
                Err(e) => return Err(self.io("rename file", &trashed)(e)),
            }
        }
        Err(self.io("rename file", &trashed)(io::Error::other("it is being moved again and again")))
    }

    /// False when the directory is gone, and with it the file: somebody trashed it again.
    fn sync_restored(&self, leaf: &str) -> Result<bool> {
        if !self.config.fsync {
            return Ok(true);
        }
        // LIVE first: a file may have two names after a crash, but never none.
        let dirs = [leaf.to_owned()];
        match self.sync_dirs(dirs, Known::Ignore, &mut || ()) {
            Ok(()) => {}
            Err(Error::Sync { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        }
        self.sync_dirs([self.in_database(TRASH)], Known::Trust, &mut || ())?;
        Ok(true)
    }

    /// Moves a file from LIVE to TRASH and dates it `now`, or later if it has a later date. Durable after [`sync_moves`](Self::sync_moves).
    ///
    /// Only garbage may be trashed (I6), and only by the owner (I9): both are for the caller to know.
    ///
    /// # Errors
    /// `Io`, also when something other than a file has the name in TRASH.
    pub fn trash(&self, id: &PayloadId, now: SystemTime, moves: &mut Moves<F>) -> Result<Trashed> {
        let (live, trashed, name) = (self.live(id), self.trashed(id), id.file_name());
        let Some(from) = self.leaf(id.shard(), &mut moves.from)? else { return Ok(Trashed::Gone) };
        let stat = || found(self.fs.stat_in(from, name.as_ref())).map_err(self.io("stat file", &live));
        let Some(Stat { len, mtime, kind, .. }) = stat()? else { return Ok(Trashed::Gone) };
        if kind != EntryKind::File {
            return Err(self.io("stat file", &live)(not_a_file()));
        }
        // Another database may have the same file in its TRASH, and a date there never becomes earlier.
        if mtime < now {
            // Before the rename, so that a file in TRASH never shows an older date than the day it came.
            let date = |time| {
                found(self.fs.set_mtime_in(from, &name, time)).map_err(self.io("set time of file", &live))
            };
            date(now)?;
            if stat()?.is_some_and(|stat| stat.mtime < now) {
                // A file system that knows whole seconds only rounds down: an earlier run could claim the file.
                date(next_second(now))?;
            }
        }
        for _ in 0..ATTEMPTS {
            let to = self.open_trash(&mut moves.to)?;
            match self.fs.move_noreplace(&name, from, to) {
                Ok(()) => {}
                // A copy of the store that was made while the file moved has both names. The payload is the same.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    self.replace_trashed(&live, &trashed)?
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if stat()?.is_none() {
                        return Ok(Trashed::Gone);
                    }
                    // TRASH has been removed.
                    moves.to = None;
                    continue;
                }
                Err(e) => return Err(self.io("rename file", &live)(e)),
            }
            moves.trash = true;
            moves.shards.insert(id.shard());
            return Ok(Trashed::Moved { len });
        }
        Err(self.io("rename file", &live)(io::ErrorKind::NotFound.into()))
    }

    /// The leaf directory, if there is one.
    fn leaf<'a>(&self, shard: Shard, open: &'a mut Option<(Shard, F::Dir)>) -> Result<Option<&'a F::Dir>> {
        if open.as_ref().is_none_or(|(other, _)| *other != shard) {
            let path = self.in_database(&shard.path());
            let dir = found(self.fs.open_dir(&path)).map_err(self.io("open directory", &path))?;
            *open = dir.map(|dir| (shard, dir));
        }
        Ok(open.as_ref().map(|(_, dir)| dir))
    }

    /// TRASH, made if need be.
    fn open_trash<'a>(&self, open: &'a mut Option<F::Dir>) -> Result<&'a F::Dir> {
        let dir = match open.take() {
            Some(dir) => dir,
            None => {
                let path = self.in_database(TRASH);
                let io = |e| self.io("open directory", &path)(e);
                match found(self.fs.open_dir(&path)).map_err(io)? {
                    Some(dir) => dir,
                    None => {
                        self.make_dirs(&path)?;
                        self.fs.open_dir(&path).map_err(io)?
                    }
                }
            }
        };
        Ok(open.insert(dir))
    }

    /// Moves a file over the one of the same name in TRASH. What has the name there must be a file.
    fn replace_trashed(&self, live: &str, trashed: &str) -> Result<()> {
        self.file_len(trashed)?;
        found(self.fs.rename_replace(live, trashed)).map_err(self.io("rename file", live))?;
        // Of two names of one file, rename() keeps both.
        if self.file_len(live)?.is_some() && self.file_len(trashed)?.is_some() {
            found(self.fs.unlink(live)).map_err(self.io("remove file", live))?;
        }
        Ok(())
    }

    /// Deletes a file in TRASH: the only unlink of a payload (I8). Returns its bytes, `None` when it was gone.
    ///
    /// # Errors
    /// `Io`, also when something other than a file has its name.
    pub fn purge(&self, id: &PayloadId, moves: &mut Moves<F>) -> Result<Option<u64>> {
        let path = self.trashed(id);
        let Some(len) = self.file_len(&path)? else {
            return Ok(None);
        };
        let unlinked = found(self.fs.unlink(&path)).map_err(self.io("remove file", &path))?;
        moves.trash = true;
        Ok(unlinked.map(|()| len))
    }

    /// Removes what a crash has left of files that had not got their own names: copies in TRASH, and new OWNERs older than `before`.
    ///
    /// Nobody may be copying files into this database: that is for the caller to know.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove_leftovers(&self, before: SystemTime) -> Result<()> {
        let trash = self.in_database(TRASH);
        for name in self.names(&trash, |name| parse_copy_name(name).is_some())? {
            self.remove(&format!("{trash}/{name}"))?;
        }
        for name in self.names("", |name| parse_new_owner_name(name).is_some())? {
            let stat = found(self.fs.stat(&name)).map_err(self.io("stat file", &name))?;
            if stat.is_some_and(|stat| stat.mtime < before) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The files in a directory that have such a name.
    fn names(&self, dir: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.each(dir, &mut |entry| {
            if entry.kind == EntryKind::File && wanted(entry.name.as_bytes()) {
                names.extend(entry.name.to_str().map(str::to_owned));
            }
            Ok(())
        })?;
        Ok(names)
    }

    fn remove(&self, path: &str) -> Result<()> {
        found(self.fs.unlink(path)).map_err(self.io("remove file", path)).map(drop)
    }

    /// Removes the empty leaf directories of an era, and then the era's own if it is empty.
    ///
    /// Only for eras in which no transaction, running or to come, can create a file: what the store remembers
    /// as durable rests on it. A concurrent `restore` makes its directory again.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove_empty_dirs(&self, era: u64) -> Result<()> {
        for shard in self.era_shards(&self.database, era)? {
            self.remove_if_empty(&self.in_database(&shard.path()))?;
        }
        self.remove_if_empty(&self.in_database(&era_dir(era)))?;
        Ok(())
    }

    /// Whether the directory is gone.
    pub(super) fn remove_if_empty(&self, dir: &str) -> Result<bool> {
        use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotFound};
        match self.fs.rmdir(dir) {
            Ok(()) => {
                self.durable().forget(dir);
                Ok(true)
            }
            Err(e) if e.kind() == NotFound => Ok(true),
            // POSIX lets rmdir say EEXIST for a directory that is not empty
            Err(e) if matches!(e.kind(), DirectoryNotEmpty | AlreadyExists) => Ok(false),
            Err(e) => Err(self.io("remove directory", dir)(e)),
        }
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// The first whole second after `time`.
fn next_second(time: SystemTime) -> SystemTime {
    let nanoseconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    time + Duration::from_nanos(1_000_000_000 - u64::from(nanoseconds))
}
