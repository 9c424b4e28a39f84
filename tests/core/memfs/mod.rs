//! A file system in memory that knows what a crash would leave: each file and directory has a volatile and a
//! durable state, and only an fsync of it copies the one to the other. Can be told to fail.

mod operations;

use rbytea::store::fs::{EntryKind, Stat};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

pub const EPERM: i32 = 1;
pub const EIO: i32 = 5;
pub const EACCES: i32 = 13;
pub const EEXIST: i32 = 17;
pub const ENOENT: i32 = 2;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const ENOTEMPTY: i32 = 39;
pub const ELOOP: i32 = 40;
pub const EDQUOT: i32 = 122;

/// The kinds of operations that are counted and can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Mkdir,
    Create,
    Open,
    Rename,
    Link,
    Unlink,
    Rmdir,
    ReadDir,
    ReadEntry,
    Stat,
    Write,
    Read,
    Truncate,
    SetMtime,
    SyncData,
    SyncDir,
    SyncRoot,
    OpenSyncHandle,
    Syncfs,
}

#[derive(Clone)]
struct Node {
    what: What,
    mtime: SystemTime,
    /// Write-back errors of this file so far, and whether its present bytes can still reach the disk.
    errors: u64,
    lost: bool,
}

#[derive(Clone)]
enum What {
    File { now: Vec<u8>, durable: Vec<u8> },
    Dir { now: BTreeMap<String, u64>, durable: BTreeMap<String, u64> },
    Link,
}

#[derive(Clone)]
struct Disk {
    nodes: HashMap<u64, Node>,
    root_durable: bool,
    errors: u64,
    space: Option<usize>,
    counts: HashMap<Op, u64>,
    /// (operation, how many more succeed before it, errno)
    faults: Vec<(Op, u64, i32)>,
}

#[derive(Clone)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
    syncfs: bool,
    links: bool,
    whole_seconds: bool,
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

const ROOT: u64 = 0;

impl Disk {
    fn hit(&mut self, op: Op) -> io::Result<()> {
        *self.counts.entry(op).or_default() += 1;
        let mut failure = None;
        self.faults.retain_mut(|(kind, left, errno)| {
            if *kind != op || failure.is_some() {
                return true;
            }
            if *left == 0 {
                failure = Some(*errno);
                return false;
            }
            *left -= 1;
            true
        });
        failure.map_or(Ok(()), |errno| Err(os(errno)))
    }

    fn dir(&mut self, id: u64) -> io::Result<&mut BTreeMap<String, u64>> {
        match &mut self.nodes.get_mut(&id).unwrap().what {
            What::Dir { now, .. } => Ok(now),
            What::File { .. } => Err(os(ENOTDIR)),
            What::Link => Err(os(ELOOP)),
        }
    }

    fn find(&mut self, path: &str) -> io::Result<u64> {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.entry(at, name)?;
        }
        Ok(at)
    }

    fn entry(&mut self, dir: u64, name: &str) -> io::Result<u64> {
        self.dir(dir)?.get(name).copied().ok_or_else(|| os(ENOENT))
    }

    fn stat(&self, id: u64) -> Stat {
        let node = &self.nodes[&id];
        let len = if let What::File { now, .. } = &node.what { now.len() as u64 } else { 0 };
        let kind = node.what.kind();
        let mode = if kind == EntryKind::Dir { 0o700 } else { 0o600 };
        Stat { len, mtime: node.mtime, kind, mode, owned: true }
    }

    fn parent<'a>(&mut self, path: &'a str) -> io::Result<(u64, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.find(dir)?;
        self.dir(dir)?;
        Ok((dir, name))
    }

    fn add(&mut self, path: &str, what: What) -> io::Result<u64> {
        let (dir, name) = self.parent(path)?;
        let id = self.nodes.len() as u64;
        if self.dir(dir)?.contains_key(name) {
            return Err(os(EEXIST));
        }
        self.dir(dir)?.insert(name.into(), id);
        self.nodes.insert(id, Node { what, mtime: SystemTime::now(), errors: 0, lost: false });
        Ok(id)
    }

    fn make_durable(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        match &mut node.what {
            What::File { now, durable } if !node.lost => durable.clone_from(now),
            What::Dir { now, durable } => durable.clone_from(now),
            _ => {}
        }
    }
}

