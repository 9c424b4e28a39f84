//! Where a payload's file is looked for: in LIVE, in TRASH, and in LIVE again (I7). Relies on moves that keep one
//! name at every moment; promises that a file which another process moves meanwhile is found.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::fs::{EntryKind, Fs, FsFile};
use super::paths::{cloned, found, shown};
use super::store::FileStore;
use crate::backend::{Located, Stored};
use crate::error::{Error, Result};
use crate::payload::PayloadId;

impl<F: Fs> FileStore<F> {
    /// What `look` finds, in LIVE, else in TRASH, else in LIVE again, because another process may move the file
    /// between two looks (I7); and whether that was in TRASH.
    fn look_for<T>(
        &self,
        id: &PayloadId,
        mut look: impl FnMut(&str) -> Result<Option<T>>,
    ) -> Result<Option<(T, bool)>> {
        for in_trash in [false, true, false] {
            let path = if in_trash { self.trashed(id) } else { self.live(id) };
            if let Some(what) = look(&path)? {
                return Ok(Some((what, in_trash)));
            }
        }
        Ok(None)
    }

    /// Opens a payload's file.
    pub(super) fn open_file(&self, id: &PayloadId) -> Result<Option<StoredFile<F>>> {
        let opened = self.look_for(id, |path| {
            let file = found(self.fs.open(path)).map_err(self.io("open file", path))?;
            Ok(file.map(|file| (file, shown(path))))
        })?;
        Ok(opened.map(|((file, path), in_trash)| StoredFile { file, path, in_trash }))
    }

    /// Where a payload's file is, whatever has its name.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn locate_file(&self, id: &PayloadId) -> Result<Option<Located>> {
        let located = self.look_for(id, |path| {
            let stat = found(self.fs.stat(path)).map_err(self.io("stat file", path))?;
            Ok(stat.map(|stat| (stat, shown(path))))
        })?;
        Ok(located.map(|((stat, path), in_trash)| Located {
            path,
            in_trash,
            len: (stat.kind == EntryKind::File).then_some(stat.len),
            as_given: stat.has(self.config.rights),
        }))
    }
}

/// The open file of a payload.
pub(super) struct StoredFile<F: Fs> {
    file: F::File,
    /// Below the root.
    path: PathBuf,
    in_trash: bool,
}

impl<F: Fs> Stored for StoredFile<F> {
    fn len(&self) -> Result<u64> {
        self.file.len_when_opened().map_err(|e| Error::io("stat file", &self.path, e))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.file.read_at(offset, buf).map_err(|e| Error::io("read file", &self.path, e))
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.file.will_read(offset..offset.saturating_add(len));
    }

    fn clone_to(&self, file: &File) -> Result<bool> {
        cloned(self.file.clone_to(file)).map_err(|e| Error::io("clone file", &self.path, e))
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn in_trash(&self) -> bool {
        self.in_trash
    }
}
