//! Doing once more what the log says, on a server that recovers or on a standby. Whatever is there already stays or is
//! made what it was: a record can be replayed any number of times, on a store that is older than the record or newer. Links are
//! not followed.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, SystemTime};

use super::fs::{Fs, FsFile};
use super::layout::{TRASH, database_dir, dropped_dir, era_dir};
use super::moves::FileMoves;
use super::paths::{ATTEMPTS, found, shown};
use super::store::FileStore;
use super::sync::Cached;
use crate::backend::{DroppedDatabase, Moves, Trashed};
use crate::error::{Error, Result};
use crate::payload::{PayloadId, Shard};
use crate::record::Event;

/// When what has been replayed is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// With the next [`sync_all`](FileStore::sync_all).
    Later,
    /// At once: no syncfs can be trusted here.
    AtOnce,
}

/// A payload's file, open for writing.
struct ToReplay<F: Fs> {
    file: F::File,
    /// Below the root.
    path: String,
    /// What it is to keep.
    date: Option<SystemTime>,
}

/// Whether a file that can be read has these bytes.
fn has(file: &impl FsFile, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut buf = [0; 16 * 1024];
    let mut at = offset;
    for part in bytes.chunks(buf.len()) {
        let mut rest = part;
        while !rest.is_empty() {
            let read = file.read_at(at, buf.get_mut(..rest.len()).unwrap_or_default())?;
            if read == 0 || buf.get(..read) != rest.get(..read) {
                return Ok(false);
            }
            rest = rest.get(read..).unwrap_or_default();
            at += read as u64;
        }
    }
    Ok(true)
}

impl<F: Fs> FileStore<F> {
    /// Replays what has happened in this database.
    ///
    /// # Errors
    /// `Io`, `Sync`: the store does not have what the record says.
    pub fn replay(&self, event: &Event<'_>, durable: Durable) -> Result<()> {
        match event {
            Event::Put { id, offset, bytes, last } => {
                let end = last.then(|| offset + bytes.len() as u64);
                self.replay_put(id, *offset, bytes, end, durable)
            }
            Event::Trash { date, ids } => self.replay_trash(*date, ids),
            Event::Restore { ids } => ids.iter().try_for_each(|id| self.restore(id).map(drop)),
            Event::Purge { ids, .. } => ids.iter().try_for_each(|id| self.replay_purge(id)),
            Event::Clone { source, ids } => self.clone_listed(*source, ids, durable == Durable::AtOnce),
            Event::Drop { trashed_at } => self.replay_drop(*trashed_at),
            Event::PurgeDropped { trashed_at } => {
                let trashed_at = SystemTime::UNIX_EPOCH + Duration::from_secs((*trashed_at).into());
                let dropped = DroppedDatabase { oid: self.config.database, trashed_at };
                self.purge_database(&dropped, &mut || ()).map(drop)
            }
            Event::Abandon { id } => self.replay_abandon(id),
        }
    }

    /// Writes a piece of a payload, and cuts its file to `end` if that is its end.
    fn replay_put(
        &self,
        id: &PayloadId,
        offset: u64,
        bytes: &[u8],
        end: Option<u64>,
        durable: Durable,
    ) -> Result<()> {
        let Some(ToReplay { file, path, date }) = self.open_to_replay(id, offset)? else { return Ok(()) };
        // Written even if it is there: after a sync that failed, the page cache has what the disk does not, and takes it for clean.
        file.write_all_at(offset, bytes).map_err(self.io("write file", &path))?;
        if let Some(end) = end
            && file.len().map_err(self.io("stat file", &path))? != end
        {
            file.set_len(end).map_err(self.io("truncate file", &path))?;
        }
        if let Some(date) = date {
            file.set_mtime(date).map_err(self.io("set time of file", &path))?;
        }
        if durable == Durable::AtOnce && self.config.fsync {
            file.sync_data().map_err(|e| Error::sync(shown(&path), e))?;
            self.sync_dirs([super::paths::parent(&path).to_owned()], Cached::Trust, &mut || ())?;
        }
        Ok(())
    }

    /// Empties the file of a payload that was given up, if there is one; it stays garbage, as on the server that has logged it.
    fn replay_abandon(&self, id: &PayloadId) -> Result<()> {
        for path in [self.live(id), self.trashed(id)] {
            if let Some(file) = found(self.fs.open_for_writing(&path)).map_err(self.io("open file", &path))? {
                let about = file.stat().map_err(self.io("stat file", &path))?;
                if about.len > 0 {
                    file.set_len(0).map_err(self.io("truncate file", &path))?;
                    // In TRASH it goes by its date.
                    file.set_mtime(about.mtime).map_err(self.io("set time of file", &path))?;
                }
            }
        }
        Ok(())
    }