fn empty_file() -> What {
    What::File { now: Vec::new(), durable: Vec::new() }
}

fn empty_dir() -> What {
    What::Dir { now: BTreeMap::new(), durable: BTreeMap::new() }
}

impl MemFs {
    pub fn new() -> Self {
        let root = Node { what: empty_dir(), mtime: SystemTime::now(), errors: 0, lost: false };
        let disk = Disk {
            nodes: HashMap::from([(ROOT, root)]),
            root_durable: false,
            errors: 0,
            space: None,
            counts: HashMap::new(),
            faults: Vec::new(),
        };
        Self { disk: Arc::new(Mutex::new(disk)), syncfs: true, links: true, whole_seconds: false }
    }

    pub fn without_syncfs(self) -> Self {
        Self { syncfs: false, ..self }
    }

    pub fn without_links(self) -> Self {
        Self { links: false, ..self }
    }

    /// Times lose what is finer than a second, as on ext4 with small inodes.
    pub fn with_whole_seconds(self) -> Self {
        Self { whole_seconds: true, ..self }
    }

    /// Its time as this file system remembers it.
    fn rounded(&self, stat: Stat) -> Stat {
        match stat.mtime.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if self.whole_seconds => {
                Stat { mtime: stat.mtime - Duration::from_nanos(since.subsec_nanos().into()), ..stat }
            }
            _ => stat,
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// What a crash at this moment would leave, as a disk of its own.
    pub fn after_crash(&self) -> Self {
        let mut disk = self.disk().clone();
        for node in disk.nodes.values_mut() {
            match &mut node.what {
                What::File { now, durable } => now.clone_from(durable),
                What::Dir { now, durable } => now.clone_from(durable),
                What::Link => {}
            }
        }
        if !disk.root_durable {
            disk.nodes.get_mut(&ROOT).unwrap().what = empty_dir();
        }
        disk.faults.clear();
        Self { disk: Arc::new(Mutex::new(disk)), ..*self }
    }

    /// The `nth` (1 = next) operation of this kind fails with `errno`.
    pub fn fail(&self, op: Op, nth: u64, errno: i32) {
        self.disk().faults.push((op, nth - 1, errno));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.disk().faults.clear();
    }

    pub fn count(&self, op: Op) -> u64 {
        self.disk().counts.get(&op).copied().unwrap_or_default()
    }

    /// Every kind of fsync made so far.
    pub fn syncs(&self) -> u64 {
        [Op::SyncData, Op::SyncDir, Op::SyncRoot, Op::Syncfs].into_iter().map(|op| self.count(op)).sum()
    }

    pub fn leave_space(&self, bytes: usize) {
        self.disk().space = Some(bytes);
    }

    /// The kernel fails to write a file back: the bytes are lost, whoever has it open will be told once.
    pub fn lose_writeback(&self, path: &str) {
        let mut disk = self.disk();
        let id = disk.find(path).unwrap();
        disk.errors += 1;
        let node = disk.nodes.get_mut(&id).unwrap();
        node.errors += 1;
        node.lost = true;
    }

    pub fn plant(&self, path: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        for (end, _) in path.match_indices('/') {
            let _ = disk.add(&path[..end], empty_dir());
        }
        let id = disk.find(path).or_else(|_| disk.add(path, empty_file())).unwrap();
        disk.nodes.get_mut(&id).unwrap().what = What::File { now: bytes.into(), durable: bytes.into() };
    }

    pub fn plant_link(&self, path: &str) {
        self.disk().add(path, What::Link).unwrap();
    }
}
