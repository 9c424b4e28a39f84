//! Copying one payload file where the file system refuses to link it.
//! Relies on [`Fs`]; promises that the name appears when the bytes are durable, and that no other name stays behind.

use rustix::io::Errno;
use std::io;
use uuid::Uuid;

use super::fs::{Fs, FsFile};
use super::layout::{TRASH, copy_name};
use super::paths::{found, shown};
use super::store::FileStore;
use crate::error::{Error, Result};

/// Most bytes copied between two looks at interrupts.
const CHUNK: u64 = 1 << 18;

/// What `copy_file` did.
pub(super) enum Copied {
    Done,
    /// The name was taken.
    Exists,
    /// The file, or the directory that it is to go to, is missing.
    Missing,
}

impl<F: Fs> FileStore<F> {
    /// Copies a payload's file, with its date. The new entry is not durable yet, the bytes are.
    pub(super) fn copy_file(&self, from: &str, to: &str, interrupts: &mut dyn FnMut()) -> Result<Copied> {
        let Some(source) = found(self.fs.open(from)).map_err(self.io("open file", from))? else {
            return Ok(Copied::Missing);
        };
        let stat = source.stat().map_err(self.io("stat file", from))?;
        // In TRASH, where the vacuum removes what a crash leaves of it.
        let path = self.in_database(&format!("{TRASH}/{}", copy_name(Uuid::new_v4())));
        let mut created = found(self.fs.create_new(&path));
        if matches!(created, Ok(None)) {
            self.make_dirs(&self.in_database(TRASH))?;
            created = found(self.fs.create_new(&path));
        }
        let Some(mut file) = created.map_err(self.io("create file", &path))? else {
            return Ok(Copied::Missing);
        };
        let temporary = Temporary { fs: &self.fs, path: &path };
        let mut buf = vec![0; stat.len.clamp(1, CHUNK) as usize];
        let mut offset = 0;
        loop {
            interrupts();
            let read = source.read_at(offset, &mut buf).map_err(self.io("read file", from))?;
            if read == 0 {
                break;
            }
            let bytes = buf.get(..read).unwrap_or_default();
            file.write_all(bytes).map_err(self.io("write file", &path))?;
            offset += read as u64;
        }
        // In TRASH the date counts.
        file.set_mtime(stat.mtime).map_err(self.io("set time of file", &path))?;
        if self.config.fsync {
            file.sync_data().map_err(|e| Error::sync(shown(&path), e))?;
        }
        match self.fs.rename_noreplace(&path, to) {
            Ok(()) => {
                temporary.has_its_name();
                Ok(Copied::Done)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Copied::Exists),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Copied::Missing),
            Err(e) => Err(self.io("rename file", &path)(e)),
        }
    }
}

/// A file that has not got its own name yet. Removed when dropped, also by an interrupt.
struct Temporary<'a, F: Fs> {
    fs: &'a F,
    path: &'a str,
}

impl<F: Fs> Temporary<'_, F> {
    fn has_its_name(self) {
        std::mem::forget(self);
    }
}

impl<F: Fs> Drop for Temporary<'_, F> {
    fn drop(&mut self) {
        // Best effort: no listing takes it for a payload.
        let _ = self.fs.unlink(self.path);
    }
}

/// Whether link(2) will never succeed: the file system has no links (EPERM, EOPNOTSUPP, ENOSYS), the file has too
/// many (EMLINK), the directories cannot share one (EXDEV), or the file is immutable (EPERM).
pub(super) fn refuses_links(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::MLINK | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS)
    )
}
