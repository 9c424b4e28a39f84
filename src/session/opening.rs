//! Opening a store as the settings describe it: the one place that knows which backend it is. Opening for
//! reading creates nothing.

use crate::pg::settings;
use crate::wal::log;
use pgrx::pg_sys;
use rbytea_store as store;
use rbytea_store::file::layout::database_dir;
use rbytea_store::file::os::are_on_one_mount;
use rbytea_store::{
    Backend, Closed, Config, DataDirectory, FileStore, OwnerId, PayloadId, Rights, RootRegistry,
};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The file in the data directory that names the stores this cluster has written to.
const REGISTRY: &str = "rbytea.stores";

/// Whether a store that is in the data directory and does not exist yet is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No: nothing is written for the sake of looking.
    Read,
    /// Yes.
    Write,
}

/// The store of the current database, open for one transaction.
pub struct Opened {
    files: FileStore,
}

/// What outlives the store's closing: its root, and which directories are known to be durable.
pub struct Cache(Closed);

impl Cache {
    /// Closes the root: something was wrong, and its file system may have to be unmounted.
    pub fn close_root(&mut self) {
        self.0.close_root();
    }
}

impl Opened {
    /// Opens it with what earlier transactions have left.
    pub fn open(access: Access, cache: Option<Cache>) -> Result<Self, store::Error> {
        let config = config(access)?;
        let files = match cache {
            Some(Cache(closed)) => FileStore::open_again(config, closed)?,
            None => FileStore::open(config)?,
        };
        Ok(Self { files: logging(files) })
    }

    /// The store, for payloads.
    pub fn backend(&self) -> &dyn Backend {
        &self.files
    }

    /// Closes it and returns its cache.
    pub fn close(self) -> Cache {
        Cache(self.files.close())
    }
}

fn open(config: Config) -> Result<Box<dyn Backend>, store::Error> {
    Ok(Box::new(files(config)?))
}

fn files(config: Config) -> Result<FileStore, store::Error> {
    FileStore::open(config).map(logging)
}

fn logging(files: FileStore) -> FileStore {
    match log::log() {
        Some(log) => files.with_log(log),
        None => files,
    }
}

/// A handle of its own on the store of the current database: for work during which a transaction, or a part of it, may
/// end.
pub fn open_independent() -> Result<Box<dyn Backend>, store::Error> {
    open(config(Access::Write)?)
}

/// The store of the current database as it is, creating nothing; None if it was never created.
pub fn open_existing() -> Result<Option<Box<dyn Backend>>, store::Error> {
    match open(config(Access::Read)?) {
        Err(error) if store_never_created(&error)? => Ok(None),
        opened => opened.map(Some),
    }
}

/// Whether a store could not be opened because it was never created: it belongs in the data directory, is not there,
/// and this cluster has not written to it.
pub fn store_never_created(error: &store::Error) -> Result<bool, store::Error> {
    let missing = matches!(error, store::Error::RootMissing { .. })
        && settings::filesystem_storage_path().is_relative();
    match config(Access::Read)?.registry {
        Some(registry) if missing => Ok(!registry.contains()?),
        _ => Ok(missing),
    }
}

/// The store of another database, which other sessions may not see yet.
pub fn open_for(database: pg_sys::Oid) -> Result<Box<dyn Backend>, store::Error> {
    let config = config(Access::Read)?;
    open(Config { database: database.to_u32(), ..config })
}

/// The part of a database in the store of a process that is connected to none and logs nothing: recovery, or a keeper. A root in the
/// data directory is made if `access` says so.
pub fn open_unlogged(database: u32, access: Access) -> Result<FileStore, store::Error> {
    let config = config(Access::Read)?;
    let relative = settings::filesystem_storage_path().is_relative();
    let create_root = access == Access::Write && relative;
    FileStore::open(Config { database, create_root, ..config })
}

