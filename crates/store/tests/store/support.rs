//! What the tests share: places to keep a store, and sentences about it.

use rbytea_memfs::MemFs;
use rbytea_store::file::fs::Fs;
use rbytea_store::file::os::OsFs;
use rbytea_store::{
    Backend, By, Config, DataDirectory, FileStore, Key, KeyRing, OwnerId, PayloadId, PayloadRef, Pending,
    Reader, Result, Rights, RootRegistry, TrashEntry, Verifier, Writer,
};
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

pub const DATABASE: u32 = 16384;
pub const US: OwnerId = OwnerId {
    system_identifier: 7_123_456_789_012_345_678,
    timeline: 1,
    data_directory: DataDirectory { inode: 1234, created: 1_700_000_000_123_456_789 },
};
/// Another cluster.
pub const THEM: OwnerId = OwnerId { system_identifier: 42, ..US };
/// This one after a promotion.
pub const PROMOTED: OwnerId = OwnerId { timeline: 2, ..US };
/// A base backup of this one that was started without archive recovery.
pub const COPY: OwnerId = OwnerId { data_directory: DataDirectory { inode: 1235, created: 0 }, ..US };

pub fn config(root: &Path) -> Config {
    Config {
        root: root.into(),
        create_root: false,
        database: DATABASE,
        fsync: true,
        rights: Rights::Private,
        owner: US,
        registry: None,
    }
}

/// The same, where the cluster remembers the root in its data directory.
pub fn registered(root: &Path) -> Config {
    let registry = RootRegistry {
        directory: "/data".into(),
        file: "rbytea.stores",
        rights: Rights::Private,
        root: root.into(),
    };
    Config { registry: Some(registry), ..config(root) }
}

/// A place for a store, with a way to plant files in it behind the store's back.
pub trait Bed {
    type F: Fs;
    fn fs(&self) -> Self::F;
    fn plant(&self, path: &str, bytes: &[u8]);
    fn plant_link(&self, path: &str);

    fn store(&self) -> FileStore<Self::F> {
        let fs = self.fs();
        let config = config(fs.root());
        FileStore::with_fs(fs, config)
    }

    fn store_for(&self, database: u32) -> FileStore<Self::F> {
        let fs = self.fs();
        let config = Config { database, ..config(fs.root()) };
        FileStore::with_fs(fs, config)
    }

    fn store_of(&self, owner: OwnerId) -> FileStore<Self::F> {
        let fs = self.fs();
        let config = Config { owner, ..config(fs.root()) };
        FileStore::with_fs(fs, config)
    }
}

/// A directory of the operating system.
pub struct OsBed {
    pub dir: TempDir,
    adapt: fn(OsFs) -> OsFs,
}

impl OsBed {
    pub fn new() -> Self {
        Self::adapted(|fs| fs)
    }

    pub fn adapted(adapt: fn(OsFs) -> OsFs) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), adapt }
    }
}

impl Bed for OsBed {
    type F = OsFs;

    fn fs(&self) -> OsFs {
        (self.adapt)(OsFs::open(self.dir.path(), false, Rights::Private).unwrap())
    }

    fn plant(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn plant_link(&self, path: &str) {
        // a link that stays within the root and works, so that only the refusal of links stops it
        std::fs::create_dir_all(self.dir.path().join("elsewhere")).unwrap();
        let target = "../".repeat(path.matches('/').count()) + "elsewhere";
        std::os::unix::fs::symlink(target, self.dir.path().join(path)).unwrap();
    }
}

impl Bed for MemFs {
    type F = MemFs;

    fn fs(&self) -> MemFs {
        self.clone()
    }

    fn plant(&self, path: &str, bytes: &[u8]) {
        MemFs::plant(self, path, bytes);
    }

