//! The file system as the store sees it: primitive operations on '/'-separated paths relative to the root.
//! An implementation never follows a symbolic link below the root and retries EINTR itself. What must be
//! durable goes through `publish` or the functions in `sync`, so that no call site can forget an fsync.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use rustix::io::Errno;

use super::layout::copy_name;
use crate::error::{Error, Result};

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: a symbolic link, a socket, …
    Other,
}

/// One entry of a directory, without `.` and `..`.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a OsStr,
    /// What it is; a symbolic link is [`EntryKind::Other`], whatever it points to.
    pub kind: EntryKind,
}

/// What the store needs to know about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Bytes in the file.
    pub len: u64,
    /// Last modification.
    pub mtime: SystemTime,
    /// What the path is.
    pub kind: EntryKind,
    /// Number of the inode.
    pub inode: u64,
    /// Permission bits: those of the owner, the group and the others.
    pub mode: u32,
    /// Whether the effective user owns it.
    pub owned: bool,
}

impl Stat {
    /// Whether it is the effective user's and has the rights that the store gives; what the group may do, it need not.
    pub fn has(&self, rights: Rights) -> bool {
        let [least, most] = [Rights::Private, rights].map(|rights| rights.of(self.kind));
        self.owned && self.mode & least == least && self.mode & !most == 0
    }
}

/// What the store's directories and files allow: reading and writing to their owner, and nothing to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nothing to the group: 0700 and 0600.
    #[default]
    Private,
    /// Reading to the group, as in a data directory that was made with `initdb --allow-group-access`: 0750 and 0640.
    GroupReads,
}

impl Rights {
    /// The permission bits.
    pub fn of(self, kind: EntryKind) -> u32 {
        match (kind, self) {
            (EntryKind::Dir, Self::Private) => 0o700,
            (EntryKind::Dir, Self::GroupReads) => 0o750,
            (_, Self::Private) => 0o600,
            (_, Self::GroupReads) => 0o640,
        }
    }
}

