//! The root of a store on Linux: opening it, with the reason where that fails, and what can be done beneath it.

use rustix::fd::OwnedFd;
use rustix::fs::{self as sys, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use super::fs::{EntryKind, Rights};
use super::os_file::effective_user;
use crate::error::{Error, Result};

/// A mount point below the root would break the renames between LIVE and TRASH, and one syncfs would not
/// reach it; hence NO_XDEV.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// File systems (`f_type` of statfs(2)) whose syncfs writes data and metadata of every file: ext4 (and ext2, whose
/// number is the same), XFS, btrfs. Others are known not to (FUSE sends nothing to its server, f2fs does not report a
/// checkpoint that failed) or unknown.
const TRUSTED_SYNCFS: [u64; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];

/// Opens the root, and makes it first if it is missing and `create` says so.
pub(super) fn open(path: &Path, create: bool, rights: Rights) -> Result<(OwnedFd, sys::Stat)> {
    let root = match open_root(path) {
        Err(Errno::NOENT) if create => {
            match retry_on_intr(|| sys::mkdir(path, mode(rights, EntryKind::Dir))) {
                // The umask may have taken away what the group is to have. Should somebody have exchanged the
                // directory, its owner is looked at below.
                Ok(()) if rights != Rights::Private => {
                    let made = open_root(path).map_err(|e| not_opened(path, e))?;
                    give(&made, rights, EntryKind::Dir)
                        .map_err(|e| Error::io("change mode of directory", path, e))?;
                }
                // ENOENT, ENOTDIR: without a parent directory it stays missing, which is the error of the second open
                Ok(()) | Err(Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => return Err(Error::io("create directory", path, e.into())),
            }
            open_root(path)
        }
        opened => opened,
    };
    let root = root.map_err(|e| not_opened(path, e))?;
    let stat =
        retry_on_intr(|| sys::fstat(&root)).map_err(|e| Error::io("stat directory", path, e.into()))?;
    check_root(path, &stat)?;
    Ok((root, stat))
}

/// Whether the path leads to this root still, and the effective user owns it.
pub(super) fn is_still(path: &Path, identity: (u64, u64)) -> bool {
    retry_on_intr(|| sys::stat(path))
        .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == identity && check_root(path, &stat).is_ok())
}

pub(super) fn are_on_one_mount(directory: &Path, below: &Path) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let above = retry_on_intr(|| sys::open(directory, flags, Mode::empty()))?;
    if !kernel_has_openat2(&above) {
        let [above, below] = [directory, below].map(|path| retry_on_intr(|| sys::stat(path)));
        return Ok(above?.st_dev == below?.st_dev);
    }
    let rest = below.strip_prefix(directory).unwrap_or(below);
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    match retry_on_intr(|| sys::openat2(&above, rest, flags, Mode::empty(), BENEATH)) {
        Ok(_) => Ok(true),
        Err(Errno::XDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// As the operating system has it.
pub(super) fn mode(rights: Rights, kind: EntryKind) -> Mode {
    Mode::from_raw_mode(rights.of(kind))
}

/// Gives what was just made its rights, whatever the umask is. A directory keeps the set-group-ID bit that it has from its
/// parent, so that the group is the same all the way down.
pub(super) fn give(made: &OwnedFd, rights: Rights, kind: EntryKind) -> io::Result<()> {
    let has = Mode::from_raw_mode(retry_on_intr(|| sys::fstat(made))?.st_mode);
    if !has.contains(mode(rights, kind)) {
        retry_on_intr(|| sys::fchmod(made, has | mode(rights, kind)))?;
    }
    Ok(())
}

fn check_root(path: &Path, stat: &sys::Stat) -> Result<()> {
    if !sys::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Error::RootNotADirectory { path: path.into() });
    }
    let expected = effective_user();
    if stat.st_uid != expected {
        return Err(Error::RootNotOwned { path: path.into(), found: stat.st_uid, expected });
    }
    Ok(())
}

fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| sys::openat(CWD, path, flags, Mode::empty()))
}

/// Why the root could not be opened; of another user's directory of mode 0700 the wrong owner, not EACCES.
fn not_opened(path: &Path, error: Errno) -> Error {
    // The error of that moment: another backend may have made it since, so it is not looked at again.
    if error == Errno::NOENT {
        return Error::RootMissing { path: path.into() };
    }
    match retry_on_intr(|| sys::stat(path)) {
        Err(Errno::NOTDIR) => Error::RootNotADirectory { path: path.into() },
        Err(e) => Error::io("stat directory", path, e.into()),
        Ok(stat) => match check_root(path, &stat) {
            Err(e) => e,
            Ok(()) => Error::io("open directory", path, error.into()),
        },
    }
}

/// Whether openat2 can be used. Old kernels answer ENOSYS, some sandboxes EPERM or EINVAL. Asked once in the life of
/// a process, and about the root: later on EPERM and EINVAL could be about a file.
pub(super) fn kernel_has_openat2(root: &OwnedFd) -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    ANSWER.get().copied().unwrap_or_else(|| {
        match sys::openat2(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
            Ok(_) => *ANSWER.get_or_init(|| true),
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => *ANSWER.get_or_init(|| false),
            // Such as EMFILE, which need not be the answer of the next call.
            Err(_) => false,
        }
    })
}

/// Linux reports write-back errors from syncfs since 5.8 (commit 735e4ae5ba28).
fn kernel_reports_syncfs_errors() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
    })
}

/// Whether a syncfs there can be trusted.
pub(super) fn trusted_syncfs(root: &OwnedFd) -> bool {
    // whether f_type is signed and how wide it is depends on the architecture; the magic numbers have 32 bits
    kernel_reports_syncfs_errors()
        && sys::fstatfs(root).is_ok_and(|fs| TRUSTED_SYNCFS.contains(&(fs.f_type as u64 & 0xFFFF_FFFF)))
}