    fn plant_link(&self, path: &str) {
        MemFs::plant_link(self, path);
    }
}

/// Runs each of the module's functions on every file system there is.
macro_rules! on_every_file_system {
    ($($test:ident)*) => {
        mod on_linux { $(#[test] fn $test() { super::$test(&$crate::support::OsBed::new()) })* }
        mod on_old_linux { $(#[test] fn $test() {
            let old = |fs: rbytea_store::file::os::OsFs| fs.without_openat2().without_syncfs();
            super::$test(&$crate::support::OsBed::adapted(old))
        })* }
        mod in_memory { $(#[test] fn $test() { super::$test(&rbytea_memfs::MemFs::new()) })* }
    };
}
pub(crate) use on_every_file_system;

/// The master key that the tests encrypt with.
pub const MASTER: [u8; 32] = *b"a master key that guards nothing";
/// Its id; the key file has an older key as well.
pub const KEY_ID: u16 = 300;

/// The keys that `read` has.
pub static KEYS: LazyLock<KeyRing> = LazyLock::new(|| ring(&[(7, [0x77; 32]), (KEY_ID, MASTER)]));

/// The keys of a key file with these.
pub fn ring(keys: &[(u16, [u8; 32])]) -> KeyRing {
    let line = |(id, key): &(u16, [u8; 32])| format!("{id} {}\n", digits(key));
    KeyRing::parse(Path::new("keys"), keys.iter().map(line).collect::<String>().as_bytes()).unwrap()
}

/// Writes a payload and leaves it pending.
pub fn write<F: Fs>(
    store: &FileStore<F>,
    birth: u64,
    bytes: &[u8],
    pending: &mut Pending,
) -> Result<PayloadRef> {
    write_with(store, birth, bytes, None, pending)
}

/// The same, encrypted where there is a key.
pub fn write_with<F: Fs>(
    store: &FileStore<F>,
    birth: u64,
    bytes: &[u8],
    key: Option<&Key>,
    pending: &mut Pending,
) -> Result<PayloadRef> {
    let mut writer = Writer::begin(store, birth, key)?;
    for chunk in bytes.chunks(1000) {
        writer.write(chunk)?;
    }
    writer.finish(pending)
}

/// Writes a payload and commits it.
pub fn commit<F: Fs>(store: &FileStore<F>, birth: u64, bytes: &[u8]) -> PayloadRef {
    commit_with(store, birth, bytes, None)
}

/// Writes a payload, encrypted with the newest of `KEYS`, and commits it.
pub fn commit_encrypted<F: Fs>(store: &FileStore<F>, birth: u64, bytes: &[u8]) -> PayloadRef {
    commit_with(store, birth, bytes, Some(KEYS.newest()))
}

fn commit_with<F: Fs>(store: &FileStore<F>, birth: u64, bytes: &[u8], key: Option<&Key>) -> PayloadRef {
    let mut pending = Pending::new();
    let payload = write_with(store, birth, bytes, key, &mut pending).unwrap();
    pending.sync(store, &mut || ()).unwrap();
    payload
}

/// Reads a payload, with the key of `KEYS` that it needs, and checks its digest and its checksum.
pub fn read<F: Fs>(store: &FileStore<F>, payload: &PayloadRef) -> Result<Vec<u8>> {
    read_with(store, payload, &KEYS)
}

/// The same with other keys.
pub fn read_with<F: Fs>(store: &FileStore<F>, payload: &PayloadRef, keys: &KeyRing) -> Result<Vec<u8>> {
    let reader = Reader::open(store, payload)?.decrypting(keys)?;
    let mut bytes = vec![0; reader.len() as usize];
    reader.read_at(0, &mut bytes)?;
    for by in [By::Digest, By::Checksum] {
        let mut verifier = Verifier::new(by);
        bytes.chunks(4099).for_each(|piece| verifier.update(piece));
        verifier.finish(&reader)?;
    }
    Ok(bytes)
}

/// Path of a payload's LIVE file from the root.
pub fn live<F: Fs>(_: &FileStore<F>, payload: &PayloadRef) -> String {
    format!("{DATABASE}/{}", payload.id.live_path())
}

/// Everything that TRASH holds.
pub fn list_trash<F: Fs>(store: &FileStore<F>) -> Vec<(PayloadId, TrashEntry)> {
    let mut found = Vec::new();
    let visited = store.list_trash(&mut |id, entry| {
        found.push((id, entry));
        Ok(())
    });
    visited.unwrap();
    found.sort_by_key(|(id, _)| *id);
    found
}

/// The names in a directory, sorted.
pub fn names<F: Fs>(fs: &F, dir: &str) -> Vec<String> {
    let mut names = Vec::new();
    let read = fs.read_dir(dir, &mut |_, entry| {
        names.push(entry.name.to_str().unwrap().to_owned());
        Ok(())
    });
    read.unwrap().unwrap();
    names.sort();
    names
}

/// Every payload that the listing finds.
pub fn list<F: Fs>(store: &FileStore<F>) -> Result<Vec<PayloadId>> {
    let mut found = Vec::new();
    for shard in store.shards(0..=u64::MAX)? {
        found.extend(store.list_shard(shard?)?.payloads);
    }
    Ok(found)
}

pub fn open(config: Config) -> Result<FileStore> {
    FileStore::open(config)
}

/// Bytes from hexadecimal digits, white space between them allowed, as standards print them.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<_> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0);
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The hexadecimal digits of bytes.
pub fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
