//! The store of one database below one root: its configuration, its caches, its paths, and the directories that it makes.

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use super::durable::{DurableDirs, Origin, SyncfsHandle, lock};
use super::fs::{Fs, Rights, Stat};
use super::layout::{TRASH, database_dir};
use super::os::OsFs;
use super::paths::{parent, shown};
use super::registry::RootRegistry;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::owner::OwnerId;
use crate::payload::PayloadId;
use crate::record::{Event, Record};

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The root directory; relative paths start at the working directory.
    pub root: PathBuf,
    /// Make the last component of `root` if it is missing.
    pub create_root: bool,
    /// OID of the database whose payloads these are.
    pub database: u32,
    /// Whether to fsync at all (PostgreSQL's `fsync`). Off means that a crash may lose payloads.
    pub fsync: bool,
    /// What is made gets these, and the root if it is made.
    pub rights: Rights,
    /// This cluster.
    pub owner: OwnerId,
    /// Where this cluster remembers that it has written to this root; `None` if it need not.
    pub registry: Option<RootRegistry>,
}

/// One database's part of one store, in files. Clones share their caches.
pub struct FileStore<F: Fs = OsFs> {
    inner: Arc<Inner<F>>,
}

/// What the clones of a store share.
#[doc(hidden)]
pub struct Inner<F: Fs> {
    pub(super) fs: F,
    pub(super) config: Config,
    /// Directory of the database, relative to the root.
    pub(super) database: String,
    pub(super) durable: Mutex<DurableDirs>,
    /// The running transaction's, as long as one of its files needs it.
    pub(super) syncfs: Mutex<Weak<SyncfsHandle<F>>>,
    pub(super) owner_checked: AtomicBool,
    /// The file OWNER as it was read last.
    pub(super) owner_seen: Mutex<Option<(Stat, OwnerId)>>,
    /// Whether `config.registry` has this root.
    pub(super) registered: AtomicBool,
    /// Uploads so far.
    pub(super) begun: AtomicU64,
    /// Where it is logged what is done here, if anywhere.
    pub(super) log: OnceLock<Arc<dyn Log>>,
}

impl<F: Fs> Deref for FileStore<F> {
    type Target = Inner<F>;

    fn deref(&self) -> &Inner<F> {
        &self.inner
    }
}

impl<F: Fs> Clone for FileStore<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl FileStore {
    /// Opens the root and checks that it is a directory which the effective user owns.
    ///
    /// # Errors
    /// `RootMissing`, `RootNotADirectory`, `RootNotOwned`, or `Io`.
    pub fn open(config: Config) -> Result<Self> {
        Ok(Self::with_fs(OsFs::open(&config.root, config.create_root, config.rights)?, config))
    }
}

/// A closed store whose root stays open: opening it again takes one look at the path.
#[derive(Debug)]
pub struct Closed {
    fs: Option<OsFs>,
    cache: DirSyncCache,
}

impl Closed {
    /// Closes the root as well.
    pub fn close_root(&mut self) {
        self.fs = None;
    }
}

impl FileStore {
    /// Opens it again, with what is remembered if it is the same store.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_again(config: Config, closed: Closed) -> Result<Self> {
        let Closed { fs, cache } = closed;
        let fs = match fs {
            Some(fs) => fs.open_again(&config.root, config.create_root, config.rights)?,
            None => OsFs::open(&config.root, config.create_root, config.rights)?,
        };
        Ok(Self::with_fs(fs, config).with_cache(cache))
    }

    /// Closes it, and keeps its root open if nobody else has it, such as an upload that was not finished.
    pub fn close(self) -> Closed {
        let cache = self.take_cache();
        Closed { fs: Arc::into_inner(self.inner).map(|inner| inner.fs), cache }
    }
}

/// Which directories of a closed store are durable, so that they need no fsync when this process opens it again, and whose it is.
#[derive(Debug, Default)]
pub struct DirSyncCache {
    origin: Option<Origin>,
    durable: DurableDirs,
    registered: bool,
    owner_seen: Option<(Stat, OwnerId)>,
}