    /// The file of a payload, LIVE or in TRASH, where it is to keep its date; made in LIVE if it is in neither. `None` if it has less than
    /// `offset` bytes: what comes before is not in this log, so that there is nothing to complete.
    fn open_to_replay(&self, id: &PayloadId, offset: u64) -> Result<Option<ToReplay<F>>> {
        let (live, trashed) = (self.live(id), self.trashed(id));
        let open = |path: &str| found(self.fs.open_for_writing(path)).map_err(self.io("open file", path));
        let stat = |file: &F::File, path: &str| file.stat().map_err(self.io("stat file", path));
        for _ in 0..ATTEMPTS {
            if let Some(file) = open(&live)? {
                let is_there = offset == 0 || stat(&file, &live)?.len >= offset;
                return Ok(is_there.then_some(ToReplay { file, path: live, date: None }));
            }
            if let Some(file) = open(&trashed)? {
                let about = stat(&file, &trashed)?;
                let date = Some(about.mtime);
                return Ok((about.len >= offset).then_some(ToReplay { file, path: trashed, date }));
            }
            if offset > 0 {
                return Ok(None);
            }
            match found(self.fs.create_new(&live)) {
                Ok(Some(file)) => return Ok(Some(ToReplay { file, path: live, date: None })),
                Ok(None) => self.make_dirs(&self.in_database(&id.shard().path()))?,
                // Another server that uses the store may have brought it back from TRASH.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.io("create file", &live)(error)),
            }
        }
        Err(self.io("create file", &live)(io::ErrorKind::NotFound.into()))
    }

    fn replay_trash(&self, date: SystemTime, ids: &[PayloadId]) -> Result<()> {
        let mut moves = FileMoves::new(self.clone());
        let mut emptied: BTreeSet<Shard> = BTreeSet::new();
        for id in ids {
            if let Trashed::Moved { .. } = moves.trash(id, date)? {
                emptied.insert(id.shard());
            }
        }
        drop(moves);
        // A directory that lost a file may be synced at any time for another one's sake: the new name must not be behind.
        if !emptied.is_empty() && self.config.fsync {
            self.sync_dirs([self.in_database(TRASH)], Cached::Trust, &mut || ())?;
        }
        let mut eras = BTreeSet::new();
        for shard in emptied {
            if self.remove_if_empty(&self.in_database(&shard.path()))? {
                eras.insert(shard.era);
            }
        }
        for era in eras {
            self.remove_if_empty(&self.in_database(&era_dir(era)))?;
        }
        Ok(())
    }

    /// In TRASH alone: the database may have been given the payload again since.
    fn replay_purge(&self, id: &PayloadId) -> Result<()> {
        let path = self.trashed(id);
        if self.file_len(&path)?.is_some() {
            found(self.fs.unlink(&path)).map_err(self.io("remove file", &path))?;
        }
        Ok(())
    }

    /// Gives back the room of a payload that a full disk has no room for, and which may be deleted later on: cuts its file to `first`,
    /// where the pieces begin that can be replayed again. Not if it has these bytes: a file system that never writes in place has no
    /// room then for writing them once more.
    ///
    /// # Errors
    /// `Io`.
    pub fn cut_replayed(&self, id: &PayloadId, first: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some(ToReplay { file, path, .. }) = self.open_to_replay(id, first)? else { return Ok(()) };
        if has(&file, offset, bytes).map_err(self.io("read file", &path))? {
            return Ok(());
        }
        if file.len().map_err(self.io("stat file", &path))? > first {
            file.set_len(first).map_err(self.io("truncate file", &path))?;
        }
        Ok(())
    }

    /// If a directory has the name already, this has been done; what has the database's name now is another one's.
    fn replay_drop(&self, trashed_at: u32) -> Result<()> {
        let (from, to) = (database_dir(self.config.database), dropped_dir(self.config.database, trashed_at));
        match self.fs.rename_noreplace(&from, &to) {
            Ok(()) => self.durable().clear(),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
            Err(e) => return Err(self.io("rename directory", &from)(e)),
        }
        Ok(())
    }

    /// What [`sync_all`](Self::sync_all) works through, opened before what it is to make durable is written; `None` where a syncfs
    /// cannot be trusted, or nothing is synced at all.
    ///
    /// # Errors
    /// `Io`.
    pub fn open_sync(&self) -> Result<Option<F::SyncHandle>> {
        if !self.config.fsync {
            return Ok(None);
        }
        self.fs.open_sync_handle().map_err(self.io("open directory", ""))
    }

    /// Makes everything durable that is in the file system of the store.
    ///
    /// # Errors
    /// `Sync`.
    pub fn sync_all(&self, handle: &F::SyncHandle) -> Result<()> {
        self.fs.syncfs(handle).map_err(|e| Error::sync(shown(""), e))
    }
}
