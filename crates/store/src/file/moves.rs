//! Where a payload is trashed and restored: its file is moved from LIVE to TRASH (I6) and back (I7). The unlink of
//! the purge is here, too (I8). Which payloads they are is for the caller to know. Every move is one rename that
//! replaces nothing, so a file always has exactly one name, even if other processes move it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use super::durable::SYNCFS_FROM;
use super::fs::{EntryKind, Fs, Stat};
use super::layout::TRASH;
use super::paths::{ATTEMPTS, found, shown};
use super::store::FileStore;
use super::sync::{Cached, chain};
use crate::backend::{Moves, Restored, Trashed};
use crate::error::{Error, Result};
use crate::payload::{PayloadId, Shard};
use crate::record::{Event, MOST_IDS};

impl<F: Fs> FileStore<F> {
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
    pub(super) fn size(&self, id: &PayloadId) -> Result<Option<u64>> {
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
    /// Safe against other processes that trash or restore the same file meanwhile; such a file may be `WasLive`.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    pub(super) fn restore(&self, id: &PayloadId) -> Result<Restored> {
        let (live, trashed) = (self.live(id), self.trashed(id));
        let leaf = self.in_database(&id.shard().path());
        // a file that another process trashes and restores can be missed in one place after the other, but not for
        // ever
        for _ in 0..ATTEMPTS {
            if self.is_live(id)? {
                return Ok(Restored::WasLive);
            }
            match self.fs.rename_noreplace(&trashed, &live) {
                Ok(()) if self.sync_restored(&leaf)? => {
                    self.insert(Event::Restore { ids: vec![*id] });
                    return Ok(Restored::Restored);
                }
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

    /// False when the directory is gone, and with it the file: the vacuum has trashed it again.
    fn sync_restored(&self, leaf: &str) -> Result<bool> {
        if !self.config.fsync {
            return Ok(true);
        }
        // LIVE first: a file may have two names after a crash, but never none.
        let dirs = [leaf.to_owned()];
        match self.sync_dirs(dirs, Cached::Ignore, &mut || ()) {
            Ok(()) => {}
            Err(Error::Sync { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        }
        self.sync_dirs([self.in_database(TRASH)], Cached::Trust, &mut || ())?;
        Ok(true)
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
}

/// Moves between LIVE and TRASH, and deletions there, that are not durable yet.
pub struct FileMoves<F: Fs> {
    store: FileStore<F>,
    /// Whether TRASH has changed.
    trash: bool,
    /// Leaf directories that lost a file.
    shards: BTreeSet<Shard>,
    /// The leaf directory that the last file came from; files come leaf by leaf.
    from: Option<(Shard, F::Dir)>,
    /// TRASH.
    to: Option<F::Dir>,
    /// What has been done and not been logged.
    done: Done,
    /// When that began.
    since: Instant,
    horizon: u64,
}

/// What has been done for longer is logged: a process that ends without unwinding logs nothing any more.
const LOG_AFTER: Duration = Duration::from_millis(100);

/// What is logged together. Behind the move: a standby that lacks a record has the file a little longer, or in another
/// place, in which it is found as well.
enum Done {
    Nothing,
    Trashed { date: SystemTime, ids: Vec<PayloadId> },
    Purged { ids: Vec<PayloadId> },
}

impl<F: Fs> FileMoves<F> {
    /// No moves.
    pub(super) fn new(store: FileStore<F>) -> Self {
        let (shards, done) = (BTreeSet::new(), Done::Nothing);
        Self { store, trash: false, shards, from: None, to: None, done, since: Instant::now(), horizon: 0 }
    }
}

impl<F: Fs> FileMoves<F> {
    fn log_trashed(&mut self, id: PayloadId, now: SystemTime) {
        match &mut self.done {
            Done::Trashed { date, ids }
                if *date == now && ids.len() < MOST_IDS && self.since.elapsed() < LOG_AFTER =>
            {
                ids.push(id)
            }
            _ => {
                self.log();
                self.since = Instant::now();
                self.done = Done::Trashed { date: now, ids: vec![id] };
            }
        }
    }

    fn log_purged(&mut self, id: PayloadId) {
        match &mut self.done {
            Done::Purged { ids } if ids.len() < MOST_IDS && self.since.elapsed() < LOG_AFTER => ids.push(id),
            _ => {
                self.log();
                self.since = Instant::now();
                self.done = Done::Purged { ids: vec![id] };
            }
        }
    }
}

impl<F: Fs> Moves for FileMoves<F> {
    fn trash(&mut self, id: &PayloadId, now: SystemTime) -> Result<Trashed> {
        let store = &self.store;
        let (live, trashed, name) = (store.live(id), store.trashed(id), id.file_name());
        let Some(from) = store.leaf(id.shard(), &mut self.from)? else { return Ok(Trashed::Gone) };
        let stat = || found(store.fs.stat_in(from, name.as_ref())).map_err(store.io("stat file", &live));
        let Some(Stat { len, mtime, kind, .. }) = stat()? else { return Ok(Trashed::Gone) };
        if kind != EntryKind::File {
            return Err(store.io("stat file", &live)(not_a_file()));
        }
        // Another database may have the same file in its TRASH, and a date there never becomes earlier.
        if mtime < now {
            // Before the rename, so that a file in TRASH never shows an older date than the day it came.
            let date = |time| {
                found(store.fs.set_mtime_in(from, &name, time)).map_err(store.io("set time of file", &live))
            };
            date(now)?;
            if stat()?.is_some_and(|stat| stat.mtime < now) {
                // A file system that knows whole seconds only rounds down: an earlier run could claim the file.
                date(next_second(now))?;
            }
        }
        for _ in 0..ATTEMPTS {
            let to = store.open_trash(&mut self.to)?;
            match store.fs.move_noreplace(&name, from, to) {
                Ok(()) => {}
                // A copy of the store that was made while the file moved has both names. The payload is the same.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    store.replace_trashed(&live, &trashed)?
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if stat()?.is_none() {
                        return Ok(Trashed::Gone);
                    }
                    // TRASH has been removed.
                    self.to = None;
                    continue;
                }
                Err(e) => return Err(store.io("rename file", &live)(e)),
            }
            self.trash = true;
            self.shards.insert(id.shard());
            self.log_trashed(*id, now);
            return Ok(Trashed::Moved { len });
        }
        Err(store.io("rename file", &live)(io::ErrorKind::NotFound.into()))
    }

    fn known_before(&mut self, horizon: u64) {
        self.horizon = horizon;
    }

    fn purge(&mut self, id: &PayloadId) -> Result<Option<u64>> {
        let store = &self.store;
        let path = store.trashed(id);
        let Some(len) = store.file_len(&path)? else {
            return Ok(None);
        };
        let unlinked = found(store.fs.unlink(&path)).map_err(store.io("remove file", &path))?;
        self.trash = true;
        if unlinked.is_some() {
            self.log_purged(*id);
        }
        Ok(unlinked.map(|()| len))
    }

    fn log(&mut self) {
        match std::mem::replace(&mut self.done, Done::Nothing) {
            Done::Nothing => {}
            Done::Trashed { date, ids } => self.store.insert(Event::Trash { date, ids }),
            Done::Purged { ids } => self.store.insert(Event::Purge { horizon: self.horizon, ids }),
        }
    }

    /// TRASH, and each directory that lost a file, once; from some number of directories on by one syncfs.
    fn sync(mut self: Box<Self>) -> Result<()> {
        self.log();
        if !self.store.config.fsync {
            return Ok(());
        }
        if self.shards.len() as u64 >= SYNCFS_FROM
            && let Some(handle) =
                self.store.fs.open_sync_handle().map_err(self.store.io("open directory", ""))?
        {
            self.store.fs.syncfs(&handle).map_err(|e| Error::sync(shown(""), e))?;
            self.store.durable().learn(chain(&self.store.in_database(TRASH)));
            return Ok(());
        }
        // TRASH first: a file may have two names after a crash, but never none.
        let trash = self.trash.then(|| self.store.in_database(TRASH));
        self.store.sync_dirs(trash, Cached::Trust, &mut || ())?;
        for shard in &self.shards {
            let leaf = self.store.in_database(&shard.path());
            match self.store.fs.sync_dir(&leaf) {
                Ok(()) => {}
                // emptied and removed meanwhile
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::sync(shown(&leaf), e)),
            }
        }
        Ok(())
    }
}

impl<F: Fs> fmt::Debug for FileMoves<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileMoves").field("shards", &self.shards.len()).finish_non_exhaustive()
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
