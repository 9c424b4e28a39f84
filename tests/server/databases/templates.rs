//! CREATE DATABASE … TEMPLATE with the library preloaded: the new database has payloads of its own, whatever becomes of the
//! template's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::databases::source::{cluster_with_source, fill};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::Twins;

/// Inodes by file name.
fn inodes(files: &StoreFiles) -> BTreeMap<String, u64> {
    let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
    files
        .live
        .iter()
        .chain(&files.trash)
        .map(|file| (name(file), fs::metadata(file).unwrap().ino()))
        .collect()
}

#[test]
fn a_new_database_reads_the_payloads_of_its_template() {
    let cluster = cluster_with_source();
    let db = cluster.session();
    for strategy in ["", "strategy wal_log", "strategy file_copy"] {
        db.run(&format!("create database copy template source {strategy}"));
        let (source, copy) = (cluster.session_in("source"), cluster.session_in("copy"));
        copy.assert_stored("t", 6);
        source.assert_stored("t", 6);
        let (mine, theirs) = (inodes(&cluster.files_of(&copy)), inodes(&cluster.files_of(&source)));
        for (name, inode) in &mine {
            assert_eq!(Some(inode), theirs.get(name), "{name} takes its space twice");
        }
        assert!(mine.len() >= 6);

        copy.fill("t", 21..=22);
        copy.run("delete from t where n = 1");
        copy.rvacuum();
        copy.one::<i64>("select rvacuum_purge()", &[]);
        copy.assert_stored("t", 7);
        assert_eq!(cluster.files_of(&copy).live.len(), 7);
        source.assert_stored("t", 6);
        drop((source, copy));
        db.run("drop database copy");
    }
}

#[test]
fn the_vacuum_of_one_database_never_takes_the_other_s_payloads() {
    let cluster = cluster_with_source();
    cluster.session().run("create database copy template source");
    let (source, copy) = (cluster.session_in("source"), cluster.session_in("copy"));

    copy.run("delete from t where n <= 2");
    source.run("delete from t where n in (2, 3)");
    for db in [&source, &copy] {
        db.rvacuum();
        assert!(db.one::<i64>("select rvacuum_purge()", &[]) > 0);
        assert_eq!(cluster.files_of(db).live.len(), 4);
        assert_eq!(cluster.files_of(db).trash.len(), 0);
        source.assert_stored("t", 4);
        copy.assert_stored("t", 4);
    }
    copy.run("drop table t");
    copy.rvacuum();
    copy.one::<i64>("select rvacuum_purge()", &[]);
    assert_eq!(cluster.files_of(&copy), StoreFiles::default());
    source.assert_stored("t", 4);

    drop(copy);
    drop(source);
    // Into the root's TRASH, and out of it.
    let db = cluster.session();
    db.run("drop database copy");
    db.run("create database copy template source");
    db.run("drop database source");
    db.run("create extension rbytea");
    db.rvacuum();
    db.one::<i64>("select rvacuum_purge()", &[]);
    db.one::<i64>("select rvacuum_purge()", &[]);
    cluster.session_in("copy").assert_stored("t", 4);
}

#[test]
fn a_payload_that_is_in_the_template_s_trash_is_the_new_database_s_too() {
    let cluster = cluster_with_source();
    let source = cluster.session_in("source");
    // By hand: a row whose file is in TRASH.
    let file = cluster.files_of(&source).live.remove(0);
    let trash = file.ancestors().nth(3).unwrap().join("TRASH").join(file.file_name().unwrap());
    fs::rename(&file, &trash).unwrap();
    source.assert_stored("t", 6);
    drop(source);

    cluster.session().run("create database copy template source");
    let (source, copy) = (cluster.session_in("source"), cluster.session_in("copy"));
    copy.assert_stored("t", 6);
    source.run("delete from t");
    source.rvacuum();
    source.one::<i64>("select rvacuum_purge()", &[]);
    assert_eq!(cluster.files_of(&source).trash.len(), 0);
    copy.assert_stored("t", 6);
    copy.rvacuum();
    copy.one::<i64>("select rvacuum_purge()", &[]);
    copy.assert_stored("t", 6);
    assert_eq!(cluster.files_of(&copy).live.len(), 6);
}

