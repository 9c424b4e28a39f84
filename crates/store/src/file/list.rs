//! Listing a store directory by directory. Any error is an error of the whole listing (I10); a directory that
//! does not exist has nothing in it; names that the store did not give are counted and never touched.

use std::io;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::vec;

use super::fs::{Entry, EntryKind, Fs};
use super::layout::{TRASH, era_dir, parse_byte_dir, parse_era_dir};
use super::paths::found;
use super::store::FileStore;
use crate::backend::{Listing, TrashEntry};
use crate::error::Result;
use crate::payload::{PayloadId, Shard};

impl<F: Fs> FileStore<F> {
    /// The leaf directories of all eras that overlap `births`, ascending. The first and the last era may hold
    /// births outside the range. One era's directories are in memory at a time.
    ///
    /// # Errors
    /// `Io`, from here or from the iterator, which ends with its first error: the listing is void then (I10).
    pub fn shards(&self, births: RangeInclusive<u64>) -> Result<Shards<'_, F>> {
        let eras = if births.is_empty() {
            Vec::new()
        } else {
            self.eras(&self.database, births.start() >> 16..=births.end() >> 16)?
        };
        Ok(Shards { store: self, eras: eras.into_iter(), leaves: Vec::new().into_iter() })
    }

    /// The eras in `range` that have a directory in that of a database, ascending.
    pub(super) fn eras(&self, database: &str, range: RangeInclusive<u64>) -> Result<Vec<u64>> {
        let mut eras = Vec::new();
        self.each(database, &mut |entry| {
            eras.extend(directory(&entry).and_then(parse_era_dir).filter(|era| range.contains(era)));
            Ok(())
        })?;
        eras.sort_unstable();
        Ok(eras)
    }

    /// The leaf directories of one era of a database, ascending.
    pub(super) fn era_shards(&self, database: &str, era: u64) -> Result<Vec<Shard>> {
        let mut shards = Vec::new();
        self.each(&format!("{database}/{}", era_dir(era)), &mut |entry| {
            shards.extend(directory(&entry).and_then(parse_byte_dir).map(|byte| Shard { era, byte }));
            Ok(())
        })?;
        shards.sort_unstable();
        Ok(shards)
    }

    /// The payloads in one leaf directory.
    ///
    /// # Errors
    /// `Io`; the listing is void then (I10).
    pub(super) fn list_shard(&self, shard: Shard) -> Result<Listing> {
        self.list_leaf(&self.database, shard)
    }

    pub(super) fn list_leaf(&self, database: &str, shard: Shard) -> Result<Listing> {
        let mut listing = Listing::default();
        self.each(&format!("{database}/{}", shard.path()), &mut |entry| {
            match payload(&entry).filter(|id| id.shard() == shard) {
                Some(id) => {
                    // A directory may be long, and a failed allocation would end the process.
                    let room = listing.payloads.try_reserve(1);
                    room.map_err(|_| {
                        self.io("read directory", &shard.path())(io::ErrorKind::OutOfMemory.into())
                    })?;
                    listing.payloads.push(id);
                }
                None => listing.foreign += 1,
            }
            Ok(())
        })?;
        // As one number, which compares faster than sixteen bytes and in the same order.
        listing.payloads.sort_unstable_by_key(|id| (id.uuid.as_u128(), id.birth));
        listing.payloads.shrink_to_fit();
        Ok(listing)
    }

    /// Visits every file in TRASH, in no particular order, one at a time. Returns the number of foreign entries.
    ///
    /// # Errors
    /// `Io`, or what `visit` returns; the listing ends there and is void (I10).
    pub(super) fn list_trash(
        &self,
        visit: &mut dyn FnMut(PayloadId, TrashEntry) -> Result<()>,
    ) -> Result<u64> {
        let dir = self.in_database(TRASH);
        let error = |e: io::Error| self.io("read directory", &dir)(e);
        let mut foreign = 0;
        let read = self.fs.read_dir(&dir, &mut |dir, entry| {
            let Some(id) = payload(&entry) else {
                foreign += 1;
                return Ok(());
            };
            let stat = found(self.fs.stat_in(dir, entry.name));
            match stat.map_err(|e| self.io("stat file", &self.trashed(&id))(e))? {
                Some(stat) if stat.kind == EntryKind::File => {
                    visit(id, TrashEntry { len: stat.len, trashed_at: stat.mtime })
                }
                Some(_) => {
                    foreign += 1;
                    Ok(())
                }
                // restored since the directory was read
                None => Ok(()),
            }
        });
        found(read).map_err(error)?.unwrap_or(Ok(()))?;
        Ok(foreign)
    }

    /// The number of files in TRASH, without a look at any of them.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn count_trash(&self) -> Result<u64> {
        let mut files = 0;
        self.each(&self.in_database(TRASH), &mut |entry| {
            files += u64::from(payload(&entry).is_some());
            Ok(())
        })?;
        Ok(files)
    }

    /// Visits the entries of a directory; one that does not exist has none.
    pub(super) fn each(&self, dir: &str, visit: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        let read = self.fs.read_dir(dir, &mut |_, entry| visit(entry));
        found(read).map_err(self.io("read directory", dir))?.unwrap_or(Ok(()))
    }
}

/// The name of a directory.
pub(super) fn directory<'a>(entry: &Entry<'a>) -> Option<&'a str> {
    if entry.kind == EntryKind::Dir { entry.name.to_str() } else { None }
}

/// The payload whose file it is.
pub(super) fn payload(entry: &Entry<'_>) -> Option<PayloadId> {
    if entry.kind != EntryKind::File {
        return None;
    }
    PayloadId::parse_file_name(entry.name.as_bytes())
}

/// Leaf directories in ascending order; see [`FileStore::shards`].
pub struct Shards<'a, F: Fs> {
    store: &'a FileStore<F>,
    eras: vec::IntoIter<u64>,
    leaves: vec::IntoIter<Shard>,
}

impl<F: Fs> Iterator for Shards<'_, F> {
    type Item = Result<Shard>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(shard) = self.leaves.next() {
                return Some(Ok(shard));
            }
            match self.store.era_shards(&self.store.database, self.eras.next()?) {
                Ok(shards) => self.leaves = shards.into_iter(),
                Err(e) => {
                    self.eras = Vec::new().into_iter();
                    return Some(Err(e));
                }
            }
        }
    }
}

impl<F: Fs> std::fmt::Debug for Shards<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards").finish_non_exhaustive()
    }
}
