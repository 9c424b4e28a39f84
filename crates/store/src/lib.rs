//! The store: payload files of one database under one root, and the bytes of a value that refers to one. Knows no
//! PostgreSQL. Relies on [`fs::Fs`] for the operating system; promises I1, I3, I4, I5, I7 and I8 to its callers.

#![deny(unsafe_code)]

mod advice;
pub mod ahead;
pub mod cipher;
pub mod clone;
mod copy;
pub mod databases;
pub mod dropped;
pub mod error;
pub mod fs;
pub mod inspect;
pub mod judgement;
pub mod key_file;
pub mod keys;
pub mod known;
pub mod layout;
#[allow(unsafe_code, reason = "a system call that rustix does not have")]
mod linux;
pub mod list;
pub mod os;
pub mod os_file;
mod os_root;
pub mod owner;
pub mod pending;
pub mod reader;
#[allow(unsafe_code, reason = "pages of their own for key bytes")]
pub mod secret;
pub mod sync;
pub mod trash;
pub mod value;
pub mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Weak};

pub use ahead::{Ahead, Listings};
pub use cipher::{BLOCK, Keystream, Kuznyechik};
pub use clone::Cloned;
pub use dropped::{DroppedDatabase, Purged};
pub use error::{Error, Kind, Result};
pub use fs::{EntryKind, Fs, FsFile};
pub use inspect::{Flaw, Located};
pub use key_file::KeyFileProblem;
pub use keys::{Key, KeyRing};
pub use known::Known;
pub use layout::{OWNER, PayloadId, Shard, TRASH};
pub use list::{Listed, Listing, Shards, TrashEntry};
pub use os::OsFs;
pub use owner::{DataDirectory, OwnerId};
pub use pending::{MAX_OPEN, Pending, PendingState};
pub use reader::{Reader, Verifier};
pub use sync::{Moves, SYNCFS_FROM};
pub use trash::{Restored, Trashed};
pub use writer::Writer;

use sync::{DurableDirs, SyncPoint};

/// How often an operation makes a directory again that a concurrent `remove_empty_dirs` took away.
const ATTEMPTS: usize = 32;

/// Everything a store needs to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The root directory; relative paths start at the working directory.
    pub root: PathBuf,
    /// Make the last component of `root` (mode 0700) if it is missing.
    pub create_root: bool,
    /// OID of the database whose payloads these are.
    pub database: u32,
    /// Whether to fsync at all (PostgreSQL's `fsync`). Off means that a crash may lose payloads.
    pub fsync: bool,
    /// This cluster.
    pub owner: OwnerId,
    /// Where this cluster remembers that it has written to this root; `None` if it need not.
    pub known: Option<Known>,
}

/// What a value's header knows about its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Payload {
    /// Identity: where its file is.
    pub id: PayloadId,
    /// Bytes of the plaintext.
    pub len: u64,
    /// BLAKE3-256 of the plaintext.
    pub digest: [u8; 32],
    /// Key that encrypted the file; `None` for a file that holds the plaintext.
    pub key_id: Option<u16>,
}

impl Payload {
    /// Bytes of the file: `len`, rounded up to a multiple of 16 when it is encrypted.
    pub fn len_full(&self) -> u64 {
        match self.key_id {
            None => self.len,
            // a length within 15 bytes of 2^64 has no file; it must only not overflow
            Some(_) => self.len.checked_next_multiple_of(16).unwrap_or(u64::MAX),
        }
    }
}

/// One database's part of one store.
pub struct Store<F: Fs> {
    fs: F,
    config: Config,
    /// Directory of the database, relative to the root.
    database: String,
    durable: Mutex<DurableDirs>,
    /// The running transaction's, as long as one of its files needs it.
    sync_point: Mutex<Weak<SyncPoint<F>>>,
    owner_checked: AtomicBool,
    /// Whether `config.known` has this root.
    remembered: AtomicBool,
}

/// A store in the operating system's file system.
pub type FileStore = Store<OsFs>;

impl Store<OsFs> {
    /// Opens the root and checks that it is a directory which the effective user owns.
    ///
    /// # Errors
    /// `RootMissing`, `RootNotADirectory`, `RootNotOwned`, or `Io`.
    pub fn open(config: Config) -> Result<Self> {
        Self::with_fs(OsFs::open(&config.root, config.create_root)?, config)
    }

    /// As [`open`](Self::open), with what this process learnt of the same store before.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_knowing(config: Config, knowledge: Knowledge) -> Result<Self> {
        Ok(Self::open(config)?.knowing(knowledge))
    }
}

/// What a process knows of a store that it has closed.
#[derive(Debug, Default)]
pub struct Knowledge {
    origin: Option<pending::Origin>,
    durable: DurableDirs,
    remembered: bool,
}

impl<F: Fs> Store<F> {
    /// A store in any file system; `fs` is rooted in `config.root`.
    ///
    /// # Errors
    /// None today; opening is where another backend would fail.
    pub fn with_fs(fs: F, config: Config) -> Result<Self> {
        let database = layout::database_dir(config.database);
        Ok(Self {
            fs,
            config,
            database,
            durable: Mutex::default(),
            sync_point: Mutex::default(),
            owner_checked: AtomicBool::new(false),
            remembered: AtomicBool::new(false),
        })
    }

    /// Takes up what this process learnt of the same store before, which spares the fsync of directories that are
    /// durable already. What was learnt of another store is dropped.
    #[must_use]
    pub fn knowing(self, knowledge: Knowledge) -> Self {
        if knowledge.origin == Some(self.origin()) {
            *self.durable() = knowledge.durable;
            self.remembered.store(knowledge.remembered, Ordering::Relaxed);
        }
        self
    }

    /// Closes the store and keeps what was learnt of it.
    pub fn into_knowledge(self) -> Knowledge {
        let durable = std::mem::take(&mut *self.durable());
        let remembered = self.remembered.load(Ordering::Relaxed);
        Knowledge { origin: Some(self.origin()), durable, remembered }
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
    pub fn live_path(&self, id: &PayloadId) -> PathBuf {
        shown(&self.live(id))
    }

    /// Path of a payload's file below the root while it is in TRASH, for messages.
    pub fn trash_path(&self, id: &PayloadId) -> PathBuf {
        shown(&self.trashed(id))
    }

    fn live(&self, id: &PayloadId) -> String {
        self.in_database(&id.live_path())
    }

    fn trashed(&self, id: &PayloadId) -> String {
        self.in_database(&id.trash_path())
    }

    fn in_database(&self, path: &str) -> String {
        format!("{}/{path}", self.database)
    }

    fn io(&self, op: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
        let path = shown(path);
        move |source| Error::Io { op, path, source }
    }

    /// Makes TRASH if the database has a directory without it. As long as there is room: a disk that is full gets room when
    /// files move to TRASH and are deleted there.
    ///
    /// # Errors
    /// `Io`.
    pub fn make_trash(&self) -> Result<()> {
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
    fn make_dirs(&self, dir: &str) -> Result<()> {
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

/// A path below the root as messages show it: without the root, which is for administrators to know.
fn shown(path: &str) -> PathBuf {
    if path.is_empty() { ".".into() } else { path.into() }
}

/// `NotFound` as `None`.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The parent of a path relative to the root; the root's is the empty path.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl<F: Fs> std::fmt::Debug for Store<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("config", &self.config).finish_non_exhaustive()
    }
}
