//! [`FsFile`] on Linux, the reading of directories, and the conversions that `os` shares with both.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self as sys, AtFlags, FileType, RawDir, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use super::fs::{Entry, EntryKind, FsFile, Stat, Visit};
use super::linux;
use crate::error::Result;

/// An open regular file.
#[derive(Debug)]
pub struct OsFile {
    fd: OwnedFd,
    /// When it was opened.
    len: u64,
}

impl OsFile {
    /// One that has just been created.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, len: 0 }
    }

    /// One that was there; refuses what is no regular file.
    pub(super) fn opened(fd: OwnedFd) -> io::Result<Self> {
        let about = retry_on_intr(|| sys::fstat(&fd))?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::RegularFile => Ok(Self { fd, len: u64::try_from(about.st_size).unwrap_or_default() }),
            FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }
}

impl FsFile for OsFile {
    fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match retry_on_intr(|| rustix::io::write(&self.fd, data))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => data = data.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.fd, &mut *buf, offset))?)
    }

    fn len_when_opened(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&retry_on_intr(|| sys::fstat(&self.fd))?))
    }

    fn write_all_at(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match retry_on_intr(|| rustix::io::pwrite(&self.fd, data, offset))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    data = data.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| sys::ftruncate(&self.fd, len))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        // No retry, not even on EINTR: after a failed fsync the next one may succeed without the lost bytes.
        Ok(sys::fdatasync(&self.fd)?)
    }

    fn start_writeback(&self, bytes: Range<u64>) -> io::Result<()> {
        linux::start_writeback(self.fd.as_fd(), bytes)
    }

    fn will_read(&self, bytes: Range<u64>) {
        if let Some(len) = NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) {
            let _ = sys::fadvise(&self.fd, bytes.start, Some(len), sys::Advice::WillNeed);
        }
    }

    fn clone_from(&self, source: &File) -> io::Result<()> {
        clone(source, &self.fd)
    }

    fn clone_to(&self, target: &File) -> io::Result<()> {
        clone(&self.fd, target)
    }

    fn set_mtime(&self, time: SystemTime) -> io::Result<()> {
        let times = modified(time)?;
        Ok(retry_on_intr(|| sys::futimens(&self.fd, &times))?)
    }
}

/// Shares all blocks of a file with an empty one.
fn clone(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    retry_on_intr(|| sys::ioctl_ficlone(&target, &source)).map_err(|errno| match errno {
        // ioctl_ficlone(2); file systems that know no such call, a source that is none of theirs, files of different flags
        Errno::OPNOTSUPP
        | Errno::NOTTY
        | Errno::NOSYS
        | Errno::XDEV
        | Errno::INVAL
        | Errno::PERM
        | Errno::TXTBSY => io::ErrorKind::Unsupported.into(),
        errno => errno.into(),
    })
}

/// Bytes of a directory that are read at once: some 400 payloads.
const DIR_BUFFER: usize = 32 * 1024;

/// Reads an open directory.
pub(super) fn read_dir(dir: &OwnedFd, visit: Visit<'_, OwnedFd>) -> io::Result<Result<()>> {
    let mut buffer = Vec::with_capacity(DIR_BUFFER);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // a signal, on a file system that can be interrupted; the next call reads the same entries
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // some file systems do not fill in d_type
            FileType::Unknown => match stat_in(dir, name) {
                Ok(stat) => stat.kind,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            },
            known => entry_kind(known),
        };
        if let Err(error) = visit(dir, Entry { name, kind }) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Looks at an entry of a directory.
pub(super) fn stat_in(dir: &OwnedFd, name: &OsStr) -> io::Result<Stat> {
    Ok(stat(&retry_on_intr(|| sys::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?))
}

/// A change of the access time alone, which the store never reads.
pub(super) const ACCESSED_NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: sys::UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT },
};

/// Sets the time of an entry's last modification.
pub(super) fn set_mtime_in(dir: &OwnedFd, name: &str, time: SystemTime) -> io::Result<()> {
    let times = modified(time)?;
    Ok(retry_on_intr(|| sys::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW))?)
}

fn entry_kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        _ => EntryKind::Other,
    }
}

/// Sets the time of last modification and no other.
fn modified(time: SystemTime) -> io::Result<Timestamps> {
    let omit = Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT };
    Ok(Timestamps { last_access: omit, last_modification: timespec(time)? })
}

fn timespec(time: SystemTime) -> io::Result<Timespec> {
    let invalid = |_| io::Error::from(Errno::INVAL);
    let (before, since) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (false, since),
        Err(e) => (true, e.duration()),
    };
    let seconds = i64::try_from(since.as_secs()).map_err(invalid)?;
    let nanos = since.subsec_nanos();
    Ok(match (before, nanos) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        // nanoseconds count forward from the second before
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: (1_000_000_000 - nanos).into() },
    })
}

/// The kernel's stat as the store's.
pub(super) fn stat(stat: &sys::Stat) -> Stat {
    Stat {
        len: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime: mtime(stat),
        kind: entry_kind(FileType::from_raw_mode(stat.st_mode)),
        inode: stat.st_ino,
        mode: stat.st_mode & 0o777,
        owned: stat.st_uid == effective_user(),
    }
}

/// Of this process, which keeps it.
pub(super) fn effective_user() -> u32 {
    static KNOWN: OnceLock<u32> = OnceLock::new();
    *KNOWN.get_or_init(|| rustix::process::geteuid().as_raw())
}

/// Last modification of a file; a time that cannot be represented counts as now, the side of keeping it.
fn mtime(stat: &sys::Stat) -> SystemTime {
    let seconds = stat.st_mtime;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    base.and_then(|t| t.checked_add(Duration::from_nanos(stat.st_mtime_nsec))).unwrap_or_else(SystemTime::now)
}
