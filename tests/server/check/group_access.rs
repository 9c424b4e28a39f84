//! What the group of the server's user may read: as much of a store in the data directory as of PostgreSQL's own files there, and
//! of one elsewhere what a setting says.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::healthy::{check, finds_nothing};
use crate::support::cluster::{Cluster, Shutdown};
use crate::support::session::Session;
use crate::support::shared_store::primary;

/// Everything in a directory, with its permission bits.
fn modes(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = vec![(dir.to_owned(), fs::metadata(dir).unwrap().permissions().mode() & 0o777)];
    if dir.is_dir() {
        for entry in fs::read_dir(dir).unwrap() {
            found.extend(modes(&entry.unwrap().path()));
        }
    }
    found
}

fn assert_modes(dir: &Path, of_directories: u32, of_files: u32) {
    let found = modes(dir);
    assert!(found.len() > 5, "{found:?}");
    for (path, mode) in found {
        assert_eq!(mode, if path.is_dir() { of_directories } else { of_files }, "{}", path.display());
    }
}

fn fill(db: &Session, table: &str) {
    db.run(&format!("create table {table} (r rbytea); insert into {table} values ('a'), ('b'), (null); delete from {table} where r = 'b'"));
    db.run("select rvacuum()");
}

#[test]
fn a_store_in_the_data_directory_has_the_rights_of_that() {
    let mut cluster = Cluster::with_extension();
    let db = cluster.session();
    fill(&db, "t");
    assert_modes(&cluster.store(), 0o700, 0o600);
    finds_nothing(&db);
    drop(db);
    // As initdb --allow-group-access makes it, and as an administrator changes it later.
    cluster.stop(Shutdown::Fast);
    let chmod = Command::new("chmod").args(["-R", "g+rX"]).arg(cluster.data()).status().unwrap();
    assert!(chmod.success());
    fs::set_permissions(cluster.data(), Permissions::from_mode(0o750)).unwrap();
    cluster.start();
    let db = cluster.session();
    assert_eq!(db.text("show data_directory_mode"), "0750");
    fill(&db, "u");
    assert_modes(&cluster.store(), 0o750, 0o640);
    let list = cluster.data().join("rbytea.stores");
    assert_eq!(fs::metadata(&list).unwrap().permissions().mode() & 0o777, 0o640);
    finds_nothing(&db);
    // What was made before may be private still; nobody else may read it.
    let (path, _) = modes(&cluster.store()).into_iter().find(|(path, _)| path.is_file()).unwrap();
    for (mode, findings) in [(0o600, 0), (0o644, 1)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(check(&db, "").len(), findings, "{mode:o}");
    }
}

#[test]
fn a_store_elsewhere_is_private_unless_a_setting_says_otherwise() {
    let (cluster, root) = primary(&[]);
    fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
    let db = cluster.session();
    fill(&db, "u");
    assert_modes(&root, 0o700, 0o600);
    finds_nothing(&db);
    cluster.set_conf("rbytea.group_access = on");
    cluster.reload();
    let shared = cluster.session();
    shared.run("create database other");
    let other = cluster.session_in("other");
    other.run("create extension rbytea");
    fill(&other, "t");
    let database: u32 = other.one("select oid from pg_database where datname = 'other'", &[]);
    assert_modes(&root.join(database.to_string()), 0o750, 0o640);
    finds_nothing(&other);
    finds_nothing(&shared);
    cluster.set_conf("rbytea.group_access = off");
    cluster.reload();
    assert!(check(&cluster.session_in("other"), "").len() > 4, "files that are to be private, and are not");
}

#[test]
fn a_relative_path_that_leads_out_of_the_data_directory_is_elsewhere() {
    for path in ["../elsewhere", "link/elsewhere"] {
        let mut cluster = Cluster::stopped_with(&[&format!("rbytea.filesystem_storage_path = '{path}'")]);
        symlink("..", cluster.data().join("link")).unwrap();
        let chmod = Command::new("chmod").args(["-R", "g+rX"]).arg(cluster.data()).status().unwrap();
        assert!(chmod.success());
        cluster.start();
        let db = cluster.session();
        assert_eq!(db.text("show data_directory_mode"), "0750");
        db.run("create extension rbytea");
        fill(&db, "t");
        assert_modes(&cluster.data().join(path), 0o700, 0o600);
        finds_nothing(&db);
    }
}