impl<F: Fs> FileStore<F> {
    /// A store in any file system; `fs` is rooted in `config.root`.
    pub fn with_fs(fs: F, config: Config) -> Self {
        let database = database_dir(config.database);
        let inner = Inner {
            fs,
            config,
            database,
            durable: Mutex::default(),
            syncfs: Mutex::default(),
            owner_checked: AtomicBool::new(false),
            owner_seen: Mutex::default(),
            registered: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            log: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// With a log, which stays as it is.
    #[must_use]
    pub fn with_log(self, log: Arc<dyn Log>) -> Self {
        self.inner.log.get_or_init(|| log);
        self
    }

    /// Logs what has happened in this database.
    pub(super) fn insert(&self, event: Event<'_>) {
        if let Some(log) = self.log.get() {
            log.insert(&Record { database: self.config.database, event });
        }
    }

    /// Takes over the cache of an earlier handle of the same store. The cache of another store is dropped.
    #[must_use]
    pub fn with_cache(self, cache: DirSyncCache) -> Self {
        if cache.origin == Some(self.origin()) {
            *self.durable() = cache.durable;
            self.registered.store(cache.registered, Ordering::Relaxed);
            *lock(&self.owner_seen) = cache.owner_seen;
        }
        self
    }

    /// Closes the store and keeps its cache.
    pub fn into_cache(self) -> DirSyncCache {
        self.take_cache()
    }

    fn take_cache(&self) -> DirSyncCache {
        let durable = std::mem::take(&mut *self.durable());
        let registered = self.registered.load(Ordering::Relaxed);
        let owner_seen = *lock(&self.owner_seen);
        DirSyncCache { origin: Some(self.origin()), durable, registered, owner_seen }
    }

    /// What the store was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file system beneath.
    pub fn fs(&self) -> &F {
        &self.fs
    }

    /// Path of a payload's file below the root while it is LIVE, for messages.
    pub(super) fn live_path(&self, id: &PayloadId) -> PathBuf {
        shown(&self.live(id))
    }

    /// Path of a payload's file below the root while it is in TRASH, for messages.
    pub fn trash_path(&self, id: &PayloadId) -> PathBuf {
        shown(&self.trashed(id))
    }

    pub(super) fn live(&self, id: &PayloadId) -> String {
        self.in_database(&id.live_path())
    }

    pub(super) fn trashed(&self, id: &PayloadId) -> String {
        self.in_database(&id.trash_path())
    }

    pub(super) fn in_database(&self, path: &str) -> String {
        format!("{}/{path}", self.database)
    }

    pub(super) fn io(&self, op: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
        let path = shown(path);
        move |source| Error::Io { op, path, source }
    }

    pub(super) fn origin(&self) -> Origin {
        (self.fs.identity(), self.config.database)
    }

    pub(super) fn durable(&self) -> MutexGuard<'_, DurableDirs> {
        lock(&self.durable)
    }

    /// Makes TRASH if the database has a directory without it. Called while there is room: a full disk gets room only
    /// by files that move to TRASH and are deleted there.
    pub(super) fn make_trash(&self) -> Result<()> {
        let path = self.in_database(TRASH);
        match self.fs.mkdir(&path) {
            Ok(()) => self.durable().forget(&path),
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            Err(e) => return Err(self.io("create directory", &path)(e)),
        }
        Ok(())
    }

    /// Creates `dir` and what is missing above it. Returns without it when a directory vanished meanwhile:
    /// the caller finds out by trying again.
    pub(super) fn make_dirs(&self, dir: &str) -> Result<()> {
        let ends = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]);
        for path in ends.map(|end| dir.split_at(end).0) {
            match self.fs.mkdir(path) {
                Ok(()) => {
                    // A directory that existed before under this name was durable, this one is not yet.
                    self.durable().forget(path);
                    if path == self.database {
                        self.make_trash()?;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound && parent(path).is_empty() => {
                    return Err(Error::RootMissing { path: self.fs.root().into() });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(self.io("create directory", path)(e)),
            }
        }
        Ok(())
    }
}

impl<F: Fs> std::fmt::Debug for FileStore<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("config", &self.config).finish_non_exhaustive()
    }
}
