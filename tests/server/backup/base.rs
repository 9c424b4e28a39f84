//! Base backups, with the store in the data directory and outside of it, plain and as tar files, while sessions write and
//! the vacuum moves files: the database first, the store second and twice.

use std::fs;
use std::path::{Path, PathBuf};

use crate::backup::payloads::{TABLE, assert_whole, judge, store};
use crate::backup::restored::{adopt, base_backup, leaked, own_dir, restored, rsync, store_at, system, text};
use crate::backup::traffic::Traffic;
use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::cluster::{Cluster, Shutdown};

/// A running cluster with the table `p`, and where its store is.
fn cluster(outside: bool) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::stopped_with(&[]);
    let mut store = cluster.store();
    if outside {
        store = own_dir(&cluster, "store");
        cluster.set_conf(&store_at(&store));
    }
    cluster.start();
    let db = cluster.session();
    db.run("create extension rbytea");
    db.run(TABLE);
    (cluster, store)
}

/// The data directory that the options of pg_basebackup have made in `dir`.
fn unpack(dir: &Path, tar: bool) -> PathBuf {
    if !tar {
        return dir.to_owned();
    }
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    system("tar", &["-C", text(&data), "-xpf", text(&dir.join("base.tar"))]);
    system("tar", &["-C", text(&data.join("pg_wal")), "-xpf", text(&dir.join("pg_wal.tar"))]);
    system("chmod", &["700", text(&data)]);
    system("chown", &["--reference", text(dir), text(&data)]);
    data
}

/// Asks pg_verifybackup, where that works: the one of 18 that scripts/get-postgres.sh brings crashes whatever it is asked.
#[track_caller]
fn verify(source: &Cluster, backup: &Path, options: &[&str]) {
    if !source.run_tool("pg_verifybackup", &["--version"], b"").status.success() {
        return;
    }
    let arguments = [options, &["--no-parse-wal", text(backup)]].concat();
    let verified = source.run_tool("pg_verifybackup", &arguments, b"");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// Under load: a base backup, the store copied twice after it, and what a cluster makes of both.
fn back_up_and_restore(outside: bool, tar: bool) -> Found {
    let (mut source, live) = cluster(outside);
    let traffic = Traffic::default();
    traffic.fill(&source.session(), 40);
    let backup = source.dir().join("backup");
    let copy = own_dir(&source, "copy");
    let before = traffic.during(&source, || {
        let before = traffic.committed();
        base_backup(&source, &backup, if tar { &["--format=tar"] } else { &[] });
        rsync(&live, &copy, &[]);
        rsync(&live, &copy, &[]);
        before
    });
    let needed = traffic.spared(before);
    assert!(needed.len() > 5 && traffic.moved() > 0, "the test is about a cluster that is busy");

    let data = unpack(&backup, tar);
    let mut target = if outside {
        restored(&data, &[&store_at(&copy)])
    } else {
        rsync(&copy, &data.join("rbytea"), &[]);
        if !tar {
            verify(&source, &data, &["--ignore=rbytea"]);
        }
        restored(&data, &[])
    };
    source.stop(Shutdown::Immediate);
    target.start();
    let db = target.session();
    let mut found = judge(&db, needed.iter().copied());
    adopt(&db);
    let place = if outside { copy } else { target.store() };
    found.leaked = leaked(&db, &place);
    let wrong = db.text("select problem, path from rbytea_check(digest => true)");
    assert_eq!(wrong, "", "what is wrong with the restored cluster");
    let vacuumed = judge(&db, needed);
    (found.lost, found.dangling) = (found.lost + vacuumed.lost, found.dangling + vacuumed.dangling);
    store(&db, 1_000_001..=1_000_002);
    db.run("delete from p where n = 1000001");
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 1, "the restored cluster does not vacuum");
    found
}

#[test]
fn a_backup_of_a_busy_cluster_with_the_store_inside_has_every_payload() {
    proves(Promise::Backups, back_up_and_restore(false, false));
}

#[test]
fn a_backup_of_a_busy_cluster_with_the_store_outside_has_every_payload() {
    proves(Promise::Backups, back_up_and_restore(true, false));
}

#[test]
fn a_backup_in_tar_files_with_the_store_inside_has_every_payload() {
    proves(Promise::Backups, back_up_and_restore(false, true));
}

#[test]
fn a_backup_in_tar_files_with_the_store_outside_has_every_payload() {
    proves(Promise::Backups, back_up_and_restore(true, true));
}

/// While nothing is moved, pg_basebackup itself copies the payloads of a store inside that are older than it, TRASH
/// and prepared transactions included, and its manifest knows them.
#[test]
fn a_backup_of_a_store_inside_alone_has_what_was_there_before_it() {
    let (source, _) = cluster(false);
    let db = source.session();
    store(&db, 1..=24);
    db.run("begin; delete from p where n <= 4; commit");
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 4);
    db.run("begin");
    store(&db, 30..=30);
    db.run("prepare transaction 'prepared'");
    let backup = source.dir().join("backup");
    base_backup(&source, &backup, &[]);
    store(&db, 25..=26);
    verify(&source, &backup, &[]);

    let mut target = restored(&backup, &[]);
    target.start();
    let db = target.session();
    assert_whole(&db, 5..=24);
    assert_eq!((target.live().len(), target.trash().len()), (21, 4));
    adopt(&db);
    db.run("select rvacuum()");
    db.run("commit prepared 'prepared'");
    assert_eq!(leaked(&db, &target.store()), 0);
    let read = assert_whole(&db, (5..=24).chain([30]));
    proves_by_assertions(Promise::Backups, read);
}

/// A base backup is a stream of tar entries, whose names have room for 99 characters.
#[test]
fn a_backup_can_be_taken_while_the_files_of_a_dropped_database_are_there() {
    let (source, _) = cluster(false);
    let db = source.session();
    db.run("create database gone");
    let gone = source.session_in("gone");
    gone.run("create extension rbytea");
    gone.run(TABLE);
    store(&gone, 1..=2);
    drop(gone);
    db.run("drop database gone");
    db.run("select rvacuum()");
    assert_eq!(source.store_files().len(), 0, "the test is about a directory that was put aside");
    store(&db, 1..=4);
    let backup = source.dir().join("backup");
    base_backup(&source, &backup, &[]);
    let mut target = restored(&backup, &[]);
    target.start();
    proves_by_assertions(Promise::Backups, assert_whole(&target.session(), 1..=4));
}

/// From 17 on; before there are none.
#[test]
fn an_incremental_backup_has_every_payload() {
    let (mut source, _) = cluster(false);
    if source.installation().major < 17 {
        return;
    }
    source.set_conf("summarize_wal = on");
    source.restart();
    let db = source.session();
    store(&db, 1..=12);
    let (full, next, whole) =
        (source.dir().join("full"), source.dir().join("next"), source.dir().join("whole"));
    base_backup(&source, &full, &[]);
    store(&db, 13..=16);
    db.run("delete from p where n <= 2");
    db.run("select rvacuum()");
    base_backup(&source, &next, &["--incremental", text(&full.join("backup_manifest"))]);
    let combined = source
        .server_command(source.tool("pg_combinebackup"))
        .args(["--no-sync", "--output", text(&whole), text(&full), text(&next)])
        .output()
        .unwrap();
    assert!(combined.status.success(), "{}", String::from_utf8_lossy(&combined.stderr));
    let mut target = restored(&whole, &[]);
    target.start();
    let db = target.session();
    let read = assert_whole(&db, 3..=16);
    adopt(&db);
    assert_eq!(leaked(&db, &target.store()), 0);
    proves_by_assertions(Promise::Backups, read);
}
