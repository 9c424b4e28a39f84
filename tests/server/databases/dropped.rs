//! DROP DATABASE leaves the payload files where they are; later sweeps of other databases collect them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::background::{Background, Watching, create_database};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with};

/// A database `other` with three rows beside `postgres` with one; a session in `postgres`, and the directory of `other`.
fn two_databases(conf: &[&str]) -> (Cluster, Session, PathBuf) {
    let cluster = cluster_with(conf);
    let db = cluster.session();
    db.run("create table t (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=1);
    let other = create_database(&cluster, "other");
    other.fill("t", 1..=3);
    let oid: u32 = other.one("select oid from pg_database where datname = 'other'", &[]);
    let dir = cluster.store().join(oid.to_string());
    assert!(dir.is_dir());
    (cluster, db, dir)
}

/// Directories of dropped databases.
fn dropped(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.store()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().contains('-')).collect()
}

fn files_below(dir: &Path) -> usize {
    let output = Command::new("find").arg(dir).args(["-type", "f"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().count()
}

#[test]
fn the_directory_of_a_dropped_database_goes_to_trash_and_later_away() {
    let (cluster, db, dir) = two_databases(&[]);
    db.rvacuum();
    assert!(dir.is_dir(), "the database is there");
    db.run("drop database other");
    assert!(dir.is_dir(), "a DROP DATABASE removes no payload");

    db.rvacuum();
    assert!(!dir.exists());
    assert_eq!(dropped(&cluster).len(), 1);
    assert_eq!(files_below(&dropped(&cluster)[0]), 3, "for the retention, everything can be had back");
    db.rvacuum();
    assert_eq!(files_below(&dropped(&cluster)[0]), 3);

    cluster.set_conf("rbytea.trash_retention = 0");
    cluster.reload();
    db.rvacuum();
    assert!(dropped(&cluster).is_empty(), "{:?}", dropped(&cluster));
    assert_eq!(
        db.text("select purged, purged_bytes from rbytea.rbytea_vacuum_history order by id desc limit 1"),
        "3|3000"
    );
    db.assert_stored("t", 1);
}

#[test]
fn a_retention_of_minus_one_keeps_it_for_ever_and_rvacuum_purge_deletes_it() {
    let (cluster, db, dir) = two_databases(&["rbytea.trash_retention = -1"]);
    db.run("drop database other");
    for _ in 0..3 {
        db.rvacuum();
    }
    assert!(!dir.exists());
    assert_eq!(files_below(&dropped(&cluster)[0]), 3);
    db.run("select rvacuum_purge()");
    assert!(dropped(&cluster).is_empty());
}

#[test]
fn the_background_vacuum_of_another_database_collects_it() {
    let conf = [
        "rbytea.databases_for_vacuuming = 'postgres'",
        "rbytea.vacuum_naptime = '1s'",
        "rbytea.trash_retention = 0",
        "rbytea.vacuum_full_interval = '1s'",
    ];
    let (cluster, db, dir) = two_databases(&conf);
    db.run("drop database other");
    wait_until(PATIENCE, || !dir.exists() && dropped(&cluster).is_empty());
    cluster.await_log("rbytea put the payload files of dropped database");
    db.assert_stored("t", 1);
    assert!(db.launcher().is_some());
}

#[test]
fn a_drop_that_fails_keeps_everything() {
    let (cluster, db, dir) = two_databases(&[]);
    assert_eq!(db.sqlstate("begin; drop database other").code(), "25001");
    db.run("rollback");
    let inside = cluster.session_in("other");
    let drop_it = db.start("drop database other");
    // It waits five seconds for the other session to leave, with the database locked.
    let second = cluster.session();
    second.rvacuum();
    assert!(dir.is_dir(), "the database is not gone yet");
    assert_eq!(drop_it.finish().unwrap_err().code().unwrap().code(), "55006");
    db.rvacuum();
    assert!(dir.is_dir());
    inside.assert_stored("t", 3);
}

#[test]
fn databases_that_are_being_made_or_renamed_keep_their_directories() {
    let (cluster, db, dir) = two_databases(&[]);
    let oid: u32 = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
    db.run("alter database other rename to another");
    db.rvacuum();
    assert!(dir.is_dir());
    let other = cluster.session_in("another");
    other.assert_stored("t", 3);
    drop(other);
    let owner = fs::metadata(cluster.store()).unwrap();
    let space = cluster.dir().join("space");
    fs::create_dir(&space).unwrap();
    chown(&space, Some(owner.uid()), Some(owner.gid())).unwrap();
    db.run(&format!("create tablespace space location '{}'", space.display()));
    db.run("alter database another set tablespace space");
    db.rvacuum();
    cluster.session_in("another").assert_stored("t", 3);
    db.run("alter database another allow_connections false");
    db.rvacuum();
    assert!(dir.is_dir(), "{oid}: a database that takes no connections exists");
    db.run("alter database another allow_connections true");
    cluster.session_in("another").assert_stored("t", 3);
}

#[test]
fn what_is_no_database_s_directory_is_left_alone() {
    let (cluster, db, _dir) = two_databases(&[]);
    let owner = fs::metadata(cluster.store()).unwrap();
    let names = ["lost+found", "0", "00042", "12x", "-5", "99999999999", "4294967296"];
    for name in names {
        let dir = cluster.store().join(name);
        fs::create_dir(&dir).unwrap();
        chown(&dir, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    fs::write(cluster.store().join("77777"), "a file").unwrap();
    std::os::unix::fs::symlink("/etc", cluster.store().join("88888")).unwrap();
    db.rvacuum();
    db.run("select rvacuum_purge()");
    for name in names.iter().chain(&["77777", "88888"]) {
        assert!(cluster.store().join(name).symlink_metadata().is_ok(), "{name} is not the vacuum's");
    }
    // This could be a directory of a database that exists.
    let ours = cluster.store().join("77778");
    fs::create_dir(&ours).unwrap();
    chown(&ours, Some(owner.uid()), Some(owner.gid())).unwrap();
    db.rvacuum();
    assert!(!ours.exists());
}

#[test]
fn a_database_with_the_oid_of_a_dropped_one_starts_clean() {
    for preload in ["rbytea", ""] {
        let (cluster, db, dir) = two_databases(&[&format!("shared_preload_libraries = '{preload}'")]);
        let oid: u32 = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
        db.run("drop database other");
        assert_eq!(files_below(&dir), 3);
        db.run(&format!("create database young oid {oid}"));
        let young = cluster.session_in("young");
        young.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
        young.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
        young.fill("t", 1..=2);
        young.assert_stored("t", 2);
        young.rvacuum();
        young.assert_stored("t", 2);
        assert_eq!(cluster.store_files()[&oid].live.len(), 2, "payloads of another database: {preload:?}");
        db.rvacuum();
        db.run("select rvacuum_purge()");
        young.assert_stored("t", 2);
        db.assert_stored("t", 1);
    }
}

#[test]
fn a_database_with_the_oid_of_a_dropped_one_and_a_template_has_the_template_s_files() {
    let (cluster, db, dir) = two_databases(&[]);
    let oid: u32 = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
    db.run("create database third");
    let third = cluster.session_in("third");
    third.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    third.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
    third.fill("t", 1..=5);
    drop(third);
    db.run("drop database other");
    db.run(&format!("create database young template third oid {oid}"));
    let young = cluster.session_in("young");
    young.assert_stored("t", 5);
    assert_eq!(cluster.store_files()[&oid].live.len(), 5);
    db.rvacuum();
    db.run("select rvacuum_purge()");
    young.assert_stored("t", 5);
    assert_eq!(young.rvacuum(), 0);
}

#[test]
fn a_crash_after_the_drop_loses_nothing_of_others() {
    let (mut cluster, db, dir) = two_databases(&[]);
    db.run("drop database other");
    cluster.kill9();
    cluster.start();
    let db = cluster.session();
    db.rvacuum();
    assert!(!dir.exists());
    db.run("select rvacuum_purge()");
    assert!(dropped(&cluster).is_empty());
    db.assert_stored("t", 1);
}
