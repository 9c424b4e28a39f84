//! The root: a directory that the server's user owns, or a clear error.

use crate::support::{commit, config, open, read};
use rbytea_store::file::Report;
use rbytea_store::file::fs::Fs;
use rbytea_store::file::os::OsFs;
use rbytea_store::{Backend, Config, Error, Kind, Rights, Writer};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

#[test]
fn a_missing_root_is_an_error_and_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let error = open(config(&root)).unwrap_err();
    assert!(matches!(&error, Error::RootMissing { path } if *path == root), "{error}");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains(root.to_str().unwrap()) && error.hint().is_some());
    assert!(!root.exists());
}

#[test]
fn a_missing_root_is_made_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let with_create = || Config { create_root: true, ..config(&root) };
    let store = open(with_create()).unwrap();
    assert_eq!(root.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let payload = commit(&store, 1, b"x");
    assert_eq!(read(&open(with_create()).unwrap(), &payload).unwrap(), b"x");
}

#[test]
fn only_the_last_component_of_the_root_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b");
    let error = open(Config { create_root: true, ..config(&root) }).unwrap_err();
    assert!(matches!(error, Error::RootMissing { .. }), "{error}");
    assert!(!dir.path().join("a").exists());
}

#[test]
fn a_root_that_is_a_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    std::fs::write(&root, b"").unwrap();
    for create_root in [false, true] {
        for path in [root.clone(), root.join("below")] {
            let error = open(Config { create_root, ..config(&path) }).unwrap_err();
            assert!(matches!(error, Error::RootNotADirectory { .. }), "{path:?}: {error}");
        }
    }
}

#[test]
fn a_root_that_another_user_owns_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let me = dir.path().metadata().unwrap().uid();
    // The superuser can chown a directory; for other users there is one in the root of the file system.
    let (root, owner) = if me == 0 {
        chown(dir.path(), Some(12345), None).unwrap();
        (dir.path(), 12345)
    } else {
        (std::path::Path::new("/"), 0)
    };
    for create_root in [false, true] {
        let error = open(Config { create_root, ..config(root) }).unwrap_err();
        let Error::RootNotOwned { found, expected, .. } = &error else { panic!("{error}") };
        assert_eq!((*found, *expected), (owner, me));
        assert!(error.detail().unwrap().contains(&owner.to_string()));
    }
}

#[test]
fn a_link_to_a_directory_is_accepted_as_root() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let payload = commit(&open(config(&link)).unwrap(), 1, b"x");
    assert_eq!(read(&open(config(&real)).unwrap(), &payload).unwrap(), b"x");
}

#[test]
fn a_dangling_link_is_a_missing_root() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("nowhere"), &link).unwrap();
    for create_root in [false, true] {
        let error = open(Config { create_root, ..config(&link) }).unwrap_err();
        assert!(matches!(error, Error::RootMissing { .. }), "{error}");
    }
}

#[test]
fn a_root_removed_under_an_open_store_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    std::fs::create_dir(&root).unwrap();
    let store = open(config(&root)).unwrap();
    store.adopt().unwrap();
    commit(&store, 1, b"x");
    std::fs::remove_dir_all(&root).unwrap();
    let error = Writer::begin(&store, 1, None).unwrap_err();
    assert!(matches!(error, Error::RootMissing { .. }), "{error}");
}

#[test]
fn a_store_keeps_to_the_root_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (root, moved) = (dir.path().join("store"), dir.path().join("moved"));
    std::fs::create_dir(&root).unwrap();
    let store = open(config(&root)).unwrap();
    let before = commit(&store, 1, b"before");
    std::fs::rename(&root, &moved).unwrap();
    let after = commit(&store, 1, b"after");
    let store = open(config(&moved)).unwrap();
    assert_eq!(read(&store, &before).unwrap(), b"before");
    assert_eq!(read(&store, &after).unwrap(), b"after");
}

#[test]
fn a_mount_point_below_the_root_is_refused() {
    // /proc below / is the one mount point that is there for every user; only the superuser owns /
    let root = std::path::Path::new("/");
    let opened = OsFs::open(root, false, Rights::Private);
    if root.metadata().unwrap().uid() != tempfile::tempfile().unwrap().metadata().unwrap().uid() {
        assert_eq!(opened.err().unwrap().kind(), Kind::Config);
        return;
    }
    for fs in [opened.unwrap(), OsFs::open(root, false, Rights::Private).unwrap().without_openat2()] {
        let error = fs.open("proc/version").expect_err("renames and a syncfs would not reach it");
        assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices);
        let error = fs.open_dir("proc").expect_err("nor would a listing belong to the store");
        assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices);
    }
}

/// Everything below the root, with its permission bits.
fn modes(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        found.push((entry.path(), metadata.permissions().mode() & 0o7777));
        if metadata.is_dir() {
            found.extend(modes(&entry.path()));
        }
    }
    found
}

#[test]
fn the_group_may_read_what_is_made_if_it_is_to_whatever_the_umask_is() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let shared = Config { create_root: true, rights: Rights::GroupReads, ..config(&root) };
    let store = open(shared.clone()).unwrap();
    assert_eq!(root.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
    // What is made in a directory with this bit has the group of that.
    std::fs::set_permissions(&root, Permissions::from_mode(0o2750)).unwrap();
    let payload = commit(&store, 1, b"x");
    store.moves().trash(&commit(&store, 2, b"y").id, std::time::SystemTime::now()).unwrap();
    let made = modes(&root);
    assert!(made.len() > 6, "{made:?}");
    for (path, mode) in &made {
        assert_eq!(*mode, if path.is_dir() { 0o2750 } else { 0o640 }, "{path:?}");
    }
    let flawed = |config: Config| {
        let mut flawed = Vec::new();
        let store = open(config).unwrap();
        let look: Report<'_> = &mut |flaw, path| {
            flawed.extend(flaw.map(|_| path));
            Ok(())
        };
        store.inspect_root(look).unwrap();
        flawed
    };
    assert_eq!(flawed(shared.clone()), [] as [PathBuf; 0]);
    assert_eq!(flawed(config(&root)).len(), 2, "the owner and the database, for whoever wants them private");
    // Private is not too wide; readable to all is.
    let owner = root.join(rbytea_store::OWNER);
    for (mode, flaws) in [(0o600, 0), (0o644, 1), (0o660, 1), (0o440, 1)] {
        std::fs::set_permissions(&owner, Permissions::from_mode(mode)).unwrap();
        assert_eq!(flawed(shared.clone()).len(), flaws, "{mode:o}");
    }
    assert_eq!(read(&store, &payload).unwrap(), b"x");
}
