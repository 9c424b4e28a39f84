//! Which roots this cluster has written to, remembered outside of them: a mount point whose file system is missing looks like a
//! store that nobody has used yet, and what was written there would be gone when the file system comes back.
//! A JSON list in a file of the data directory, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// Where that is remembered of one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The file.
    pub file: PathBuf,
    /// The root as it is configured.
    pub root: PathBuf,
}

impl Known {
    /// Whether this cluster has written to a store here.
    ///
    /// # Errors
    /// `Io`, `KnownCorrupt`.
    pub fn contains(&self) -> Result<bool> {
        Ok(self.read()?.contains(&self.entry()))
    }

    /// Remembers it, durably if `fsync`. A damaged list is written anew: whoever can remember a root has seen that its store is there.
    ///
    /// # Errors
    /// `Io`, `Sync`.
    pub fn remember(&self, fsync: bool) -> Result<()> {
        let mut roots = match self.read() {
            Err(Error::KnownCorrupt { .. }) => Vec::new(),
            roots => roots?,
        };
        if !roots.contains(&self.entry()) {
            roots.push(self.entry());
        }
        let temporary = self.file.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
        let written = self.write(&temporary, &roots, fsync);
        if written.is_err() {
            // The name is ours alone, and the first error is the one that matters.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write(&self, temporary: &Path, roots: &[String], fsync: bool) -> Result<()> {
        let mut json = serde_json::to_vec(roots).map_err(|e| self.corrupt(&e))?;
        json.push(b'\n');
        let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary);
        let mut file = create.map_err(|e| Error::io("create file", name(temporary), e))?;
        file.write_all(&json).map_err(|e| Error::io("write file", name(temporary), e))?;
        if fsync {
            file.sync_all().map_err(|e| Error::sync(name(temporary), e))?;
        }
        fs::rename(temporary, &self.file).map_err(|e| Error::io("rename file to", name(&self.file), e))?;
        if fsync && let Some(directory) = self.file.parent() {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|e| Error::sync(name(&self.file), e))?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Vec<String>> {
        match fs::read(&self.file) {
            Ok(json) => serde_json::from_slice(&json).map_err(|e| self.corrupt(&e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io("read file", name(&self.file), e)),
        }
    }

    /// The root as text; what is not UTF-8 is escaped.
    fn entry(&self) -> String {
        self.root.to_str().map_or_else(|| format!("{:?}", self.root), str::to_owned)
    }

    fn corrupt(&self, error: &serde_json::Error) -> Error {
        Error::KnownCorrupt { path: name(&self.file).into(), reason: error.to_string() }
    }
}

/// For messages: the data directory is for administrators to know.
fn name(file: &Path) -> &Path {
    file.file_name().map_or(file, Path::new)
}
