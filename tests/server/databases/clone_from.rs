//! A database that was made from a template while the library was not preloaded: reads say what to do, and
//! rbytea_clone_from() does it.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, Twins};

/// A server without the library, with a database `Source` that has four rows, and a copy of it; sessions in both.
fn cluster_with_copy() -> (Cluster, Session, Session) {
    let cluster = Cluster::running_with(&["shared_preload_libraries = ''"]);
    cluster.session().run("create database \"Source\"");
    let source = cluster.session_in("Source");
    source.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    source.run(PAYLOAD_FUNCTION);
    source.fill("t", 1..=5);
    source.run("delete from t where n = 5");
    drop(source);
    cluster.session().run("create database copy template \"Source\"");
    let (source, copy) = (cluster.session_in("Source"), cluster.session_in("copy"));
    (cluster, source, copy)
}

#[test]
fn reads_name_the_template_and_the_function_that_helps() {
    let (cluster, source, copy) = cluster_with_copy();
    for read in [
        "select r from t",
        "select r::bytea from t",
        "select md5sum(r) from t",
        "select substring(r from 2 for 3) from t",
    ] {
        let error = copy.error(read);
        assert_eq!(error.code().code(), "58P01", "{read}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("rbytea_clone_from('Source')"), "{read}: {hint}");
    }
    assert_eq!(
        copy.sqlstate("create table u as select * from t").code(),
        "58P01",
        "a copied reference to nothing"
    );
    assert_eq!(copy.one::<i64>("select sum(len(r))::bigint from t", &[]), 4000, "the headers are there");

    assert!(copy.one::<i64>("select rbytea_clone_from('Source')", &[]) >= 4);
    copy.assert_stored("t", 4);
    source.assert_stored("t", 4);
    assert!(cluster.files_of(&copy).live.len() >= 4);
    copy.run("create table u as select * from t");
    copy.rvacuum();
    copy.one::<i64>("select rvacuum_purge()", &[]);
    copy.assert_stored("u", 4);
    source.assert_stored("t", 4);
    assert!(copy.one::<i64>("select rbytea_clone_from('Source')", &[]) <= 1, "only what is missing");
    copy.assert_stored("u", 4);
}

#[test]
fn the_name_in_the_hint_can_be_pasted_whatever_it_is() {
    let (cluster, source, copy) = cluster_with_copy();
    drop(source);
    cluster.session().run("alter database \"Source\" rename to \"it's\"");
    let hint = copy.error("select r from t").hint().unwrap().to_owned();
    let at = hint.find("rbytea_clone_from(").unwrap();
    let call = hint[at..].trim_end_matches('.');
    copy.run(&format!("select {call}"));
    copy.assert_stored("t", 4);
}

#[test]
fn a_vacuum_before_the_cloning_warns_and_loses_nothing() {
    let (cluster, source, copy) = cluster_with_copy();
    assert_eq!(copy.rvacuum(), 0);
    let warnings = copy.notices();
    assert!(
        warnings.iter().any(|notice| notice.severity() == "WARNING"
            && notice.message().starts_with("4 payloads that rows refer to")
            && notice.hint().is_some_and(|hint| hint.contains("rbytea_clone_from('<template>')"))),
        "{warnings:?}"
    );
    copy.fill("t", 11..=12);
    copy.rvacuum();
    copy.run("select rvacuum_purge()");
    source.assert_stored("t", 4);
    copy.run("select rbytea_clone_from('Source')");
    copy.assert_stored("t", 6);
    copy.rvacuum();
    copy.assert_stored("t", 6);
    assert_eq!(cluster.files_of(&source).live.len(), 5);
}

#[test]
fn what_the_template_s_vacuum_has_put_into_trash_can_still_be_cloned() {
    let (cluster, source, copy) = cluster_with_copy();
    source.run("delete from t where n = 1");
    // TRASH is a place to clone from too.
    source.rvacuum();
    copy.run("select rbytea_clone_from('Source')");
    copy.assert_stored("t", 4);
    source.run("select rvacuum_purge()");
    source.run("select rvacuum_purge()");
    assert!(cluster.files_of(&source).trash.is_empty());
    copy.assert_stored("t", 4);
    copy.rvacuum();
    copy.assert_stored("t", 4);
}

#[test]
fn what_cannot_be_a_template_is_refused() {
    let (cluster, source, copy) = cluster_with_copy();
    assert_eq!(copy.sqlstate("select rbytea_clone_from('copy')").code(), "22023", "itself");
    assert_eq!(copy.sqlstate("select rbytea_clone_from('missing')").code(), "3D000");
    assert_eq!(copy.one::<Option<i64>>("select rbytea_clone_from(null)", &[]), None);
    assert_eq!(copy.sqlstate("begin read only; select rbytea_clone_from('Source')").code(), "25006");
    copy.run("rollback");
    copy.run("create role alice login; set role alice");
    assert_eq!(copy.sqlstate("select rbytea_clone_from('Source')").code(), "42501");
    copy.run("reset role");
    assert_eq!(copy.one::<i64>("select rbytea_clone_from('template0')", &[]), 0, "it has no files");
    assert_eq!(cluster.files_of(&copy), StoreFiles::default());
    copy.run("select rbytea_clone_from('Source')");
    copy.assert_stored("t", 4);
    drop(source);
}

#[test]
fn a_cloning_that_failed_or_was_rolled_back_can_be_done_again() {
    let (cluster, source, copy) = cluster_with_copy();
    let leaf = cluster.files_of(&source).live[3].parent().unwrap().to_owned();
    let chmod =
        |mode| fs::set_permissions(&leaf, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    chmod(0o000);
    assert_eq!(copy.sqlstate("select rbytea_clone_from('Source')").code(), "42501");
    chmod(0o700);
    copy.run("begin; select rbytea_clone_from('Source'); rollback");
    copy.run("select rbytea_clone_from('Source')");
    copy.assert_stored("t", 4);
    source.assert_stored("t", 4);
}

#[test]
fn a_template_that_was_dropped_is_not_offered() {
    let (cluster, source, copy) = cluster_with_copy();
    drop(source);
    cluster.session().run("drop database \"Source\"");
    let error = copy.error("select r from t");
    assert_eq!(error.code().code(), "58P01");
    let hint = error.hint().unwrap_or_default();
    assert!(!hint.contains("rbytea_clone_from('Source')"), "{hint}");
}
