//! The purge and other sessions' temporary tables, which the vacuum cannot read: while there are any, nothing is deleted.

use crate::purge::waiting::{held_by, purge, tables, trash_one};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::twin_tables::Twins;

#[test]
fn a_temporary_table_keeps_every_file_until_it_is_gone() {
    let (cluster, db) = tables();
    for (make, unmake) in [
        ("create temp table own as select * from t", "drop table own"),
        ("create temp table own (rs rbytea[])", "discard temp"),
        ("create temp table own (d t)", "drop table own"),
        ("create temp table own (r rbytea) on commit delete rows", "discard all"),
    ] {
        let other = cluster.session();
        other.run(make);
        trash_one(&db);
        assert_eq!(purge(&db), 0, "a payload of another session's temporary table is lost: {make}");
        assert!(held_by(&db).contains("temporary table"), "{}", held_by(&db));
        other.run(unmake);
        assert_eq!(purge(&db), 1, "{unmake}");
        // A younger one may have been filled with what an older one held.
        trash_one(&db);
        other.run(make);
        assert_eq!(purge(&db), 0);
        drop(other);
        wait_until(PATIENCE, || purge(&db) == 1);
    }
    cluster.session().run("create temp table own (b bytea)");
    db.run("create temp table mine as select * from t where n = 1");
    trash_one(&db);
    assert_eq!(purge(&db), 1, "its own temporary tables the vacuum can read");
    db.run("delete from t");
    db.run("select rvacuum()");
    assert_eq!(purge(&db), 1);
    db.assert_stored("mine", 1);
}

/// Its table stays in the catalog until autovacuum, or a session with the same backend id, drops it.
#[test]
fn a_temporary_table_that_a_crash_has_left_behind_holds_nothing() {
    let (cluster, db) = tables();
    let other = cluster.session();
    other.run("create temp table own as select * from t");
    trash_one(&db);
    assert_eq!(purge(&db), 0);
    // The session alone: one that outlives the postmaster would still drop its tables.
    cluster.kill9_backend(other.pid());
    wait_until(PATIENCE, || cluster.log().contains("all server processes terminated; reinitializing"));
    wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());
    let db = cluster.session();
    let left = "select count(*) from pg_class where relname = 'own' and relpersistence = 't'";
    assert_eq!(db.one::<i64>(left, &[]), 1, "the test is about a table that is still there");
    assert_eq!(purge(&db), 1, "its session is gone, so no session can read it");
}
