//! What the file backend keeps beside payloads and removes when nothing needs it: empty directories, and files that a
//! crash has left without a name of their own.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use super::fs::{EntryKind, Fs};
use super::layout::{TRASH, era_dir, parse_copy_name, parse_new_owner_name};
use super::paths::found;
use super::store::FileStore;
use crate::error::Result;

impl<F: Fs> FileStore<F> {
    /// Removes what a crash has left of files that had not got their own names: copies in TRASH, and new OWNERs older
    /// than `before`.
    ///
    /// The caller knows that no other process is copying files into this database.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn remove_leftovers(&self, before: SystemTime) -> Result<()> {
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
    /// Only for eras in which no transaction, running or to come, can create a file: the cache of durable
    /// directories relies on it. A concurrent `restore` makes its directory again.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn remove_empty_dirs(&self, era: u64) -> Result<()> {
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
            // POSIX allows EEXIST as well for a directory that is not empty
            Err(e) if matches!(e.kind(), DirectoryNotEmpty | AlreadyExists) => Ok(false),
            Err(e) => Err(self.io("remove directory", dir)(e)),
        }
    }
}
