//! CREATE DATABASE … TEMPLATE that fails, crashes or is still going on: there is no database without its payloads, and no
//! payload without its database.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::process::{Pid, Signal, kill_process};

use crate::databases::source::cluster_with_source;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::{Running, Session};
use crate::support::twin_tables::Twins;

#[test]
fn a_create_database_that_fails_leaves_nothing_that_harms() {
    let cluster = cluster_with_source();
    let db = cluster.session();
    let before = cluster.store_files();
    db.run("create database taken");
    let blocker = cluster.session_in("source");
    for (statement, code) in [
        ("create database taken template source", "42P04"),
        ("create database copy template missing", "3D000"),
        ("create database copy template source tablespace missing", "42704"),
        ("create database copy template source encoding 'LATIN1'", "22023"),
        ("begin; create database copy template source", "25001"),
    ] {
        assert_eq!(db.sqlstate(statement).code(), code, "{statement}");
        let _ = db.try_run("rollback");
    }
    assert_eq!(
        db.sqlstate("create database copy template source").code(),
        "55006",
        "another session is connected to the template"
    );
    drop(blocker);
    assert_eq!(cluster.store_files(), before);

    // One that fails after the files were made: its tablespace has no directory.
    let space = cluster.dir().join("space");
    fs::create_dir(&space).unwrap();
    let owner = fs::metadata(cluster.data()).unwrap();
    chown(&space, Some(owner.uid()), Some(owner.gid())).unwrap();
    db.run(&format!("create tablespace space location '{}'", space.display()));
    let inside = fs::read_dir(&space).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir(&inside).unwrap();
    fs::write(&inside, "a file").unwrap();
    for strategy in ["wal_log", "file_copy"] {
        db.error(&format!("create database copy template source tablespace space strategy {strategy}"));
    }
    fs::remove_file(&inside).unwrap();
    db.run("create extension rbytea");
    db.rvacuum();
    assert_eq!(cluster.store_files(), before, "directories of databases that never were");
    cluster.session_in("source").assert_stored("t", 6);
    db.one::<i64>("select rvacuum_purge()", &[]);
    cluster.session_in("source").assert_stored("t", 6);

    db.run("create database copy template source");
    cluster.session_in("copy").assert_stored("t", 6);
}

#[test]
fn a_store_with_a_broken_file_says_so_before_there_is_a_database() {
    let cluster = cluster_with_source();
    let db = cluster.session();
    let source = cluster.session_in("source");
    let files = cluster.files_of(&source);
    drop(source);
    let leaf = files.live[0].parent().unwrap();
    fs::set_permissions(leaf, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(db.sqlstate("create database copy template source").code(), "42501");
    assert_eq!(
        db.text("select from pg_database where datname = 'copy'"),
        "",
        "a database without its payloads"
    );
    fs::set_permissions(leaf, fs::Permissions::from_mode(0o700)).unwrap();
    db.run("create database copy template source");
    cluster.session_in("copy").assert_stored("t", 6);
}

#[test]
fn a_store_that_is_not_mounted_is_a_warning_and_can_be_cloned_later() {
    let cluster = cluster_with_source();
    let db = cluster.session();
    let (mounted, elsewhere) = (cluster.store(), cluster.dir().join("elsewhere"));
    cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", mounted.display()));
    cluster.reload();
    fs::rename(&mounted, &elsewhere).unwrap();
    db.run("create database copy template source");
    let notices = db.notices();
    assert!(
        notices.iter().any(|notice| notice.severity() == "WARNING"
            && notice.hint().is_some_and(|hint| hint.contains("rbytea_clone_from"))),
        "{notices:?}"
    );
    fs::rename(&elsewhere, &mounted).unwrap();
    let copy = cluster.session_in("copy");
    assert_eq!(copy.sqlstate("select r from t").code(), "58P01");
    copy.run("select rbytea_clone_from('source')");
    copy.assert_stored("t", 6);
}

/// Starts a CREATE DATABASE that has its files and waits for a checkpoint; the checkpointer sleeps until it is woken.
fn half_made(cluster: &Cluster, db: &Session) -> (Running, Pid) {
    let other = cluster.session();
    let pid: i32 = other.one("select pid from pg_stat_activity where backend_type = 'checkpointer'", &[]);
    let checkpointer = Pid::from_raw(pid).unwrap();
    let directories = cluster.store_files().len();
    kill_process(checkpointer, Signal::STOP).unwrap();
    let running = db.start("create database copy template source strategy file_copy");
    wait_until(PATIENCE, || {
        let files = cluster.store_files();
        files.len() > directories && files.values().all(|files| files.live.len() >= 6)
    });
    let waits = "select exists (select from pg_stat_activity where wait_event like 'Checkpoint%' and query like 'create%')";
    wait_until(PATIENCE, || other.one(waits, &[]));
    (running, checkpointer)
}

#[test]
fn the_directory_of_a_database_that_is_being_made_is_no_garbage() {
    let cluster = cluster_with_source();
    let (db, other) = (cluster.session(), cluster.session());
    other.run("create extension rbytea");
    let (running, checkpointer) = half_made(&cluster, &db);
    other.rvacuum();
    other.run("select rvacuum_purge()");
    kill_process(checkpointer, Signal::CONT).unwrap();
    running.finish().unwrap();
    cluster.session_in("copy").assert_stored("t", 6);
    assert!(other.notices().is_empty());
}

#[test]
fn a_database_whose_making_was_cancelled_or_crashed_is_collected() {
    let mut cluster = cluster_with_source();
    let before = cluster.store_files();
    let (db, other) = (cluster.session(), cluster.session());
    other.run("create extension rbytea");
    let (running, checkpointer) = half_made(&cluster, &db);
    db.cancel();
    kill_process(checkpointer, Signal::CONT).unwrap();
    assert_eq!(running.finish().unwrap_err().code().unwrap().code(), "57014");
    other.rvacuum();
    assert_eq!(cluster.store_files(), before);
    cluster.session_in("source").assert_stored("t", 6);

    // A directory that a crash leaves behind belongs to no database.
    let (running, _) = half_made(&cluster, &cluster.session());
    cluster.kill9();
    running.finish().unwrap_err();
    cluster.start();
    assert!(cluster.store_files().len() > before.len());
    let other = cluster.session();
    other.rvacuum();
    assert_eq!(cluster.store_files(), before);
    other.run("select rvacuum_purge()");
    cluster.session_in("source").assert_stored("t", 6);
    other.run("create database copy template source");
    cluster.session_in("copy").assert_stored("t", 6);
}