/// A file system, rooted in the store's root directory.
///
/// Every path is relative to the root, its components separated by '/'; the empty path is the root.
/// Errors are the operating system's own, so that `ErrorKind` and errno are meaningful.
pub trait Fs: Send + Sync + Sized + 'static {
    /// An open file.
    type File: FsFile + 'static;
    /// What [`syncfs`](Self::syncfs) works through.
    type SyncHandle: Send + Sync + 'static;
    /// An open directory. Its entries are named without looking up its path again.
    type Dir: 'static;

    /// The root, for messages.
    fn root(&self) -> &Path;
    /// The same file system, rooted in another directory that exists and that the effective user owns: the data
    /// directory, which has the list of the roots that a cluster has written to. What is made there gets these rights.
    ///
    /// # Errors
    /// As for opening the root.
    fn rooted_in(&self, directory: &Path, rights: Rights) -> Result<Self>;
    /// Device and inode of the root.
    fn identity(&self) -> (u64, u64);
    /// Creates a directory.
    fn mkdir(&self, path: &str) -> io::Result<()>;
    /// Creates a regular file for writing; `AlreadyExists` when the name is taken by anything.
    fn create_new(&self, path: &str) -> io::Result<Self::File>;
    /// Opens a regular file for reading; anything else is an error, and opening it does not block.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Opens a regular file for reading and writing; anything else is an error, and opening it does not block.
    fn open_for_writing(&self, path: &str) -> io::Result<Self::File>;
    /// Renames; `AlreadyExists` when `to` exists.
    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()>;
    /// Renames, atomically replacing `to`.
    fn rename_replace(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name, without following a link; `AlreadyExists` when `to` exists.
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file of the operating system, anywhere, a name here, without following a link at its end; `AlreadyExists` when `to` exists.
    fn link_from(&self, source: &Path, to: &str) -> io::Result<()> {
        let _ = (source, to);
        Err(Errno::OPNOTSUPP.into())
    }
    /// Removes a file's name.
    fn unlink(&self, path: &str) -> io::Result<()>;
    /// Removes an empty directory; `DirectoryNotEmpty` otherwise.
    fn rmdir(&self, path: &str) -> io::Result<()>;
    /// Reads a directory entry by entry, in no particular order. The inner result is that of `visit`, after whose
    /// first error nothing more is read.
    fn read_dir(&self, path: &str, visit: Visit<'_, Self::Dir>) -> io::Result<Result<()>>;
    /// Looks at a path without following a link.
    fn stat(&self, path: &str) -> io::Result<Stat>;
    /// Opens a directory. What happens to a directory of the same path later does not happen to this one.
    fn open_dir(&self, path: &str) -> io::Result<Self::Dir>;
    /// Looks at an entry of a directory without following a link.
    fn stat_in(&self, dir: &Self::Dir, name: &OsStr) -> io::Result<Stat>;
    /// Sets the time of an entry's last modification, without following a link.
    fn set_mtime_in(&self, dir: &Self::Dir, name: &str, time: SystemTime) -> io::Result<()>;
    /// Moves an entry to another directory; `AlreadyExists` when that has one of the same name.
    fn move_noreplace(&self, name: &str, from: &Self::Dir, to: &Self::Dir) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Makes the root's own entry in its parent durable, if the store may have created the root.
    fn sync_root_entry(&self) -> io::Result<()>;
    /// Opens what [`syncfs`](Self::syncfs) needs, or `None` where a syncfs could not be trusted.
    ///
    /// From then on the handle collects the write-back errors of the whole file system.
    fn open_sync_handle(&self) -> io::Result<Option<Self::SyncHandle>>;
    /// Makes everything in the file system durable; fails as well for what has been lost since the
    /// handle was opened.
    fn syncfs(&self, handle: &Self::SyncHandle) -> io::Result<()>;
}

/// What looks at the entries of a directory, which is its first argument.
pub type Visit<'a, Dir> = &'a mut dyn FnMut(&Dir, Entry<'_>) -> Result<()>;

/// An open regular file.
pub trait FsFile {
    /// Appends all of `data`.
    fn write_all(&mut self, data: &[u8]) -> io::Result<()>;
    /// Writes all of `data` at an offset.
    fn write_all_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Reads at an offset, up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Its length, times, kind and rights.
    fn stat(&self) -> io::Result<Stat>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64> {
        Ok(self.stat()?.len)
    }
    /// Its length when it was opened.
    fn len_when_opened(&self) -> io::Result<u64> {
        self.len()
    }
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts it to zero bytes.
    fn truncate(&self) -> io::Result<()> {
        self.set_len(0)
    }
    /// Cuts it to so many bytes, or appends zeros up to them.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes its bytes and length durable; fails as well for what has been lost since it was opened.
    fn sync_data(&self) -> io::Result<()>;
    /// Has the kernel begin to write these bytes back. After an error they are lost, and no later call need report it.
    fn start_writeback(&self, bytes: Range<u64>) -> io::Result<()>;
    /// Has the kernel begin to read these bytes; best effort.
    fn will_read(&self, bytes: Range<u64>) {
        let _ = bytes;
    }
    /// Gives this empty file all bytes of another one, which share their blocks from then on (FICLONE); `Unsupported` where the file
    /// systems cannot.
    fn clone_from(&self, source: &File) -> io::Result<()> {
        let _ = source;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The same the other way round.
    fn clone_to(&self, target: &File) -> io::Result<()> {
        let _ = target;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sets the time of its last modification.
    fn set_mtime(&self, time: SystemTime) -> io::Result<()>;
}

/// How [`publish`] treats a name that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    Yes,
    No,
}

/// Writes a small file in the root so that it is seen whole or not at all, durable on return. `shown` is what errors
/// call the root.
///
/// Returns false if the name existed and was to be kept.
pub(super) fn publish<F: Fs>(
    fs: &F,
    shown: &Path,
    name: &str,
    bytes: &[u8],
    replace: Replace,
    fsync: bool,
) -> Result<bool> {
    let temporary = format!("{name}.{}", copy_name(uuid::Uuid::new_v4()));
    let result = publish_as(fs, shown, &temporary, name, bytes, replace, fsync);
    if !matches!(result, Ok(true)) {
        // Best effort: no other call uses this name, and the first error is the one to report.
        let _ = fs.unlink(&temporary);
    }
    result
}

fn publish_as<F: Fs>(
    fs: &F,
    shown: &Path,
    tmp: &str,
    name: &str,
    bytes: &[u8],
    replace: Replace,
    fsync: bool,
) -> Result<bool> {
    let at = |path: &str| shown.join(path);
    let mut file = fs.create_new(tmp).map_err(|e| Error::io("create file", at(tmp), e))?;
    file.write_all(bytes).map_err(|e| Error::io("write file", at(tmp), e))?;
    if fsync {
        file.sync_data().map_err(|e| Error::sync(at(tmp), e))?;
    }
    let renamed = match replace {
        Replace::Yes => fs.rename_replace(tmp, name),
        Replace::No => fs.rename_noreplace(tmp, name),
    };
    match renamed {
        Ok(()) => {}
        Err(e) if replace == Replace::No && e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(Error::io("rename file to", at(name), e)),
    }
    if fsync {
        let directory = if shown.as_os_str().is_empty() { at(name) } else { shown.into() };
        fs.sync_dir("").map_err(|e| Error::sync(directory, e))?;
    }
    Ok(true)
}

/// The bytes of a small file; one more than `max` of them at least if it has more.
pub(super) fn read_small(file: &impl FsFile, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let read = file.read_at(bytes.len() as u64, &mut buf)?;
        bytes.extend_from_slice(buf.get(..read).unwrap_or_default());
        if read == 0 || bytes.len() as u64 > max {
            return Ok(bytes);
        }
    }
}
