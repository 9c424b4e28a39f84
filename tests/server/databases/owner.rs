//! One store, one owner: another cluster, or a copy of this one, that points at it cannot take the owner's payloads away.

use std::fs;

use crate::support::background::{Background, Watching};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::standby::standby_of;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, Twins, assert_live_is, cluster_with_table};

const QUICK: &[&str] = &[
    "rbytea.databases_for_vacuuming = 'postgres'",
    "rbytea.vacuum_naptime = '1s'",
    "rbytea.trash_retention = 0",
    "log_min_messages = debug1",
];

/// Both the files of the cluster's store and their dates, to see that nothing has touched them.
fn everything(cluster: &Cluster) -> Vec<(std::path::PathBuf, u64)> {
    let files = StoreFiles::walk(&cluster.store());
    let all = files.into_values().flat_map(|files| [files.live, files.trash, files.strays].concat());
    all.map(|file| (file.clone(), fs::metadata(&file).unwrap().len())).collect()
}

#[test]
fn another_cluster_on_the_store_can_neither_write_nor_vacuum() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=4);
    db.run("delete from t where n = 1");
    let path = format!("rbytea.filesystem_storage_path = '{}'", cluster.store().display());
    let other = Cluster::stranger_with(&[QUICK, &[path.as_str()]].concat());
    let theirs = other.session();
    theirs.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    theirs.run(PAYLOAD_FUNCTION);
    let before = everything(&cluster);

    let error = theirs.error("insert into t values (1, payload(1), payload(1))");
    assert_eq!(error.code().code(), "55000");
    assert!(error.hint().unwrap().contains("rbytea_adopt_store()"), "{error:?}");
    assert_eq!(theirs.sqlstate("select rbytea_store('\\x01')").code(), "55000");
    for call in ["rvacuum()", "rvacuum_purge()"] {
        assert_eq!(theirs.sqlstate(&format!("select {call}")).code(), "55000", "{call}");
    }
    other.await_log("The payload store belongs to another cluster");
    for _ in 0..2 {
        other.await_visit("postgres");
    }
    assert_eq!(theirs.one::<i64>("select count(*) from t", &[]), 0);
    assert_eq!(everything(&cluster), before, "files of the owner have moved");
    // The rows that it had inline are its own.
    theirs.run("set rbytea.external_threshold = 10000; insert into t values (1, payload(1), payload(1))");
    theirs.assert_inline("t", 1);
    db.assert_stored("t", 3);
    assert_eq!(db.rvacuum(), 1);
    theirs.run("create database copy template template1");
    theirs.run("drop database copy");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_restored_backup_that_points_at_the_live_store_moves_nothing_of_it() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=6);
    db.run("create database second");
    let mut copy = standby_of(&cluster, &[]);
    copy.stop(Shutdown::Fast);
    // Without recovery: the same system identifier, and the same timeline.
    for file in ["standby.signal", "recovery.signal"] {
        let _ = fs::remove_file(copy.data().join(file));
    }
    for line in QUICK {
        copy.set_conf(line);
    }
    copy.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", cluster.store().display()));
    copy.set_conf("primary_conninfo = ''");
    copy.set_conf("primary_slot_name = ''");
    copy.start();
    let theirs = copy.session();
    let timeline = "select timeline_id from pg_control_checkpoint()";
    assert_eq!(theirs.one::<i32>(timeline, &[]), db.one::<i32>(timeline, &[]));
    theirs.run("drop database second");

    theirs.assert_stored("t", 6);
    theirs.run_and_tell("delete from t where n <= 3");
    for call in ["rvacuum()", "rvacuum_purge()"] {
        let error = theirs.error(&format!("select {call}"));
        assert_eq!(error.code().code(), "55000", "{call}");
        assert!(error.hint().unwrap().contains("rbytea_adopt_store()"), "{error:?}");
    }
    copy.await_log(
        "The payload store belongs to another cluster, or to this one before a promotion or a restore.",
    );
    for _ in 0..2 {
        copy.await_visit("postgres");
    }
    db.assert_stored("t", 6);
    assert_eq!(
        (cluster.live().len(), cluster.trash().len()),
        (6, 0),
        "the copy has moved files of the live cluster"
    );

    // Nor can a new database of its own take the place of one of the live cluster's.
    db.run("create database third");
    let third = cluster.session_in("third");
    third.run("create extension rbytea; create table t (n int, b bytea, r rbytea)");
    third.run("insert into t values (1, '\\x01', '\\x01')");
    let oid: u32 = db.one("select oid from pg_database where datname = 'third'", &[]);
    assert_eq!(theirs.sqlstate(&format!("create database mine oid {oid}")).code(), "55000");
    third.assert_stored("t", 1);
    drop(third);
    db.run("drop database third");
    db.rvacuum();

    // It may write; the administrator has to keep it from that.
    theirs.fill("t", 101..=102);
    theirs.assert_stored("t", 5);
    drop(theirs);
    copy.stop(Shutdown::Fast);
    // The copy's transactions have ids that this cluster has yet to give out.
    for _ in 0..20 {
        db.run("select pg_current_xact_id()");
    }
    assert_eq!(db.rvacuum(), 2, "no row of this cluster refers to what the copy has written");
    db.assert_stored("t", 6);
    copy.start();

    // The old cluster is given up.
    let mut cluster = cluster;
    drop(db);
    cluster.stop(Shutdown::Fast);
    let theirs = copy.session();
    theirs.run("select rbytea_adopt_store()");
    wait_until(PATIENCE, || cluster.live().len() == 5);
    theirs.assert_stored("t", 5);
    cluster.start();
    assert_eq!(cluster.session().sqlstate("select rvacuum()").code(), "55000", "now that one has to ask");
}

#[test]
fn a_cluster_that_was_moved_to_another_place_asks_once() {
    let mut cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run("delete from t where n = 1");
    cluster.stop(Shutdown::Fast);
    // As a backup tool would restore it: the same files under other inodes.
    let away = cluster.dir().join("away");
    fs::rename(cluster.data(), &away).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(&away).arg(cluster.data()).status().unwrap();
    assert!(copied.success());
    cluster.start();
    let db = cluster.session();
    db.assert_stored("t", 2);
    db.fill("t", 4..=4);
    assert_eq!(db.sqlstate("select rvacuum()").code(), "55000", "is the original still in use?");
    db.run("select rbytea_adopt_store()");
    assert_eq!(db.rvacuum(), 1);
    db.assert_stored("t", 3);
    cluster.restart();
    assert_eq!(cluster.session().rvacuum(), 0, "a restart changes nothing");
}
