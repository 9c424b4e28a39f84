//! A place for a store of each backend, and sentences about payloads as they are stored.

use rbytea_memfs::MemFs;
use rbytea_store::backend::{Batch, Upload};
use rbytea_store::{Ahead, Backend, Config, DataDirectory, FileStore, OwnerId, PayloadId, Rights};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

pub const DATABASE: u32 = 16384;
pub const OTHER: u32 = 16385;
pub const US: OwnerId = OwnerId {
    system_identifier: 7_123_456_789_012_345_678,
    timeline: 1,
    data_directory: DataDirectory { inode: 1234, created: 1_700_000_000_123_456_789 },
};
/// Another cluster.
pub const THEM: OwnerId = OwnerId { system_identifier: 42, ..US };
/// This one after a promotion.
pub const PROMOTED: OwnerId = OwnerId { timeline: 2, ..US };

/// Where a store is. It can be opened many times, for every database and by every cluster.
pub trait Place {
    fn open_as(&self, owner: OwnerId, database: u32) -> Box<dyn Backend>;

    fn open(&self) -> Box<dyn Backend> {
        self.open_as(US, DATABASE)
    }
}

fn config(root: &Path, owner: OwnerId, database: u32) -> Config {
    Config {
        root: root.into(),
        create_root: false,
        database,
        fsync: true,
        rights: Rights::Private,
        owner,
        registry: None,
    }
}

/// Files in memory.
impl Place for MemFs {
    fn open_as(&self, owner: OwnerId, database: u32) -> Box<dyn Backend> {
        Box::new(FileStore::with_fs(self.clone(), config(Path::new("/mem"), owner, database)))
    }
}

/// Files of the operating system.
impl Place for TempDir {
    fn open_as(&self, owner: OwnerId, database: u32) -> Box<dyn Backend> {
        Box::new(FileStore::open(config(self.path(), owner, database)).unwrap())
    }
}

/// Runs each of the module's functions on every backend there is.
macro_rules! on_every_backend {
    ($($test:ident)*) => {
        mod files_in_memory { $(#[test] fn $test() { super::$test(&rbytea_memfs::MemFs::new()) })* }
        mod files { $(#[test] fn $test() { super::$test(&tempfile::tempdir().unwrap()) })* }
    };
}
pub(crate) use on_every_backend;

pub fn no_interrupts() -> impl FnMut() {
    || ()
}

/// Begins an upload and appends `bytes` in parts of a thousand.
pub fn upload(store: &dyn Backend, birth: u64, bytes: &[u8]) -> Box<dyn Upload> {
    let mut upload = store.begin(birth, None).unwrap();
    bytes.chunks(1000).for_each(|part| upload.append(part).unwrap());
    upload
}

/// Stores bytes durably.
pub fn put(store: &dyn Backend, birth: u64, bytes: &[u8]) -> PayloadId {
    let upload = upload(store, birth, bytes);
    let id = upload.id();
    let mut batch = None;
    upload.finish(&mut batch).unwrap();
    sync(store, &mut batch);
    id
}

pub fn sync(store: &dyn Backend, batch: &mut Option<Box<dyn Batch>>) {
    store.sync(&mut **batch.as_mut().expect("an upload was finished"), &mut no_interrupts()).unwrap();
}

/// What is stored of a payload, and whether it is in TRASH.
pub fn get(store: &dyn Backend, id: &PayloadId) -> Option<(Vec<u8>, bool)> {
    let stored = store.open(id).unwrap()?;
    let mut bytes = vec![0; stored.len().unwrap() as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match stored.read_at(filled as u64, &mut bytes[filled..]).unwrap() {
            0 => panic!("fewer bytes are read than len() has promised"),
            more => filled += more,
        }
    }
    Some((bytes, stored.in_trash()))
}

/// Everything in LIVE, in the order of the listing.
pub fn live(store: &dyn Backend) -> Vec<PayloadId> {
    let mut found = Vec::new();
    store
        .list(0..=u64::MAX, &Ahead::NOT, &mut |listings| {
            listings.for_each(|listed| found.extend(listed.unwrap().1.payloads));
        })
        .unwrap();
    found
}

/// Everything in TRASH, sorted.
pub fn trash(store: &dyn Backend) -> Vec<PayloadId> {
    let mut found = Vec::new();
    let foreign = store.list_trash(&mut |id, _| {
        found.push(id);
        Ok(())
    });
    assert_eq!(foreign.unwrap(), 0);
    found.sort();
    found
}

/// Moves payloads to TRASH, durably.
pub fn move_to_trash(store: &dyn Backend, ids: &[PayloadId], date: SystemTime) {
    let mut moves = store.moves();
    for id in ids {
        moves.trash(id, date).unwrap();
    }
    moves.sync().unwrap();
}

/// A date in whole seconds, which every backend can keep.
pub fn day(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000 + number * 86_400)
}
