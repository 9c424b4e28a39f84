//! Whose store it is (I9): the file OWNER in the root,
//! `{"format":1,"system_identifier":"<decimal>","timeline":<number>,
//! "data_directory":{"inode":"<decimal>","created":"<decimal>"}}`.
//! Written whole or not at all; 64-bit numbers are strings because JSON's end at 2^53.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::fs::{Fs, FsFile, Replace, publish};
use super::layout::OWNER;
use super::{Store, found, shown};

/// The format of everything under the root.
const FORMAT: u64 = 1;

/// OWNER is about 150 bytes long; what is longer than this was not written by a store.
const MAX_LEN: u64 = 4096;

/// A cluster: what distinguishes it from its clones and its promoted standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId {
    /// `system_identifier` of pg_control.
    pub system_identifier: u64,
    /// The timeline it is on.
    pub timeline: u32,
    /// Its data directory.
    pub data_directory: DataDirectory,
}

/// A data directory, known by a file in it that is written once (PG_VERSION). A base backup that was started
/// without archive recovery shares identifier and timeline with the cluster that it was taken from; this it
/// does not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataDirectory {
    /// Inode of the file.
    pub inode: u64,
    /// When the file was created: nanoseconds since 1970, 0 where the file system does not know.
    pub created: u64,
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system_identifier, timeline, data_directory: DataDirectory { inode, created } } = self;
        write!(
            f,
            "system identifier {system_identifier}, timeline {timeline}, data directory {inode}-{created}"
        )
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerFile {
    format: u64,
    system_identifier: String,
    timeline: u32,
    data_directory: DataDirectoryFile,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataDirectoryFile {
    inode: String,
    created: String,
}

/// What every format, known or not, has in common.
#[derive(Deserialize)]
struct AnyFormat {
    format: u64,
}

impl<F: Fs> Store<F> {
    /// The cluster that OWNER names; `None` while nobody has claimed the store.
    ///
    /// # Errors
    /// `UnknownFormat`, `OwnerCorrupt`, `Io`.
    pub fn owner(&self) -> Result<Option<OwnerId>> {
        let Some(file) = found(self.fs.open(OWNER)).map_err(self.io("open file", OWNER))? else {
            return Ok(None);
        };
        let len = file.len().map_err(self.io("stat file", OWNER))?;
        if len > MAX_LEN {
            return Err(self.corrupt(format!("it has {len} bytes")));
        }
        let mut bytes = Vec::new();
        let mut buf = [0; MAX_LEN as usize];
        loop {
            let read = file.read_at(bytes.len() as u64, &mut buf).map_err(self.io("read file", OWNER))?;
            bytes.extend_from_slice(buf.get(..read).unwrap_or_default());
            if read == 0 || bytes.len() as u64 > MAX_LEN {
                return self.parse(&bytes).map(Some);
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<OwnerId> {
        let corrupt = |e: serde_json::Error| self.corrupt(e.to_string());
        // serde would take a list for a structure.
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(corrupt)?;
        if !value.is_object() || value.get("data_directory").is_some_and(|directory| !directory.is_object()) {
            return Err(self.corrupt("it is not made of JSON objects".into()));
        }
        let AnyFormat { format } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if format != FORMAT {
            return Err(Error::UnknownFormat { path: shown(OWNER), found: format });
        }
        let file: OwnerFile = serde_json::from_slice(bytes).map_err(corrupt)?;
        Ok(OwnerId {
            system_identifier: self.decimal("system identifier", &file.system_identifier)?,
            timeline: file.timeline,
            data_directory: DataDirectory {
                inode: self.decimal("inode", &file.data_directory.inode)?,
                created: self.decimal("time of creation", &file.data_directory.created)?,
            },
        })
    }

    fn decimal(&self, what: &str, text: &str) -> Result<u64> {
        match text.parse::<u64>() {
            Ok(value) if value.to_string() == text => Ok(value),
            _ => Err(self.corrupt(format!("the {what} is not a decimal number"))),
        }
    }

    fn corrupt(&self, reason: String) -> Error {
        Error::OwnerCorrupt { path: shown(OWNER), reason }
    }

    /// Whether the store is there: a root without OWNER that this cluster has written to is another directory, or an empty one.
    ///
    /// # Errors
    /// `StoreMissing`, and those of [`owner`](Self::owner) and [`Known::contains`](super::Known::contains).
    pub fn check_present(&self) -> Result<()> {
        self.owner().and_then(|owner| self.is_present(owner))
    }

    fn is_present(&self, owner: Option<OwnerId>) -> Result<()> {
        match &self.config.known {
            // OWNER is asked for once more: somebody else may have written first, meanwhile.
            Some(known) if owner.is_none() && known.contains()? && self.owner()?.is_none() => {
                Err(Error::StoreMissing { path: self.fs.root().into() })
            }
            _ => Ok(()),
        }
    }

    fn remember(&self) -> Result<()> {
        if let Some(known) = &self.config.known
            && !self.remembered.load(Ordering::Relaxed)
        {
            if !matches!(known.contains(), Ok(true)) {
                // First what is remembered: OWNER may be somebody else's, who has not synced it yet.
                if self.config.fsync {
                    let synced = self.fs.sync_dir("").and_then(|()| self.fs.sync_root_entry());
                    synced.map_err(|e| Error::sync(shown(""), e))?;
                }
                known.remember(self.config.fsync)?;
            }
            self.remembered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether this cluster may move files (I9). A store that nobody has claimed is anybody's.
    ///
    /// # Errors
    /// `NotOwner`, and those of [`check_present`](Self::check_present).
    pub fn check_owner(&self) -> Result<()> {
        let expected = self.config.owner;
        match self.owner()? {
            Some(found) if found != expected => Err(Error::NotOwner { found, expected }),
            owner => self.is_present(owner),
        }
    }

    /// Makes this cluster the owner, durably. Returns the owner before.
    ///
    /// # Errors
    /// Those of [`owner`](Self::owner) and [`Known::remember`](super::Known::remember), and `Io` or `Sync` of writing. An
    /// unreadable OWNER is not replaced.
    pub fn adopt(&self) -> Result<Option<OwnerId>> {
        let previous = self.owner()?;
        if previous != Some(self.config.owner) {
            publish(&self.fs, OWNER, &self.owner_json()?, Replace::Yes, self.config.fsync)?;
        } else if self.config.fsync {
            // An earlier call may have failed, or died, between its rename and this.
            self.fs.sync_dir("").map_err(|e| Error::sync(shown(""), e))?;
        }
        self.remember()?;
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
        let owner = self.owner()?;
        self.is_present(owner)?;
        let owner = match owner {
            None if publish(&self.fs, OWNER, &self.owner_json()?, Replace::No, self.config.fsync)? => None,
            // Somebody else was faster.
            None => self.owner()?,
            some => some,
        };
        match owner {
            Some(found) if found.system_identifier != expected.system_identifier => {
                Err(Error::NotOwner { found, expected })
            }
            _ => {
                self.remember()?;
                self.owner_checked.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn owner_json(&self) -> Result<Vec<u8>> {
        let OwnerId { system_identifier, timeline, data_directory } = self.config.owner;
        let file = OwnerFile {
            format: FORMAT,
            system_identifier: system_identifier.to_string(),
            timeline,
            data_directory: DataDirectoryFile {
                inode: data_directory.inode.to_string(),
                created: data_directory.created.to_string(),
            },
        };
        let mut json = serde_json::to_vec(&file).map_err(|e| self.corrupt(e.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}
