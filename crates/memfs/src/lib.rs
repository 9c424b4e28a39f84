//! A file system in memory that knows what a crash would leave, and in which any operation can be made to fail.
//!
//! Every file has bytes and every directory names that are on the disk, and others that are only in the page cache
//! until an fsync of that file or that directory, or a syncfs. What of the latter a crash leaves is the test's to
//! choose (`crash`): nothing, everything, or any subset. It is meaner than a real file system where that costs
//! nothing:
//! - Each directory is durable for itself. (On ext4, XFS and btrfs the fsync of one makes older changes of others
//!   durable.)
//! - The two halves of a rename are two changes: after a crash a file may have both names. If the old directory
//!   is fsynced before the new one, it may have none.
//! - Of names that no fsync has reached, any subset survives, whatever their order. A file that is named may have
//!   none of its bytes, some, or its length in zeros.
//! - A failed fsync loses what it was to write, which stays in the page cache, and the next one succeeds. A failed syncfs does
//!   that to every file.
//!
//! The liberties that it takes, on which the store relies:
//! - While neither directory has been fsynced, a rename leaves the file under at least one name that leads to it (it
//!   is atomic in the journal of every file system that has one).
//! - After a kill or a planned failure, the fsync of the old directory makes the new name durable, too: the process
//!   that would have fsynced the new one first is dead or has failed (the same journal).
//! - A directory is not gone from the disk as long as something is in it there.
//! - The date that a file had when it was renamed is durable when its new name is (the inode is journaled with the
//!   rename).
//! - A failed fsync of a directory leaves its changes pending. (Where they would be lost, the journal is aborted and
//!   the file system is read-only from then on: `Fault::ReadOnly`.)
//! - A completed fsync is never undone, and what was durable does not change by itself.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::new_without_default,
    reason = "a test fails by panicking"
)]

mod crash;
mod disk;
mod faults;
mod file;
mod names;
mod operations;

use disk::{Disk, What, empty_dir, empty_file};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

pub use crash::{FileLeft, Left};
pub use disk::Pending as Unsynced;
pub use faults::{Fault, Snapshot, Step};

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const EACCES: i32 = 13;
pub const EEXIST: i32 = 17;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const ENOTEMPTY: i32 = 39;
pub const ELOOP: i32 = 40;
pub const EDQUOT: i32 = 122;

/// The kinds of operations that are counted and can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    StartWriteback,
    SyncData,
    SyncDir,
    SyncRoot,
    OpenSyncHandle,
    Syncfs,
}

#[derive(Clone)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
    script: Arc<Mutex<faults::Script>>,
    /// The root, or the data directory.
    top: u64,
    syncfs: bool,
    links: bool,
    whole_seconds: bool,
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl MemFs {
    pub fn new() -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new())),
            script: Arc::default(),
            top: disk::ROOT,
            syncfs: true,
            links: true,
            whole_seconds: false,
        }
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

    /// The same file system with another disk, on which nothing fails.
    fn with(&self, disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), script: Arc::default(), ..*self }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        let mut disk = self.disk.lock().unwrap();
        disk.top = self.top;
        disk
    }

    /// The `nth` (1 = next) operation of this kind fails with `errno`.
    pub fn fail(&self, op: Op, nth: u64, errno: i32) {
        self.script().fail(op, nth, errno);
    }

    pub fn count(&self, op: Op) -> u64 {
        self.script().count(op)
    }

    /// Every kind of fsync made so far.
    pub fn syncs(&self) -> u64 {
        [Op::SyncData, Op::SyncDir, Op::SyncRoot, Op::Syncfs].into_iter().map(|op| self.count(op)).sum()
    }

    pub fn leave_space(&self, bytes: usize) {
        self.disk().space = Some(bytes);
    }

    /// The kernel fails to write a file back: the bytes are lost, and each open descriptor reports it once.
    pub fn lose_writeback(&self, path: &str) {
        let mut disk = self.disk();
        let id = disk.find(path).unwrap();
        disk.lose(id);
    }

    pub fn plant(&self, path: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        for (end, _) in path.match_indices('/') {
            let _ = disk.add(&path[..end], empty_dir());
        }
        let id = disk.find(path).or_else(|_| disk.add(path, empty_file())).unwrap();
        disk.node(id).what = What::File { now: bytes.into(), durable: bytes.into() };
    }

    pub fn plant_link(&self, path: &str) {
        self.disk().add(path, What::Link).unwrap();
    }

    /// The bytes of a file, without an operation; None if there is none.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        match &disk.nodes[disk.find(path).ok()? as usize].what {
            What::File { now, .. } => Some(now.clone()),
            _ => None,
        }
    }

    /// The paths of all files, without an operation.
    pub fn files(&self) -> Vec<String> {
        self.disk().paths()
    }
}
