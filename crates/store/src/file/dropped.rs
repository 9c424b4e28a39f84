//! Databases that were dropped: their directories get another name in the root, and later leave the store (I8).
//! Relies on the caller for when: that a database is gone, and how long its files are kept.

use std::time::{Duration, SystemTime};

use super::fs::{Entry, EntryKind, Fs};
use super::layout::{
    FIRST_DROPPED, TRASH, database_dir, dropped_dir, era_dir, parse_copy_name, parse_dropped_dir,
};
use super::list::{directory, payload};
use super::paths::{ATTEMPTS, found, shown};
use super::store::FileStore;
use crate::backend::{DroppedDatabase, Purged};
use crate::error::{Error, Result};
use crate::payload::Shard;
use crate::record::{Event, Record};

impl DroppedDatabase {
    /// Path below the root.
    fn path(&self) -> String {
        dropped_dir(self.oid, seconds(self.trashed_at))
    }
}

impl<F: Fs> FileStore<F> {
    /// Gives the directory of a database that was dropped the name of a dropped one, durably. False when there was
    /// none.
    ///
    /// The caller knows that the database is gone (I6) and that this cluster owns the store (I9).
    ///
    /// # Errors
    /// `Io`, `Sync`. After the latter the directory has its new name and may have the old one after a crash.
    pub(super) fn trash_database(&self, oid: u32, now: SystemTime) -> Result<bool> {
        use std::io::ErrorKind::{AlreadyExists, NotFound};
        let directory = database_dir(oid);
        let mut trashed_at = seconds(now);
        for _ in 0..ATTEMPTS {
            let stat = found(self.fs.stat(&directory)).map_err(self.io("stat directory", &directory))?;
            // The store gives no other kind of thing this name, and nothing the name of database 0.
            if oid == 0 || stat.is_none_or(|stat| stat.kind != EntryKind::Dir) {
                return Ok(false);
            }
            match self.fs.rename_noreplace(&directory, &dropped_dir(oid, trashed_at)) {
                Ok(()) => {
                    if self.config.fsync {
                        self.fs.sync_dir("").map_err(|e| Error::sync(shown(""), e))?;
                    }
                    self.log_of(oid, Event::Drop { trashed_at });
                    return Ok(true);
                }
                // an earlier database of this OID, trashed by the same clock reading
                Err(e) if e.kind() == AlreadyExists => trashed_at = trashed_at.saturating_add(1),
                Err(e) if e.kind() == NotFound => {}
                Err(e) => return Err(self.io("rename directory", &directory)(e)),
            }
        }
        Err(self.io("rename directory", &directory)(AlreadyExists.into()))
    }

    /// The dropped databases that have not been removed, the oldest first.
    ///
    /// # Errors
    /// `Io`; the listing is void then (I10).
    pub(super) fn dropped_databases(&self) -> Result<Vec<DroppedDatabase>> {
        let mut dropped = Vec::new();
        self.each("", &mut |entry| {
            if let Some((oid, trashed_at)) = directory(&entry).and_then(parse_dropped_dir) {
                let trashed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(trashed_at.into());
                dropped.push(DroppedDatabase { oid, trashed_at });
            }
            Ok(())
        })?;
        dropped.sort_unstable_by_key(|dropped| (dropped.trashed_at, dropped.oid));
        Ok(dropped)
    }

    /// Removes a dropped database: every file that the store gave it, and the directories that are empty then.
    ///
    /// Can be called again after an error, an interrupt or a crash, and by several processes at once, each of which
    /// counts what it removed itself. `interrupts` is called for every entry of a directory and may unwind.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    pub(super) fn purge_database(
        &self,
        dropped: &DroppedDatabase,
        interrupts: &mut dyn FnMut(),
    ) -> Result<Purged> {
        let database = dropped.path();
        let mut purged = Purged::default();
        let trash = format!("{database}/{TRASH}");
        let stat = found(self.fs.stat(&trash)).map_err(self.io("stat directory", &trash))?;
        if stat.is_some_and(|stat| stat.kind == EntryKind::Dir) {
            self.purge_files(&trash, None, &mut purged, interrupts)?;
        }
        for era in self.eras(&database, 0..=u64::MAX)? {
            for shard in self.era_shards(&database, era)? {
                let leaf = format!("{database}/{}", shard.path());
                self.purge_files(&leaf, Some(shard), &mut purged, interrupts)?;
            }
            self.remove_if_empty(&format!("{database}/{}", era_dir(era)))?;
        }
        purged.complete = self.remove_if_empty(&database)?;
        // The directories inside are not synced: a file that a crash brings back is garbage still, and the next call
        // removes it. Only what is reported as complete has to stay so.
        if purged.complete && self.config.fsync {
            self.fs.sync_dir("").map_err(|e| Error::sync(shown(""), e))?;
        }
        self.log_of(dropped.oid, Event::PurgeDropped { trashed_at: seconds(dropped.trashed_at) });
        Ok(purged)
    }

    /// Logs what has happened to a database that is not this one.
    fn log_of(&self, database: u32, event: Event<'_>) {
        if let Some(log) = self.log.get() {
            log.insert(&Record { database, event });
        }
    }

    /// Removes the payloads of a directory, and the directory if nothing is left.
    fn purge_files(
        &self,
        dir: &str,
        shard: Option<Shard>,
        purged: &mut Purged,
        interrupts: &mut dyn FnMut(),
    ) -> Result<()> {
        loop {
            let before = purged.files;
            self.each(dir, &mut |entry| {
                interrupts();
                if let Some(name) = ours(&entry, shard) {
                    let path = format!("{dir}/{name}");
                    // None when another call has removed it meanwhile
                    if let Some(len) = self.file_len(&path)?
                        && found(self.fs.unlink(&path)).map_err(self.io("remove file", &path))?.is_some()
                    {
                        purged.files += 1;
                        purged.bytes += len;
                    }
                }
                Ok(())
            })?;
            // Some file systems skip entries of a directory that shrinks while it is read.
            if self.remove_if_empty(dir)? || purged.files == before {
                return Ok(());
            }
        }
    }
}

/// The name of a file that the store made: a payload in its leaf directory or, where there is no shard, in TRASH,
/// where what is left of a copy lies too.
fn ours<'a>(entry: &Entry<'a>, shard: Option<Shard>) -> Option<&'a str> {
    let name = entry.name.to_str().filter(|_| entry.kind == EntryKind::File)?;
    let ours = match (payload(entry), shard) {
        (Some(id), Some(shard)) => id.shard() == shard,
        (Some(_), None) => true,
        (None, shard) => shard.is_none() && parse_copy_name(name.as_bytes()).is_some(),
    };
    ours.then_some(name)
}

/// Whole seconds since 1970, as late as a name can say and no earlier.
fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX).max(FIRST_DROPPED)
}
