//! Which roots this cluster has written to, remembered outside of them: a mount point whose file system is missing
//! looks like a store that no session has used yet, and what was written there would be gone when the file system
//! comes back. A JSON list in a file of the data directory, written whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use super::fs::{Fs, Replace, Rights, publish, read_small};
use super::os::OsFs;
use super::paths::found;
use crate::error::{Error, Result};

/// Where a cluster remembers that it has written to one root. The file may be a symbolic link; a change replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRegistry {
    /// The data directory.
    pub directory: PathBuf,
    /// Name of the file in it.
    pub file: &'static str,
    /// What the file gets.
    pub rights: Rights,
    /// The root as it is configured.
    pub root: PathBuf,
}

impl RootRegistry {
    /// Whether this cluster has written to a store here.
    ///
    /// # Errors
    /// `Io`, `RegistryCorrupt`.
    pub fn contains(&self) -> Result<bool> {
        self.listed(&OsFs::open_trusted(&self.directory, self.rights).map_err(|e| self.unreachable(e))?)
    }

    /// The same where the data directory is in the file system that `near` is of.
    #[doc(hidden)]
    pub fn contains_on<F: Fs>(&self, near: &F) -> Result<bool> {
        self.listed(&self.data_directory(near)?)
    }

    fn data_directory<F: Fs>(&self, near: &F) -> Result<F> {
        near.rooted_in(&self.directory, self.rights).map_err(|e| self.unreachable(e))
    }

    /// The data directory could not be opened. It is for administrators to know, and it is not the store's root.
    fn unreachable(&self, error: Error) -> Error {
        let source = match error {
            Error::Io { source, .. } => source,
            Error::RootMissing { .. } => io::ErrorKind::NotFound.into(),
            Error::RootNotADirectory { .. } => io::ErrorKind::NotADirectory.into(),
            _ => io::ErrorKind::PermissionDenied.into(),
        };
        Error::io("open file", self.file, source)
    }

    fn listed<F: Fs>(&self, fs: &F) -> Result<bool> {
        Ok(self.read(fs)?.contains(&self.entry()))
    }

    /// Adds the root, durably if `fsync`. A damaged list is written anew: the caller has seen that the store is there.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    #[doc(hidden)]
    pub fn add<F: Fs>(&self, near: &F, fsync: bool) -> Result<()> {
        let fs = self.data_directory(near)?;
        let mut roots = match self.read(&fs) {
            Err(Error::RegistryCorrupt { .. }) => Vec::new(),
            roots => roots?,
        };
        if !roots.contains(&self.entry()) {
            roots.push(self.entry());
        }
        let mut json = serde_json::to_vec(&roots).map_err(|e| self.corrupt(&e))?;
        json.push(b'\n');
        // Without the data directory, which is for administrators to know.
        publish(&fs, Path::new(""), self.file, &json, Replace::Yes, fsync).map(drop)
    }

    fn read<F: Fs>(&self, fs: &F) -> Result<Vec<String>> {
        let error = |op| move |e| Error::io(op, self.file, e);
        match found(fs.open(self.file)).map_err(error("open file"))? {
            Some(file) => {
                let json = read_small(&file, u64::MAX).map_err(error("read file"))?;
                serde_json::from_slice(&json).map_err(|e| self.corrupt(&e))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The root as text; what is not UTF-8 is escaped.
    fn entry(&self) -> String {
        self.root.to_str().map_or_else(|| format!("{:?}", self.root), str::to_owned)
    }

    fn corrupt(&self, error: &serde_json::Error) -> Error {
        Error::RegistryCorrupt { path: self.file.into(), reason: error.to_string() }
    }
}
