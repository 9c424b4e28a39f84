//! `shared_preload_libraries = 'librbytea'`, as the original wants it, is as good as 'rbytea': the library is loaded once,
//! whichever name comes first, and stays so when its file is replaced under a running server.

use std::fs;

use tokio_postgres::types::Type;

use crate::support::background::{self, Background, Watching};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::keepers::holds;
use crate::support::procfs::mapped;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with};

const PRELOADED: &str = "shared_preload_libraries = 'librbytea'";

/// The session has one library, and what it needs the preloaded one for works.
#[track_caller]
fn assert_loaded_once(db: &Session) {
    db.run("load 'rbytea'; load 'librbytea'");
    assert_eq!(
        mapped(db.pid(), "rbytea.so").len(),
        1,
        "the library is in the session's memory more than once"
    );
    let shown = db.rows("select r from t limit 1", &[]);
    assert_eq!(shown[0].columns()[0].type_(), &Type::BYTEA, "clients see bytea");
}

#[test]
fn everything_works_under_the_names_of_the_original_and_of_the_library() {
    for names in ["librbytea", "librbytea, rbytea", "rbytea, librbytea"] {
        let mut cluster = background::cluster_with(&[&format!("shared_preload_libraries = '{names}'")]);
        let db = cluster.session();
        wait_until(PATIENCE, || holds(&db).len() == 2);
        db.fill("t", 1..=4);
        assert_loaded_once(&db);
        for (pid, _) in holds(&db) {
            assert_eq!(mapped(pid, "rbytea.so").len(), 1, "{names}: a keeper has the library more than once");
        }

        // By hand in a database that the background vacuum does not visit, and by that in this one.
        let other = background::create_database(&cluster, "other");
        other.fill("t", 1..=3);
        other.run("delete from t where n < 3");
        assert_eq!(other.rvacuum(), 2, "{names}");
        db.run_and_tell("delete from t where n = 1");
        wait_until(PATIENCE, || {
            cluster.files_of(&db).live.len() == 3 && cluster.files_of(&db).trash.is_empty()
        });

        drop((db, other));
        cluster.kill9();
        cluster.start();
        cluster.session().assert_stored("t", 3);
        let managers = cluster.logged("registered custom resource manager \"rbytea\"");
        assert_eq!(managers, 2, "{names}: one for each start");
        for complaint in ["WARNING", "ERROR", "PANIC"] {
            assert!(!cluster.log().contains(complaint), "{names}: {}", cluster.log());
        }
    }
}

#[test]
fn sessions_may_load_either_name() {
    for (shared, sessions) in [("", "librbytea"), ("librbytea", "rbytea"), ("rbytea", "librbytea")] {
        let cluster = cluster_with(&[
            &format!("shared_preload_libraries = '{shared}'"),
            &format!("session_preload_libraries = '{sessions}'"),
        ]);
        let db = cluster.session();
        db.run("create table t (n int primary key, b bytea, r rbytea)");
        db.fill("t", 1..=2);
        assert_loaded_once(&cluster.session());
        db.assert_stored("t", 2);
    }
}

/// Sessions and workers that start after an upgrade of the package go on with the library that the server has.
#[test]
fn the_library_may_be_replaced_while_the_server_runs() {
    let mut cluster = Cluster::stopped_with(&[PRELOADED, "rbytea.databases_for_vacuuming = 'postgres'"]);
    cluster.run_from_own_installation();
    cluster.start();
    let db = cluster.session();
    db.run("create extension rbytea; create table t (n int, r rbytea); insert into t values (1, 'before')");

    for name in ["rbytea.so", "librbytea.so"] {
        let library = cluster.installation().pkglibdir.join(name);
        let new = library.with_extension("new");
        fs::copy(&library, &new).unwrap();
        fs::rename(&new, &library).unwrap();
    }
    let late = cluster.session();
    late.run("insert into t values (2, 'after'); delete from t where n = 1");
    assert_eq!(late.rvacuum(), 1);
    assert_loaded_once(&late);
    assert!(mapped(late.pid(), "rbytea.so").iter().all(|file| file.ends_with(" (deleted)")), "the new one");

    drop((db, late));
    cluster.restart();
    let db = cluster.session();
    assert_eq!(db.text("select n, convert_from(r, 'UTF8') from t"), "2|after");
    assert_loaded_once(&db);
    assert!(!cluster.log().contains("ERROR"), "{}", cluster.log());
}
