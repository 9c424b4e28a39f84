//! The background vacuum gives way: a session that needs an exclusive lock on a table, or a database without other sessions, does not
//! wait for it.

use std::time::Instant;

use crate::support::background::{Background, Point, Watching, cluster, cluster_with, create_database};
use crate::support::cluster::{Cluster, PATIENCE, SOON, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is};

/// Settings with which the mark of a table of `MANY` rows takes minutes: longer than PATIENCE.
const SLOW: &[&str] = &["vacuum_cost_delay = '100ms'", "vacuum_cost_limit = 1"];
const MANY: &str = "insert into t (n) select n from generate_series(1000, 600000) n;
                    create view small as select * from t where n < 1000";

/// A cluster whose databases `postgres` and `other` are in the list, and sessions of both. In `other` a worker is in the
/// middle of the scan of a table, and will be for minutes.
fn in_mid_scan() -> (Cluster, Session, Session) {
    let conf = [SLOW, &["rbytea.databases_for_vacuuming = 'other, postgres'"]].concat();
    let cluster = cluster_with(&conf);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    other.fill("t", 1..=4);
    other.run(MANY);
    other.run_and_tell("delete from t where n <= 2");
    await_scan(&db);
    (cluster, db, other)
}

/// Waits until a worker is in the middle of the scan in `other`.
fn await_scan(db: &Session) {
    let scanning = "select exists (select from rbytea.rbytea_stat_progress_vacuum
                                    where datname = 'other' and phase = 'marking' and tuples > 0)";
    wait_until(PATIENCE, || db.one(scanning, &[]));
}

#[test]
fn a_database_that_is_being_scanned_can_be_dropped() {
    let (cluster, db, other) = in_mid_scan();
    drop(other);
    db.run("drop database other");
    db.fill("t", 1..=2);
    db.run_and_tell("delete from t where n = 1");
    cluster.await_log("The database does not exist.");
    db.assert_stored("t", 1);
}

#[test]
fn a_database_whose_worker_waits_can_be_dropped() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'other, postgres'"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    other.fill("t", 1..=2);
    other.run("begin; lock table t in access exclusive mode; prepare transaction 'p'");
    let waits = "select exists (select from pg_stat_activity where backend_type = 'rbytea vacuum worker'
                                   and datname = 'other' and query like '%waiting for a lock%')";
    wait_until(PATIENCE, || db.one(waits, &[]));
    other.run("rollback prepared 'p'");
    drop(other);
    db.run("drop database other");
}

#[test]
fn a_database_whose_worker_is_stopped_in_a_lock_can_be_dropped() {
    // Anything that a backend can be terminated in: DROP DATABASE WITH (FORCE).
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'other, postgres'"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    let gate = cluster.session_in("other");
    gate.stop_at(Point::BeforeMoves);
    other.fill("t", 1..=2);
    other.run_and_tell("delete from t where n = 1");
    gate.await_stopped(Point::BeforeMoves);
    db.run("drop database other with (force)");
    cluster.await_log("The database does not exist.");
}

#[test]
fn a_database_that_is_being_scanned_can_be_a_template() {
    let (cluster, db, other) = in_mid_scan();
    drop(other);
    db.run("create database copy template other");
    let copy = cluster.session_in("copy");
    copy.assert_stored("small", 2);
    await_scan(&db);
    db.run("alter database other rename to another");
    cluster.session_in("another").assert_stored("small", 2);
}

#[test]
fn a_session_that_waits_for_a_table_in_mid_scan_gets_it_soon() {
    let (cluster, db, other) = in_mid_scan();
    for statement in ["alter table t add column x int", "lock table t in access exclusive mode", "truncate t"]
    {
        await_scan(&db);
        let began = Instant::now();
        other.run(&format!("begin; {statement}; rollback"));
        // deadlock_timeout, after which autovacuum is cancelled too, and some more.
        let took = began.elapsed();
        assert!(took < SOON, "{statement} took {took:?}");
    }
    // The worker tries again for a while; if another session waits for the table each time, the run ends, and the next round tries again.
    let failures = "select count(*) from rbytea.rbytea_vacuum_history where error like '%gave way%'";
    let giving_way = || other.one::<i64>(failures, &[]) > 0;
    wait_until(2 * PATIENCE, || {
        await_scan(&db);
        other.run("begin; lock table t in access exclusive mode; rollback");
        giving_way()
    });
    let why: String = other.one("select last_error from rbytea.rbytea_stat", &[]);
    assert!(why.contains("another session waits for a lock on a table"), "{why}");
    assert_eq!(cluster.trash().len(), 0, "a run that gave way has moved something");
    other.assert_stored("small", 2);

    cluster.set_conf("vacuum_cost_delay = 0");
    cluster.reload();
    // The setting is for the next worker.
    other.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'rbytea vacuum worker'",
    );
    wait_until(PATIENCE, || cluster.live().len() == 2);
    assert_live_is(&cluster, &other, &[("r", "t")]);
}

