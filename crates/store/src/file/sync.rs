//! Where a payload is synced: its file and the entries of directories that lead to it are made durable (I1).
//! Which directories are durable already is remembered per store; that one exists is not enough, for another
//! transaction may have made it and not have synced it.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::Fs;
use super::layout::{parse_byte_dir, parse_era_dir};
use super::list::directory;
use super::upload::{FileBatch, Origin};
use super::{FileStore, parent, shown};
use crate::error::{Error, Result};

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
    handle: F::SyncHandle,
}

static OPENED: AtomicU64 = AtomicU64::new(0);

/// Directories, relative to the root, whose entry in their parent is durable. The empty path is the root.
///
/// A directory that is removed and made again would be remembered wrongly. `remove_empty_dirs` removes only what
/// no running transaction can write to, so no transaction meets such a directory; `restore`, which can, does
/// not ask.
#[derive(Debug, Default)]
pub(super) struct DurableDirs {
    dirs: HashSet<String>,
}

impl DurableDirs {
    pub(super) fn forget(&mut self, dir: &str) {
        self.dirs.remove(dir);
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

/// Whether a directory that the store remembers as durable is not fsynced again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    Trust,
    Ignore,
}

impl<F: Fs> FileStore<F> {
    /// Makes every file of a batch durable, with its directory and all directories above (I1).
    pub(super) fn sync_files(&self, files: &FileBatch<F>, interrupts: &mut dyn FnMut()) -> Result<()> {
        let leaves = files.shards.iter().map(|shard| self.in_database(&shard.path()));
        if let Some(handle) = files.syncfs() {
            interrupts();
            self.fs.syncfs(&handle.handle).map_err(|e| Error::sync(shown(""), e))?;
            let dirs: BTreeSet<String> = leaves.flat_map(|leaf| chain(&leaf)).collect();
            self.durable().learn(dirs);
            return Ok(());
        }
        for written in &files.open {
            interrupts();
            written.sync_data()?;
        }
        self.sync_dirs(leaves, Cached::Trust, interrupts)
    }

    /// fsyncs each of `dirs`, and above it every directory whose child is not known to be durable, once.
    pub(super) fn sync_dirs(
        &self,
        dirs: impl IntoIterator<Item = String>,
        cached: Cached,
        interrupts: &mut dyn FnMut(),
    ) -> Result<()> {
        let mut targets = BTreeSet::new();
        let mut entries = BTreeSet::new();
        {
            let durable = self.durable();
            for dir in dirs {
                let new = chain(&dir)
                    .into_iter()
                    .take_while(|dir| cached == Cached::Ignore || !durable.dirs.contains(dir));
                entries.extend(new);
                targets.insert(dir);
            }
        }
        targets.extend(entries.iter().filter(|dir| !dir.is_empty()).map(|dir| parent(dir).to_owned()));
        // Before their era's fsync, which is good for all of them.
        let leaves = if cached == Cached::Trust { self.leaves_beside(&entries)? } else { Vec::new() };
        // Descending, so that a directory comes before its parent.
        for dir in targets.iter().rev() {
            interrupts();
            self.fs.sync_dir(dir).map_err(|e| Error::sync(shown(dir), e))?;
        }
        if entries.contains("") {
            interrupts();
            self.fs.sync_root_entry().map_err(|e| Error::sync(shown(""), e))?;
        }
        self.durable().learn(entries.into_iter().chain(leaves));
        Ok(())
    }

    /// The leaf directories of eras that are known to be durable and have one among `entries` that is not. The first
    /// payload of an era does not ask, since there may be no second one; from then on, one listing spares an fsync for
    /// most other leaves, which transactions of other sessions have made already.
    fn leaves_beside(&self, entries: &BTreeSet<String>) -> Result<Vec<String>> {
        let eras: BTreeSet<&str> = entries
            .iter()
            .map(|dir| parent(dir))
            .filter(|dir| !entries.contains(*dir) && is_era(dir))
            .collect();
        let mut leaves = Vec::new();
        for era in eras {
            self.each(era, &mut |entry| {
                let leaf = directory(&entry).filter(|name| parse_byte_dir(name).is_some());
                leaves.extend(leaf.map(|name| format!("{era}/{name}")));
                Ok(())
            })?;
        }
        Ok(leaves)
    }

    /// The syncfs handle that all files of a transaction share. A new transaction gets a new one: it must not
    /// fail for an error that an earlier transaction has reported.
    pub(super) fn current_syncfs_handle(&self) -> Result<Option<Arc<SyncfsHandle<F>>>> {
        if !self.config.fsync {
            return Ok(None);
        }
        let mut last = lock(&self.syncfs);
        if let Some(handle) = last.upgrade() {
            return Ok(Some(handle));
        }
        let handle = self.fs.open_sync_handle().map_err(self.io("open directory", ""))?;
        let Some(handle) = handle else { return Ok(None) };
        let opened = Arc::new(SyncfsHandle { opened: OPENED.fetch_add(1, Ordering::Relaxed), handle });
        *last = Arc::downgrade(&opened);
        Ok(Some(opened))
    }

    pub(super) fn origin(&self) -> Origin {
        (self.fs.identity(), self.config.database)
    }

    pub(super) fn durable(&self) -> MutexGuard<'_, DurableDirs> {
        lock(&self.durable)
    }
}

/// Whether a path is that of an era of a database.
fn is_era(path: &str) -> bool {
    path.split_once('/').is_some_and(|(_, name)| parse_era_dir(name).is_some())
}

/// A path and every directory above it, down to the root's empty path.
pub(super) fn chain(dir: &str) -> Vec<String> {
    let mut chain = vec![dir.to_owned()];
    let mut at = dir;
    while !at.is_empty() {
        at = parent(at);
        chain.push(at.to_owned());
    }
    chain
}

/// No holder leaves the data half changed when it unwinds, so a poisoned lock can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
