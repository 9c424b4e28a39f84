//! The file OWNER in the root: who owns the store (I9), and whether the store is there at all.
//! Relies on `publish`, which writes a file whole or not at all; the bytes are those of [`OwnerId`].

use std::sync::atomic::Ordering;

use super::durable::lock;
use super::fs::{Fs, FsFile, Replace, publish, read_small};
use super::layout::OWNER;
use super::paths::{found, shown};
use super::store::FileStore;
use crate::error::{Error, Result};
use crate::owner::OwnerId;
use crate::owner_file::corrupt;

/// OWNER is about 150 bytes long; what is longer than this was not written by a store.
const MAX_LEN: u64 = 4096;

impl<F: Fs> FileStore<F> {
    /// The cluster that OWNER names; `None` while no cluster has claimed the store.
    ///
    /// # Errors
    /// `UnknownFormat`, `OwnerCorrupt`, `Io`.
    pub(super) fn owner(&self) -> Result<Option<OwnerId>> {
        let Some(file) = found(self.fs.open(OWNER)).map_err(self.io("open file", OWNER))? else {
            return Ok(None);
        };
        let stat = file.stat().map_err(self.io("stat file", OWNER))?;
        if stat.len > MAX_LEN {
            return Err(corrupt(format!("it has {} bytes", stat.len)));
        }
        let bytes = read_small(&file, MAX_LEN).map_err(self.io("read file", OWNER))?;
        let owner = OwnerId::from_json(&bytes)?;
        *lock(&self.owner_seen) = Some((stat, owner));
        Ok(Some(owner))
    }

    /// The same, without reading the file again that was read last: it is never written in place.
    fn owner_seen(&self) -> Result<Option<OwnerId>> {
        let seen = *lock(&self.owner_seen);
        match (seen, found(self.fs.stat(OWNER)).map_err(self.io("stat file", OWNER))?) {
            (Some((seen, owner)), Some(stat)) if seen == stat => Ok(Some(owner)),
            _ => self.owner(),
        }
    }

    /// Whether the store is there: a root without OWNER that this cluster has written to is another directory, or an
    /// empty one.
    ///
    /// # Errors
    /// `StoreMissing`, and those of [`owner`](Self::owner) and
    /// [`RootRegistry::contains`](super::RootRegistry::contains).
    pub(super) fn check_present(&self) -> Result<()> {
        self.owner().and_then(|owner| self.is_present(owner))
    }

    fn is_present(&self, owner: Option<OwnerId>) -> Result<()> {
        match &self.config.registry {
            // OWNER is looked for once more: another backend may have written it meanwhile.
            Some(registry)
                if owner.is_none() && registry.contains_on(&self.fs)? && self.owner()?.is_none() =>
            {
                Err(Error::StoreMissing { path: self.fs.root().into() })
            }
            _ => Ok(()),
        }
    }

    fn register(&self) -> Result<()> {
        if let Some(registry) = &self.config.registry
            && !self.registered.load(Ordering::Relaxed)
        {
            let listed = match registry.contains_on(&self.fs) {
                Err(Error::RegistryCorrupt { .. }) => false,
                listed => listed?,
            };
            if !listed {
                // OWNER first: it may be another backend's, which has not synced it yet.
                if self.config.fsync {
                    let synced = self.fs.sync_dir("").and_then(|()| self.fs.sync_root_entry());
                    synced.map_err(|e| Error::sync(shown(""), e))?;
                }
                registry.add(&self.fs, self.config.fsync)?;
            }
            self.registered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether this cluster may move files (I9). A store without an owner is any cluster's.
    ///
    /// # Errors
    /// `NotOwner`, and those of [`check_present`](Self::check_present).
    pub(super) fn check_owner(&self) -> Result<()> {
        self.owns_on_any_timeline().map(drop)
    }

    /// The same; whether OWNER names this data directory on any timeline, since it recovered.
    ///
    /// # Errors
    /// As [`check_owner`](Self::check_owner).
    pub(super) fn owns_on_any_timeline(&self) -> Result<bool> {
        let expected = self.config.owner;
        match self.owner()? {
            Some(found) if found == expected => Ok(false),
            Some(found) if found.is_on_any_timeline(&expected) => Ok(true),
            Some(found) => Err(Error::NotOwner { found, expected }),
            None => self.is_present(None).map(|()| false),
        }
    }

    /// Makes this cluster the owner, durably. Returns the owner before.
    ///
    /// # Errors
    /// Those of [`owner`](Self::owner) and [`RootRegistry::add`](super::RootRegistry::add), and `Io` or `Sync` of
    /// writing. An unreadable OWNER is not replaced.
    pub(super) fn adopt(&self) -> Result<Option<OwnerId>> {
        let previous = self.owner()?;
        if previous != Some(self.config.owner) {
            self.publish_owner(Replace::Yes)?;
        } else if self.config.fsync {
            // An earlier call may have failed, or died, between its rename and this.
            self.fs.sync_dir("").map_err(|e| Error::sync(shown(""), e))?;
        }
        self.register()?;
        Ok(previous)
    }

    /// Makes this cluster the owner unless there is one, durably; looks once for each store.
    ///
    /// Refuses another cluster's store: databases of both may have the same OID, and the owner's vacuum would
    /// take this one's payloads for garbage. The same system identifier may write on another timeline or from
    /// another data directory, for a standby has to go on working when it is promoted.
    ///
    /// # Errors
    /// `NotOwner`, those of [`check_present`](Self::check_present), and `Io` or `Sync` of writing.
    pub(super) fn claim(&self) -> Result<()> {
        if self.owner_checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let expected = self.config.owner;
        let owner = self.owner_seen()?;
        self.is_present(owner)?;
        let owner = match owner {
            None if self.publish_owner(Replace::No)? => None,
            // Another backend has claimed it meanwhile.
            None => self.owner()?,
            some => some,
        };
        match owner {
            Some(found) if found.system_identifier != expected.system_identifier => {
                Err(Error::NotOwner { found, expected })
            }
            _ => {
                self.register()?;
                self.owner_checked.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Writes OWNER. False if it was there and is not to be replaced.
    fn publish_owner(&self, replace: Replace) -> Result<bool> {
        publish(&self.fs, self.fs.root(), OWNER, &self.config.owner.to_json()?, replace, self.config.fsync)
    }
}
