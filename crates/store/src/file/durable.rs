//! What a store remembers for its syncs: the syncfs handle of the running transaction, and which directories are durable.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fs::Fs;

/// A store: device and inode of its root, and the database.
pub(super) type Origin = ((u64, u64), u32);

/// From this many files on, one syncfs takes the place of an fdatasync for each file and an fsync for each
/// directory.
///
/// A syncfs also waits for what other processes have written to the file system. Measured on ext4 (Linux 6.18, a
/// virtual disk whose flush takes 0.15 ms), write-back started before, each file in a leaf of its own, medians in ms;
/// the syncfs without the fsync that makes sure of it, which takes one flush more:
///
/// ```text
/// files                            1     2     4     8    16    32
/// 4 KiB  per file               0.28  0.41  0.75  1.46  2.70  5.89
///        syncfs                 0.18  0.17  0.17  0.17  0.21  0.27
/// 1 MiB  per file               0.67  1.07  1.72  3.23  5.73 12.05
///        syncfs                 0.55  0.72  0.96  1.69  3.26  6.13
/// syncfs, 64 MiB of others      36.6  36.8  37.9  34.8  36.1  37.6
/// ```
///
/// Alone on its file system a syncfs always wins, and the more so the slower a flush is; next to a busy neighbour
/// it loses. So transactions of a few files pay a small price that no other process raises, and only
/// those that would wait for dozens of flushes take the one that does.
pub const SYNCFS_FROM: u64 = 8;

/// Directories remembered as durable; 4096 are 16 eras of 256 leaves.
const MAX_DURABLE_DIRS: usize = 4096;

/// A descriptor of the file system, opened before the files that it answers for were written.
pub(super) struct SyncfsHandle<F: Fs> {
    /// Position in the order of opening. Not per store: a transaction may see its store opened anew.
    pub(super) opened: u64,
    pub(super) handle: F::SyncHandle,
}

impl<F: Fs> SyncfsHandle<F> {
    /// The handle that has just been opened.
    pub(super) fn new(handle: F::SyncHandle) -> Self {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        Self { opened: OPENED.fetch_add(1, Ordering::Relaxed), handle }
    }
}

/// Directories, relative to the root, whose entry in their parent is durable. The empty path is the root.
///
/// A directory that is removed and made again would be remembered wrongly. `remove_empty_dirs` removes only what
/// no running transaction can write to, so no transaction meets such a directory; `restore`, which can, does
/// not ask.
#[derive(Debug, Default)]
pub(super) struct DurableDirs {
    pub(super) dirs: HashSet<String>,
}

impl DurableDirs {
    pub(super) fn forget(&mut self, dir: &str) {
        self.dirs.remove(dir);
    }

    pub(super) fn clear(&mut self) {
        self.dirs.clear();
    }

    pub(super) fn learn(&mut self, dirs: impl IntoIterator<Item = String>) {
        for dir in dirs {
            if self.dirs.len() >= MAX_DURABLE_DIRS {
                self.dirs.clear();
            }
            self.dirs.insert(dir);
        }
    }
}

/// No holder leaves the data half changed when it unwinds, so a poisoned lock can be used.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
