//! [`Fs`] on Linux. Relies on a descriptor of the root: every path is resolved beneath it, by openat2 where the
//! kernel has it and by single components otherwise; symbolic links and mount points below the root are refused.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self as sys, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::fs::{EntryKind, Fs, Rights, Stat, Visit};
use super::os_file::{self, OsFile};
use super::os_root::{self, BENEATH, mode};
use crate::error::Result;

/// Whether no mount point lies between a directory and a path below it, both without symbolic links. A bind mount is one as well, but
/// not to a kernel before 5.6, which is asked for devices.
///
/// # Errors
/// Those of open(2).
pub fn are_on_one_mount(directory: &Path, below: &Path) -> io::Result<bool> {
    os_root::are_on_one_mount(directory, below)
}

/// The file system of the operating system, beneath one root.
#[derive(Debug)]
pub struct OsFs {
    root: OwnedFd,
    path: PathBuf,
    identity: (u64, u64),
    openat2: bool,
    syncfs: bool,
    links: bool,
    may_have_created_root: bool,
    /// Files may be symbolic links or on another mount.
    trusted: bool,
    /// Of what is made.
    rights: Rights,
}

impl OsFs {
    /// Opens the root: a directory (or a link to one) that the effective user owns.
    ///
    /// With `create`, a missing last component is created. What is made gets these rights.
    ///
    /// # Errors
    /// `RootMissing`, `RootNotADirectory`, `RootNotOwned`, or `Io`.
    pub fn open(path: &Path, create: bool, rights: Rights) -> Result<Self> {
        let (root, stat) = os_root::open(path, create, rights)?;
        let openat2 = os_root::kernel_has_openat2(&root);
        Ok(Self {
            root,
            path: path.into(),
            identity: (stat.st_dev, stat.st_ino),
            openat2,
            syncfs: true,
            links: true,
            may_have_created_root: create,
            trusted: false,
            rights,
        })
    }

    /// The same root once more, if the path leads to it still; otherwise opens what it leads to now.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(super) fn open_again(self, path: &Path, create: bool, rights: Rights) -> Result<Self> {
        if self.path == path && os_root::is_still(path, self.identity) {
            Ok(Self { may_have_created_root: create, rights, ..self })
        } else {
            Self::open(path, create, rights)
        }
    }

    /// Opens a directory that is no store: the data directory, where an administrator may have put a link in place of a file.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(super) fn open_trusted(path: &Path, rights: Rights) -> Result<Self> {
        Ok(Self { trusted: true, ..Self::open(path, false, rights)? })
    }

    /// Without openat2, as on a kernel before 5.6: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn without_openat2(self) -> Self {
        Self { openat2: false, ..self }
    }

    /// Without syncfs, as on a kernel before 5.8 or an unknown file system: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn without_syncfs(self) -> Self {
        Self { syncfs: false, ..self }
    }

    /// Without hard links, as on a file system that has none: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn without_links(self) -> Self {
        Self { links: false, ..self }
    }

    fn open_at(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if self.openat2 {
            let path = if path.is_empty() { "." } else { path };
            return Ok(retry_on_intr(|| sys::openat2(&self.root, path, flags, mode, BENEATH))?);
        }
        let (dir, name) = self.parent(path)?;
        let file = retry_on_intr(|| sys::openat(dir.as_fd(), name, flags, mode))?;
        self.check_device(&file)?;
        Ok(file)
    }

    /// The directory that holds the last component of `path`, and that component.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(Dir<'_>, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = if path.is_empty() { "." } else { name };
        if dir.is_empty() {
            return Ok((Dir::Root(self.root.as_fd()), name));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.openat2 {
            return Ok((Dir::Owned(self.open_at(dir, flags, Mode::empty())?), name));
        }
        let mut at = Dir::Root(self.root.as_fd());
        for component in dir.split('/') {
            if matches!(component, "" | "." | "..") {
                return Err(Errno::INVAL.into());
            }
            let next = retry_on_intr(|| sys::openat(at.as_fd(), component, flags, Mode::empty()))?;
            self.check_device(&next)?;
            at = Dir::Owned(next);
        }
        Ok((at, name))
    }

    /// Refuses mount points, as NO_XDEV does for openat2.
    fn check_device(&self, fd: &OwnedFd) -> io::Result<()> {
        if retry_on_intr(|| sys::fstat(fd))?.st_dev == self.identity.0 {
            Ok(())
        } else {
            Err(Errno::XDEV.into())
        }
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let (old, new) = (from_dir.as_fd(), to_dir.as_fd());
        Ok(retry_on_intr(|| sys::renameat_with(old, from_name, new, to_name, flags))?)
    }
}

enum Dir<'a> {
    Root(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
        }
    }
}

impl Fs for OsFs {
    type File = OsFile;
    type SyncHandle = OwnedFd;
    type Dir = OwnedFd;

    fn root(&self) -> &Path {
        &self.path
    }