#[test]
fn reading_and_writing_go_on_while_a_worker_scans() {
    let (_cluster, db, other) = in_mid_scan();
    await_scan(&db);
    let worker: Vec<i32> =
        db.column("select pid from rbytea.rbytea_stat_progress_vacuum where datname = 'other'", &[]);
    other.fill("t", 5..=6);
    other.run("update t set b = payload(-3), r = payload(-3) where n = 3; create index on t (n)");
    other.assert_stored("small", 4);
    let now: Vec<i32> =
        db.column("select pid from rbytea.rbytea_stat_progress_vacuum where datname = 'other'", &[]);
    assert_eq!(now, worker, "the worker had to give way to those who do not wait for it");
}

#[test]
fn a_locked_table_fails_the_visit_of_its_database_and_no_other() {
    // Where locks are logged, they have a transaction id, which holds back what is younger in every database.
    let quiet =
        ["rbytea.databases_for_vacuuming = 'other, postgres'", "wal_level = minimal", "max_wal_senders = 0"];
    let cluster = cluster_with(&quiet);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    db.fill("t", 1..=2);
    other.fill("t", 1..=2);
    other.run("create table \"Locked\" (n int, r rbytea)");
    other.run_and_tell("delete from t where n = 1");
    let locker = cluster.session_in("other");
    locker.run("begin; lock table \"Locked\" in access exclusive mode");
    let failed = "select error from rbytea.rbytea_vacuum_history where error is not null order by id limit 1";
    wait_until(PATIENCE, || !other.text(failed).is_empty());
    let error = other.text(failed);
    assert!(error.contains("the vacuum could not lock table public.\"Locked\""), "{error}");
    cluster.await_log("the vacuum could not lock table public.\"Locked\"");

    db.run_and_tell("delete from t where n = 1");
    let oid: u32 = db.one("select oid from pg_database where datname = 'postgres'", &[]);
    wait_until(PATIENCE, || cluster.store_files()[&oid].live.len() == 1);
    locker.run("rollback");
    wait_until(PATIENCE, || cluster.live().len() == 2);
    other.assert_stored("t", 1);
}

#[test]
fn a_lock_that_is_held_for_a_moment_fails_nothing() {
    let cluster = cluster();
    let (db, locker) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    locker.run("begin; lock table t in access exclusive mode");
    let waits = "select exists (select from pg_stat_activity where backend_type = 'rbytea vacuum worker'
                                   and query like '%waiting for a lock%')";
    wait_until(PATIENCE, || db.one(waits, &[]));
    locker.run("delete from t where n = 1; commit; select pg_stat_force_next_flush()");
    wait_until(PATIENCE, || cluster.live().len() == 1);
    assert_eq!(
        db.one::<i64>("select count(*) from rbytea.rbytea_vacuum_history where error is not null", &[]),
        0
    );
}

#[test]
fn a_trigger_that_cannot_be_put_back_now_keeps_no_garbage() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let (db, locker) = (cluster.session(), cluster.session());
    db.run("create table u (n int, b bytea, r rbytea); set allow_system_table_mods = on");
    db.run("update pg_trigger set tgenabled = 'D' where tgrelid = 'u'::regclass");
    db.fill("t", 1..=2);
    db.run_and_tell("delete from t where n = 1");
    locker.run("begin; lock table u in row exclusive mode");
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    wait_until(PATIENCE, || cluster.live().len() == 1);
    locker.run("commit");
    cluster.await_log("rbytea put the row trigger of 1 tables in order");
}

#[test]
fn databases_are_created_and_dropped_beside_the_background_vacuum() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'source, coming, postgres'"]);
    let db = cluster.session();
    let source = create_database(&cluster, "source");
    source.fill("t", 1..=3);
    drop(source);
    wait_until(PATIENCE, || db.launcher().is_some());
    let launcher = db.launcher();
    for round in 1..=8 {
        // Whenever the launcher comes by; a reload makes it come now.
        db.run("create database coming template source");
        cluster.reload();
        let coming = cluster.session_in("coming");
        coming.assert_stored("t", 3);
        coming.run_and_tell(&format!("delete from t where n <= {}", round % 3));
        drop(coming);
        cluster.reload();
        db.run("drop database coming");
    }
    assert_eq!(db.launcher(), launcher);
    cluster.session_in("source").assert_stored("t", 3);
    db.fill("t", 1..=2);
    db.run_and_tell("delete from t where n = 1");
    let oid: u32 = db.one("select oid from pg_database where datname = 'postgres'", &[]);
    wait_until(PATIENCE, || cluster.store_files()[&oid].live.len() == 1);
    cluster.session_in("source").assert_stored("t", 3);
}

#[test]
fn a_run_in_a_transaction_that_does_not_end_keeps_the_background_vacuum_away_and_that_is_said() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'postgres'"]);
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run("begin; select rvacuum(); prepare transaction 'forgotten'");
    db.run_and_tell("delete from t where n = 1");
    cluster.await_log("A transaction that has run the vacuum by hand has not ended.");
    assert_eq!(cluster.live().len(), 2);
    db.run("commit prepared 'forgotten'");
    wait_until(PATIENCE, || cluster.live().len() == 1);
}
