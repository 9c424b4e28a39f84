//! Names of rows as paths below a directory: whatever a row says, nothing outside of that directory is touched.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, mkdirat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::error::Error;

/// The directories and the file that a name means; an error says why it must not.
pub fn components(name: &str) -> Result<Vec<&str>, Error> {
    let refused = |why: &str| Err(Error::said(format!("name {name:?} is refused: {why}")));
    if name.is_empty() {
        return refused("it is empty");
    }
    if name.contains('\0') {
        return refused("it has a zero byte");
    }
    if name.starts_with('/') {
        return refused("it is an absolute path");
    }
    let parts: Vec<&str> = name.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return refused("a part of it is empty, \".\" or \"..\"");
    }
    Ok(parts)
}

/// A directory that files are written to.
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Directory {
    /// One that exists.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = openat(CWD, path, DIRECTORY, Mode::empty()).map_err(Error::errno("open directory", path))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The same once more.
    pub fn again(&self) -> Result<Self, Error> {
        let fd = self.fd.try_clone().map_err(Error::io("open directory", &self.path))?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// A directory in it, made if need be; a symbolic link is none.
    fn enter(&self, name: &str) -> Result<Self, Error> {
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::errno("make directory", &path)(error)),
        }
        let fd = openat(&self.fd, name, DIRECTORY.union(OFlags::NOFOLLOW), Mode::empty())
            .map_err(Error::errno("open directory", &path))?;
        Ok(Self { fd, path })
    }

    /// The directory of a name's file, made if need be, and the file's name in it.
    pub fn place<'a>(&self, name: &'a str) -> Result<(Self, &'a str), Error> {
        let parts = components(name)?;
        let (file, directories) = parts.split_last().ok_or_else(|| Error::said("an empty name"))?;
        let mut directory = self.again()?;
        for part in directories {
            directory = directory.enter(part)?;
        }
        Ok((directory, file))
    }

    /// Starts a file that will have this name once it is complete. One that is there is an error unless it is to be replaced.
    pub fn create(self, name: &str, replace: bool) -> Result<(Unfinished, std::fs::File), Error> {
        let target = self.path.join(name);
        if !replace && rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(exists(&target));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let unfinished = format!(".rbytea-{}-{number}", std::process::id());
            match openat(&self.fd, &unfinished, flags, Mode::from_raw_mode(0o666)) {
                Ok(fd) => {
                    let guard = Unfinished { directory: self, unfinished, name: name.to_owned(), replace };
                    return Ok((guard, fd.into()));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::errno("create a file beside", &target)(error)),
            }
        }
    }
}

fn exists(path: &Path) -> Error {
    Error::said(format!("file \"{}\" exists already; --force replaces it", path.display()))
}

/// A file that is not complete: removed when dropped.
pub struct Unfinished {
    directory: Directory,
    unfinished: String,
    name: String,
    replace: bool,
}

impl Unfinished {
    /// Gives the file, now complete, its name.
    pub fn finish(self) -> Result<(), Error> {
        let Self { directory: Directory { fd, path }, unfinished, name, replace } = &self;
        let target = path.join(name);
        let renamed = if *replace {
            renameat(fd, unfinished, fd, name)
        } else {
            match renameat_with(fd, unfinished, fd, name, RenameFlags::NOREPLACE) {
                // A file system that cannot refuse to overwrite can refuse a second link.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    linkat(fd, unfinished, fd, name, AtFlags::empty())
                }
                other => other,
            }
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(exists(&target)),
            Err(error) => Err(Error::errno("rename a file to", &target)(error)),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone once it has its name.
        let _ = unlinkat(&self.directory.fd, &self.unfinished, AtFlags::empty());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert_eq!(components("a/b c/..d").unwrap(), ["a", "b c", "..d"]);
        for name in ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "a\0b"] {
            assert!(components(name).is_err(), "{name:?}");
        }
    }

    fn write(root: &Path, name: &str, text: &str, replace: bool) -> Result<(), Error> {
        let (directory, file) = Directory::open(root)?.place(name)?;
        let (unfinished, mut written) = directory.create(file, replace)?;
        written.write_all(text.as_bytes()).unwrap();
        unfinished.finish()
    }

    #[test]
    fn files_appear_complete_and_replace_nothing_unasked() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/b", "one", false).unwrap();
        assert!(write(dir.path(), "a/b", "two", false).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("a/b")).unwrap(), "one");
        write(dir.path(), "a/b", "two", true).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a/b")).unwrap(), "two");
        // One that comes meanwhile is not overwritten, and nothing unfinished is left.
        let (directory, file) = Directory::open(dir.path()).unwrap().place("c").unwrap();
        let (unfinished, _) = directory.create(file, false).unwrap();
        fs::write(dir.path().join("c"), "another").unwrap();
        assert!(unfinished.finish().is_err());
        assert_eq!(fs::read_to_string(dir.path().join("c")).unwrap(), "another");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn links_are_not_followed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        assert!(write(dir.path(), "link/file", "x", true).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