    fn rooted_in(&self, directory: &Path, rights: Rights) -> Result<Self> {
        Self::open_trusted(directory, rights)
    }

    fn identity(&self) -> (u64, u64) {
        self.identity
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        retry_on_intr(|| sys::mkdirat(dir.as_fd(), name, mode(self.rights, EntryKind::Dir)))?;
        // The umask may have taken away what the group is to have.
        if self.rights != Rights::Private {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = retry_on_intr(|| sys::openat(dir.as_fd(), name, flags, Mode::empty()))?;
            os_root::give(&made, self.rights, EntryKind::Dir)?;
        }
        Ok(())
    }

    fn create_new(&self, path: &str) -> io::Result<OsFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open_at(path, flags, mode(self.rights, EntryKind::File))?;
        if self.rights != Rights::Private {
            os_root::give(&file, self.rights, EntryKind::File)?;
        }
        Ok(OsFile::new(file))
    }

    fn open(&self, path: &str) -> io::Result<OsFile> {
        // NONBLOCK: a fifo under a payload's name must not hang the server
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = if self.trusted {
            retry_on_intr(|| sys::openat(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty()))?
        } else {
            self.open_at(path, flags, Mode::empty())?
        };
        OsFile::opened(file)
    }

    fn open_for_writing(&self, path: &str) -> io::Result<OsFile> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open_at(path, flags, Mode::empty())?;
        OsFile::opened(file)
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename(from, to, RenameFlags::NOREPLACE)
    }

    fn rename_replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename(from, to, RenameFlags::empty())
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let (old, new) = (from_dir.as_fd(), to_dir.as_fd());
        if !self.links {
            return Err(Errno::PERM.into());
        }
        Ok(retry_on_intr(|| sys::linkat(old, from_name, new, to_name, AtFlags::empty()))?)
    }

    fn link_from(&self, source: &Path, to: &str) -> io::Result<()> {
        let (dir, name) = self.parent(to)?;
        if !self.links {
            return Err(Errno::PERM.into());
        }
        Ok(retry_on_intr(|| sys::linkat(sys::CWD, source, dir.as_fd(), name, AtFlags::empty()))?)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(retry_on_intr(|| sys::unlinkat(dir.as_fd(), name, AtFlags::empty()))?)
    }

    fn rmdir(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(retry_on_intr(|| sys::unlinkat(dir.as_fd(), name, AtFlags::REMOVEDIR))?)
    }

    fn read_dir(&self, path: &str, visit: Visit<'_, OwnedFd>) -> io::Result<Result<()>> {
        os_file::read_dir(&self.open_dir(path)?, visit)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let (dir, name) = self.parent(path)?;
        let stat = retry_on_intr(|| sys::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(os_file::stat(&stat))
    }

    fn open_dir(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn stat_in(&self, dir: &OwnedFd, name: &OsStr) -> io::Result<Stat> {
        os_file::stat_in(dir, name)
    }

    fn set_mtime_in(&self, dir: &OwnedFd, name: &str, time: SystemTime) -> io::Result<()> {
        os_file::set_mtime_in(dir, name, time)
    }

    fn move_noreplace(&self, name: &str, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        Ok(retry_on_intr(|| sys::renameat_with(from, name, to, name, RenameFlags::NOREPLACE))?)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Ok(sys::fsync(&self.open_dir(path)?)?)
    }

    fn sync_root_entry(&self) -> io::Result<()> {
        if !self.may_have_created_root {
            return Ok(());
        }
        let parent = match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Cow::Borrowed(Path::new(".")),
            Some(parent) => Cow::Borrowed(parent),
            None => return Ok(()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| sys::openat(CWD, parent.as_ref(), flags, Mode::empty())) {
            Ok(parent) => Ok(sys::fsync(&parent)?),
            // A parent that this user cannot even read is not where the store made its root.
            Err(Errno::ACCESS) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn open_sync_handle(&self) -> io::Result<Option<OwnedFd>> {
        if !(self.syncfs && os_root::trusted_syncfs(&self.root)) {
            return Ok(None);
        }
        // a descriptor of its own: the kernel remembers per open file which errors it has reported
        self.open_dir("").map(Some)
    }

    fn syncfs(&self, handle: &OwnedFd) -> io::Result<()> {
        sys::syncfs(handle)?;
        // A file system without a journal may flush the device's cache before it writes its metadata. An fsync does
        // not; that of the root has nothing else left to do.
        sys::fsync(handle)?;
        // A file system that has shut down, or aborted its journal, may let both succeed, but refuses every new
        // change, such as this one, which need not be durable.
        retry_on_intr(|| sys::futimens(handle, &os_file::ACCESSED_NOW))?;
        if sys::fstatvfs(handle)?.f_flag.contains(sys::StatVfsMountFlags::RDONLY) {
            return Err(Errno::ROFS.into());
        }
        Ok(())
    }
}
