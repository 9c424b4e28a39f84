//! The payload files of a database in a directory of the same layout: hard links, or clones or copies where links are refused.
//! Payload files never change, so that one which is there already, with as many bytes, is left alone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{OFlags, ioctl_ficlone, syncfs};
use rustix::process::geteuid;

use crate::error::Error;

/// What became of the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Hard links.
    pub linked: u64,
    /// Clones and copies.
    pub copied: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Files that were there.
    pub present: u64,
}

/// Makes the directory, and an error of what would only come to light after the dump: no store here, or no right to it.
pub fn prepare(from: &Path, to: &Path) -> Result<(), Error> {
    let root = from.parent().unwrap_or(from);
    fs::read_dir(root).map_err(Error::io("read the store, which is on the server's machine,", root))?;
    let within = |path: &Path| {
        path.canonicalize().is_ok_and(|path| root.canonicalize().is_ok_and(|root| path.starts_with(root)))
    };
    if within(to) || to.parent().is_some_and(within) {
        return Err(Error::said(format!("\"{}\" is in the store itself", to.display())));
    }
    make(if from.exists() { from } else { root }, to)
}

/// Gives a directory the files of another one, LIVE and TRASH, and flushes it to the disk.
pub fn give(from: &Path, to: &Path, copy: bool) -> Result<Given, Error> {
    let mut given = Given::default();
    prepare(from, to)?;
    // A file may be brought back from TRASH behind the reader's back: the second time it is found where it is then.
    for _ in 0..2 {
        given.present = 0;
        directory(from, to, copy, &mut given)?;
    }
    given.present = given.present.saturating_sub(given.linked + given.copied);
    let directory = File::open(to).map_err(Error::io("open directory", to))?;
    syncfs(&directory).map_err(Error::errno("flush", to))?;
    Ok(given)
}

fn directory(from: &Path, to: &Path, copy: bool, given: &mut Given) -> Result<(), Error> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        // The vacuum removes empty directories; a database that has stored nothing has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read directory", from)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("read directory", from))?;
        let kind = entry.file_type().map_err(Error::io("look at", &entry.path()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            make(&source, &target)?;
            directory(&source, &target, copy, given)?;
        } else if kind.is_file() {
            match file(&source, &target, copy, given) {
                // Garbage that the vacuum has moved or deleted meanwhile.
                Err(_)
                    if fs::symlink_metadata(&source)
                        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Makes a directory that only the owner of the other one may read.
fn make(like: &Path, path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Error::io("make directory", path)(error)),
    }
    let made = File::open(path).map_err(Error::io("open directory", path))?;
    own(like, &made, path)
}

/// Gives something to the owner of a file of the store, which root can do and has to, for the server to read it.
fn own(like: &Path, made: &File, path: &Path) -> Result<(), Error> {
    if !geteuid().is_root() {
        return Ok(());
    }
    // What has been removed meanwhile is not needed.
    let Ok(about) = fs::symlink_metadata(like) else { return Ok(()) };
    fchown(made, Some(about.uid()), Some(about.gid())).map_err(Error::io("change the owner of", path))
}

fn file(source: &Path, target: &Path, copy: bool, given: &mut Given) -> Result<(), Error> {
    let about = fs::symlink_metadata(source).map_err(Error::io("look at", source))?;
    if let Ok(there) = fs::symlink_metadata(target) {
        if there.is_file() && there.len() == about.len() {
            given.present += 1;
            return Ok(());
        }
        return Err(Error::said(format!("\"{}\" is not the file of the store", target.display())));
    }
    if !copy {
        match fs::hard_link(source, target) {
            Ok(()) => {
                given.linked += 1;
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::io("link", source)(error));
            }
            // Another file system, too many links, a file of somebody else.
            Err(_) => {}
        }
    }
    given.bytes += clone(source, target)?;
    given.copied += 1;
    Ok(())
}

/// A clone, or a copy, which appears under its name when it is complete.
fn clone(source: &Path, target: &Path) -> Result<u64, Error> {
    let mut from = File::options()
        .read(true)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
        .open(source)
        .map_err(Error::io("open", source))?;
    let unfinished = target.with_extension("unfinished");
    let result = (|| {
        let mut to = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(Error::io("create", &unfinished))?;
        let len = match ioctl_ficlone(&to, &from) {
            Ok(()) => from.metadata().map_err(Error::io("look at", source))?.len(),
            Err(_) => io::copy(&mut from, &mut to).map_err(Error::io("write", &unfinished))?,
        };
        own(source, &to, &unfinished)?;
        fs::rename(&unfinished, target).map_err(Error::io("rename a file to", target))?;
        Ok(len)
    })();
    if result.is_err() {
        // The first error counts.
        let _ = fs::remove_file(&unfinished);
    }
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("5/000000000001/ab/a", "one"), ("5/TRASH/b", "four")] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        }
        dir
    }

    #[test]
    fn files_are_linked_and_those_that_are_there_are_left_alone() {
        let (store, target) = (store(), tempfile::tempdir().unwrap());
        let to = target.path().join("payloads");
        let linked = give(&store.path().join("5"), &to, false).unwrap();
        assert_eq!(linked, Given { linked: 2, ..Given::default() });
        assert_eq!(fs::metadata(to.join("TRASH/b")).unwrap().nlink(), 2);
        assert_eq!(
            give(&store.path().join("5"), &to, false).unwrap(),
            Given { present: 2, ..Given::default() }
        );
    }

    #[test]
    fn a_database_without_payloads_has_no_directory_but_a_store() {
        let (store, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let to = target.path().join("payloads");
        assert_eq!(give(&store.path().join("5"), &to, false).unwrap(), Given::default());
        assert!(give(&store.path().join("elsewhere/5"), &to, false).is_err());
    }

    #[test]
    fn copies_are_files_of_their_own() {
        let (store, target) = (store(), tempfile::tempdir().unwrap());
        let to = target.path().join("payloads");
        assert_eq!(
            give(&store.path().join("5"), &to, true).unwrap(),
            Given { copied: 2, bytes: 7, ..Given::default() }
        );
        let copy = to.join("000000000001/ab/a");
        assert_eq!(fs::read_to_string(&copy).unwrap(), "one");
        assert_eq!(fs::metadata(&copy).unwrap().nlink(), 1);
        fs::write(&copy, "another length").unwrap();
        assert!(give(&store.path().join("5"), &to, true).is_err(), "a file that is not the store's");
    }
}
