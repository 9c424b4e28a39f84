//! PREPARE TRANSACTION: a payload is durable from then on, and no vacuum takes it before the second phase.

use crate::support::cluster::{Cluster, Shutdown};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

/// Prepares as 'keep' and as 'drop': inserts of 1 and 2, of 3 and 4; each with one that was rolled back.
fn prepare(cluster: &Cluster) {
    let db = cluster.session();
    for (gid, numbers) in [("keep", 1..=2), ("drop", 3..=4)] {
        db.run("begin");
        db.fill("t", numbers);
        db.run("savepoint s");
        db.fill("t", 9..=9);
        db.run(&format!("rollback to s; prepare transaction '{gid}'"));
    }
}

/// Both phases, with something in between that must not matter.
fn two_phases(between: impl FnOnce(&mut Cluster)) {
    let mut cluster = cluster_with_table();
    prepare(&cluster);
    between(&mut cluster);

    let db = cluster.session();
    assert_eq!(db.one::<i64>("select count(*) from pg_prepared_xacts", &[]), 2);
    assert_eq!(db.rvacuum(), 0, "the vacuum has taken files of a prepared transaction");
    let notice = &db.notices()[0];
    let detail = notice.detail().unwrap();
    assert!(detail.contains("prepared transaction 'keep'"), "who holds the files back? {detail}");
    assert_eq!(cluster.live().len(), 6);

    db.run("commit prepared 'keep'");
    db.run("rollback prepared 'drop'");
    db.assert_stored("t", 2);
    assert_eq!(db.rvacuum(), 4, "two that were rolled back, and one more in each transaction");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 2);
    db.fill("t", 9..=9);
    db.assert_stored("t", 3);
}

#[test]
fn prepared_payloads_wait_for_the_second_phase() {
    two_phases(|_| ());
}

#[test]
fn prepared_payloads_survive_a_restart() {
    two_phases(|cluster| {
        cluster.restart();
        assert_eq!(cluster.session().rvacuum(), 0);
        cluster.restart();
    });
}

#[test]
fn prepared_payloads_survive_a_crash() {
    two_phases(|cluster| {
        cluster.kill9();
        cluster.start();
        assert_eq!(cluster.session().rvacuum(), 0);
        cluster.stop(Shutdown::Immediate);
        cluster.start();
    });
}

#[test]
fn a_prepared_deletion_keeps_its_files_until_it_is_committed() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=4);

    let prepare =
        |statement: &str, gid: &str| db.run(&format!("begin; {statement}; prepare transaction '{gid}'"));
    prepare("delete from t where n = 1", "a");
    prepare("delete from t where n = 2", "b");
    prepare("update t set b = payload(-3), r = payload(-3) where n = 3", "c");
    db.assert_stored("t", 4);
    assert_eq!(db.rvacuum(), 0);
    db.run("rollback prepared 'a'");
    db.run("commit prepared 'b'");
    db.run("rollback prepared 'c'");
    db.assert_stored("t", 3);
    assert_eq!(db.rvacuum(), 2, "row 2, and what row 3 did not become");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_reference_copied_by_a_prepared_transaction_outlives_its_source() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table copies (n int, b bytea, r rbytea)");
    db.fill("t", 1..=3);

    db.run("begin; insert into copies select * from t; prepare transaction 'a'");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 0);
    db.run("commit prepared 'a'");
    db.assert_stored("copies", 3);
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "copies")]);
}

#[test]
fn a_table_of_a_prepared_transaction_stops_the_vacuum_until_the_second_phase() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);

    db.run("begin; create table copies as select * from t; prepare transaction 'a'");
    db.run("delete from t; set lock_timeout = '100ms'");
    assert_eq!(
        db.sqlstate("select rvacuum()").code(),
        "55P03",
        "the table cannot be read, so nothing is known"
    );
    assert_eq!(cluster.live().len(), 2);
    db.run("commit prepared 'a'");
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("copies", 2);
}

#[test]
fn a_session_starts_anew_after_prepare() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("begin");
    db.fill("t", 1..=1);
    db.run("prepare transaction 'a'");

    let check = |db: &Session, n: i32, rows: i64| {
        db.fill("t", n..=n);
        db.assert_stored("t", rows);
    };
    check(&db, 2, 1);
    db.run("begin; rollback; begin");
    check(&db, 3, 2);
    db.run("rollback");
    db.run("commit prepared 'a'");
    check(&db, 4, 3);
    assert_eq!(db.rvacuum(), 1);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
