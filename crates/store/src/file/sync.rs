//! Where a payload is synced: its file and the entries of directories that lead to it are made durable (I1).
//! Which directories are durable already is remembered per store; that one exists is not enough, for another
//! transaction may have made it and not have synced it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::durable::{SyncfsHandle, lock};
use super::fs::Fs;
use super::layout::{parse_byte_dir, parse_era_dir};
use super::list::directory;
use super::paths::{parent, shown};
use super::store::FileStore;
use super::upload::FileBatch;
use crate::error::{Error, Result};

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
        let opened = Arc::new(SyncfsHandle::new(handle));
        *last = Arc::downgrade(&opened);
        Ok(Some(opened))
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