/// Whether the store is in the data directory, or will be, so that no other server has it: not on another file system that is mounted there.
pub fn is_in_data_directory() -> bool {
    let directory = data_directory_path();
    let root = directory.join(settings::filesystem_storage_path());
    inside(&root, directory)
        .is_some_and(|(root, directory)| are_on_one_mount(&directory, &root).unwrap_or(false))
}

/// Whether there is a directory where the store is to be.
pub fn exists() -> bool {
    data_directory_path().join(settings::filesystem_storage_path()).is_dir()
}

/// The data directory.
pub fn data_directory_path() -> &'static Path {
    // SAFETY: DataDir is set before any backend starts and never changes.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(pg_sys::DataDir) }.to_bytes()))
}

/// The store of the current database as the settings describe it.
fn config(access: Access) -> Result<Config, store::Error> {
    let path = settings::filesystem_storage_path();
    let directory = data_directory_path();
    let data_directory = data_directory(directory)?;
    // SAFETY: plain reads of variables and of shared memory that every backend is attached to. In recovery there is
    // no insertion timeline; nothing is moved there, so the owner's timeline does not matter.
    let (standby, database, fsync, owner) = unsafe {
        let standby = pg_sys::RecoveryInProgress();
        let timeline = if standby { 0 } else { pg_sys::GetWALInsertionTimeLine() };
        let owner = OwnerId { system_identifier: pg_sys::GetSystemIdentifier(), timeline, data_directory };
        (standby, pg_sys::MyDatabaseId.to_u32(), pg_sys::enableFsync, owner)
    };
    // An absolute path may be a mount point: creating it would hide that nothing is mounted there.
    let create_root = access == Access::Write && path.is_relative() && !standby;
    // As PostgreSQL found its data directory when it was started.
    // SAFETY: a plain read.
    let of_data = rights(unsafe { pg_sys::data_directory_mode } & 0o040 != 0);
    let registry =
        RootRegistry { directory: directory.into(), file: REGISTRY, rights: of_data, root: path.clone() };
    let root = directory.join(path);
    let elsewhere = rights(settings::group_access());
    let rights = if of_data == elsewhere || is_inside(&root, directory) { of_data } else { elsewhere };
    Ok(Config { create_root, root, database, fsync, rights, owner, registry: Some(registry) })
}

/// Whether the store is in the data directory, wherever links and `..` lead. What does not exist yet will be made in the last
/// directory of the path that does.
fn is_inside(root: &Path, directory: &Path) -> bool {
    inside(root, directory).is_some()
}

/// The same: what exists of the root, and the data directory, without links.
fn inside(root: &Path, directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let existing = root.ancestors().find_map(|path| path.canonicalize().ok())?;
    let directory = directory.canonicalize().ok()?;
    existing.starts_with(&directory).then_some((existing, directory))
}

fn rights(group_reads: bool) -> Rights {
    if group_reads { Rights::GroupReads } else { Rights::Private }
}

/// What distinguishes this data directory from its copies: PG_VERSION is written anew by initdb and by every way to
/// copy it. A process has one data directory all its life.
fn data_directory(directory: &Path) -> Result<DataDirectory, store::Error> {
    static KNOWN: OnceLock<DataDirectory> = OnceLock::new();
    const PG_VERSION: &str = "PG_VERSION";
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let metadata = std::fs::metadata(directory.join(PG_VERSION)).map_err(|source| store::Error::Io {
        op: "stat file",
        path: PG_VERSION.into(),
        source,
    })?;
    // Not every file system knows when a file was created.
    let created = metadata.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let created = created.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    Ok(*KNOWN.get_or_init(|| DataDirectory { inode: metadata.ino(), created }))
}

/// Where a payload of the current database would be in a store that was never created, for messages.
pub fn path_in_new_store(id: &PayloadId) -> PathBuf {
    // SAFETY: a plain read.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    Path::new(&database_dir(database)).join(id.live_path())
}
