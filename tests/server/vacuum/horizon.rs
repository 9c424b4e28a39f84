//! What old snapshots can still see stays, and rvacuum() says who has them.

use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::standby::standby_of;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

/// The only notice since the last one; its DETAIL.
#[track_caller]
fn detail(db: &Session) -> String {
    let notices = db.notices();
    assert_eq!(notices.len(), 1, "one NOTICE says what is held back: {notices:?}");
    assert_eq!(notices[0].severity(), "NOTICE");
    assert!(notices[0].hint().is_some());
    notices[0].detail().unwrap().to_owned()
}

#[test]
fn a_snapshot_of_another_session_keeps_what_it_sees() {
    let cluster = cluster_with_table();
    let (db, reader) = (cluster.session(), cluster.session());
    let pid = reader.pid().to_string();
    db.fill("t", 1..=4);

    reader.run("begin isolation level repeatable read; select");
    db.run("delete from t where n <= 2; update t set b = payload(-3), r = payload(-3) where n = 3");
    assert_eq!(db.rvacuum(), 0);
    let said = detail(&db);
    assert!(said.contains(&pid), "who holds the files back? {said}");
    assert!(said.contains("still see: 3."), "how many? {said}");
    reader.assert_stored("t", 4);

    db.run("begin");
    db.fill("t", 5..=6);
    db.run("rollback");
    assert_eq!(db.rvacuum(), 2, "what was rolled back is in no snapshot");
    assert!(detail(&db).contains(&pid));
    reader.assert_stored("t", 4);
    reader.run("commit");
    assert_eq!(db.rvacuum(), 3);
    assert!(db.notices().is_empty());
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn an_open_cursor_and_a_running_statement_keep_what_they_see() {
    let cluster = cluster_with_table();
    let (db, reader) = (cluster.session(), cluster.session());
    let pid = reader.pid();
    db.fill("t", 4..=5);
    reader.run("begin; declare c cursor for select n, b, r from t order by n; fetch c");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 0);
    assert!(detail(&db).contains(&pid.to_string()));
    let row = &reader.rows("fetch c", &[])[0];
    assert_eq!(
        row.get::<_, crate::support::payload::Payload>("r"),
        row.get("b"),
        "a cursor still reads the deleted row"
    );
    reader.run("close c");
    assert_eq!(db.rvacuum(), 2, "READ COMMITTED keeps no snapshot between statements");
    reader.run("commit");

    db.fill("t", 6..=7);
    db.run("select pg_advisory_lock(1)");
    let running = reader.start(
        "create table seen as select b, r from t where (select pg_advisory_lock_shared(1) is not null)",
    );
    wait_until(PATIENCE, || db.sees_waiting(pid));
    db.run("delete from t");
    db.run("set lock_timeout = '100ms'");
    assert_eq!(
        db.sqlstate("select rvacuum()").code(),
        "55P03",
        "the table that is being created may refer to anything"
    );
    db.run("select pg_advisory_unlock(1); reset lock_timeout");
    running.finish().unwrap();
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("seen", 2);
}

#[test]
fn transactions_that_only_have_an_id_are_named_too() {
    let cluster = cluster_with_table();
    let (db, writer) = (cluster.session(), cluster.session());

    writer.run("begin; select pg_current_xact_id()");
    db.run("begin");
    db.fill("t", 1..=2);
    db.run("rollback");
    assert_eq!(db.rvacuum(), 0);
    assert!(detail(&db).contains(&writer.pid().to_string()));
    writer.run("rollback");
    assert_eq!(db.rvacuum(), 2);
}

#[test]
fn the_vacuum_s_own_transaction_may_be_the_one_that_holds_files_back() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);

    db.run("begin isolation level repeatable read; select count(*) from t");
    other.run("delete from t");
    assert_eq!(db.rvacuum(), 0, "the transaction itself still sees the rows");
    assert!(detail(&db).contains("the transaction that runs the vacuum"));
    db.assert_stored("t", 2);
    db.run("commit");
    assert_eq!(db.rvacuum(), 2);
}

#[test]
fn rows_that_are_locked_by_several_sessions_count() {
    let cluster = cluster_with_table();
    let (db, first, second) = (cluster.session(), cluster.session(), cluster.session());
    db.fill("t", 1..=3);

    first.run("begin; select from t for key share");
    second
        .run("begin; select from t for key share; update t set b = payload(-n), r = payload(-n) where n = 1");
    db.run("update t set b = payload(-n), r = payload(-n) where n = 2");
    db.rvacuum();
    db.assert_stored("t", 3);
    second.run("rollback");
    first.run("delete from t where n = 3; commit");
    db.assert_stored("t", 2);
    db.rvacuum();
    assert_eq!(cluster.trash().len(), 3, "two old payloads, and one that was rolled back");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 2);
}

#[test]
fn sessions_of_other_databases_hold_back_nothing_that_they_cannot_see() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create database other");
    let reader = cluster.session_in("other");
    db.fill("t", 1..=2);

    reader.run("begin isolation level repeatable read; select 1");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 2);
    reader.run("commit");
}

#[test]
fn a_replication_slot_keeps_what_its_standby_sees() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    let standby = standby_of(&cluster, &["hot_standby_feedback = on", "wal_receiver_status_interval = 1s"]);
    let reader = standby.session();
    reader.run("begin isolation level repeatable read");
    reader.assert_stored("t", 3);
    let slot = "select xmin is not null from pg_replication_slots where slot_name = 'standby'";
    wait_until(PATIENCE, || db.one::<Option<bool>>(slot, &[]) == Some(true));

    db.run("delete from t where n <= 2");
    assert_eq!(db.rvacuum(), 0);
    let said = detail(&db);
    assert!(said.contains("replication slot standby"), "{said}");
    reader.assert_stored("t", 3);
    reader.run("commit");
    // The standby tells of its next snapshot, and the slot moves on.
    wait_until(PATIENCE, || db.rvacuum() == 2);
    db.assert_stored("t", 1);
}

#[test]
fn a_standby_reads_and_vacuums_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run("delete from t where n = 1");
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();

    reader.assert_stored("t", 2);
    for call in ["rvacuum()", "rvacuum_plan()", "rbytea_adopt_store()", "rbytea_store('\\x01')"] {
        assert_eq!(reader.sqlstate(&format!("select {call}")).code(), "25006", "{call}");
    }
    assert_eq!(standby.live().len(), 3);
    assert_eq!(standby.trash().len(), 0);
}