#[test]
fn new_values_of_both_databases_stay_apart() {
    let cluster = cluster_with_source();
    cluster.session().run("create database copy template source");
    let (source, copy) = (cluster.session_in("source"), cluster.session_in("copy"));
    source.run("update t set b = payload(-n), r = payload(-n) where n = 1");
    copy.run("update t set b = payload(-n - 100), r = payload(-n - 100) where n = 1");
    // A reference that is stored again stays with its database.
    copy.run("insert into t select n + 100, b, r from t where n = 2; delete from t where n = 2");
    source.run("delete from t where n = 2");
    for db in [&source, &copy, &source, &copy] {
        db.rvacuum();
        db.one::<i64>("select rvacuum_purge()", &[]);
        source.assert_stored("t", 5);
        copy.assert_stored("t", 6);
    }
}

#[test]
fn the_history_of_the_template_tells_nothing_about_the_new_database() {
    let cluster = cluster_with_source();
    let source = cluster.session_in("source");
    source.one::<i64>("select rvacuum_purge()", &[]);
    let figures = "select live_files, trash_files, last_run is null, held_by from rbytea.rbytea_stat";
    assert_eq!(source.text(figures), "6|2|f|{}");
    drop(source);
    cluster.session().run("create database copy template source");
    let copy = cluster.session_in("copy");
    assert_eq!(copy.text(figures), "||t|{}", "those are numbers of another store");

    // A file of a transaction that the template's history says was swept.
    copy.run("delete from t where n = 1");
    cluster.set_conf("rbytea.databases_for_vacuuming = 'copy'");
    cluster.set_conf("rbytea.vacuum_naptime = '1s'");
    cluster.reload();
    wait_until(PATIENCE, || cluster.files_of(&copy).live.len() == 5);
    copy.assert_stored("t", 5);
    cluster.session_in("source").assert_stored("t", 6);
}

#[test]
fn template1_with_the_extension_is_a_template_too() {
    let cluster = Cluster::running();
    fill(&cluster.session_in("template1"));
    let db = cluster.session();
    db.run("create database plain");
    cluster.session_in("plain").assert_stored("t", 6);
    db.run("create database \"My Source\" template = default");
    db.run("create database another with owner = postgres template = \"My Source\" connection limit = 5");
    cluster.session_in("another").assert_stored("t", 6);
    let created = cluster.run_tool("createdb", &["by_tool"], b"");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    cluster.session_in("by_tool").assert_stored("t", 6);
    let empty = cluster.run_tool("createdb", &["-T", "template0", "empty"], b"");
    assert!(empty.status.success());
    assert_eq!(cluster.files_of(&cluster.session_in("empty")), StoreFiles::default());
}

#[test]
fn a_template_without_payloads_makes_no_store() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("create database plain");
    db.run("create database copy template plain");
    db.run("create database empty template template0");
    assert!(!cluster.store().exists());
    db.run("create database source");
    cluster.session_in("source").run("create extension rbytea; create table t (r rbytea)");
    db.run("create database nothing template source");
    let nothing = cluster.session_in("nothing");
    nothing.run("insert into t values ('\\x01')");
    assert_eq!(nothing.rvacuum(), 0);
    assert_eq!(nothing.text("select md5sum(r) from t"), "55a54008ad1ba589aa210d2629c1df41");
}

#[test]
fn who_may_create_databases_need_not_be_a_superuser() {
    let cluster = cluster_with_source();
    let db = cluster.session();
    db.run("create role alice login createdb; alter database source is_template true");
    let alice = cluster.session_as("alice");
    alice.run("create database copy template source");
    cluster.session_in("copy").assert_stored("t", 6);
    alice.run("drop database copy");
}
