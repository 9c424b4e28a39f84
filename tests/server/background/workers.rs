//! Workers: what ends one in the middle of its work costs nothing, and what it does can be seen.

use std::time::Instant;

use crate::support::background::{
    Background, Point, Watching, bare_cluster_with, cluster, cluster_with, create_database,
};
use crate::support::cluster::{PATIENCE, SOON, Shutdown, wait_until};
use crate::support::twin_tables::{Twins, assert_live_is, triggers};

/// Settings with which the mark of a table of `MANY` rows takes minutes: longer than PATIENCE.
const SLOW: &[&str] = &["vacuum_cost_delay = '100ms'", "vacuum_cost_limit = 1"];
const MANY: &str = "insert into t (n) select n from generate_series(1000, 600000) n;
                    create view small as select * from t where n < 1000";
const MARKING: &str =
    "select exists (select from rbytea.rbytea_stat_progress_vacuum where phase = 'marking' and tuples > 0)";

#[test]
fn a_worker_that_is_terminated_anywhere_loses_nothing() {
    for point in [
        Point::BeforeMark,
        Point::BetweenRelations,
        Point::BeforeSecondHorizon,
        Point::BeforeMoves,
        Point::BeforePurge,
    ] {
        let cluster = cluster();
        let (db, gate) = (cluster.session(), cluster.session());
        db.run("create table u (n int, b bytea, r rbytea)");
        db.fill("t", 1..=4);
        db.fill("u", 1..=2);
        gate.stop_at(point);
        db.run_and_tell("delete from t where n <= 2");
        let worker = gate.await_stopped(point);

        db.execute("select pg_terminate_backend($1)", &[&worker]);
        wait_until(PATIENCE, || db.worker() != Some(worker));
        assert!(cluster.live().len() + cluster.trash().len() >= 4, "{point:?}");
        db.assert_stored("t", 2);
        db.assert_stored("u", 2);
        gate.go_on(point);
        wait_until(PATIENCE, || cluster.live().len() == 4 && cluster.trash().is_empty());
        assert_live_is(&cluster, &db, &[("r", "t"), ("r", "u")]);
    }
}

#[test]
fn a_worker_that_is_killed_anywhere_loses_nothing() {
    for point in [Point::BeforeMark, Point::BeforeMoves, Point::BeforePurge] {
        let cluster = cluster();
        let db = cluster.session();
        db.fill("t", 1..=4);
        db.stop_at(point);
        db.run_and_tell("delete from t where n <= 2");
        cluster.kill9_backend(db.await_stopped(point));
        cluster.await_log("all server processes terminated; reinitializing");
        wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());

        let db = cluster.session();
        db.assert_stored("t", 2);
        wait_until(PATIENCE, || cluster.live().len() == 2 && cluster.trash().is_empty());
        assert_live_is(&cluster, &db, &[("r", "t")]);
    }
}

#[test]
fn a_worker_that_is_cancelled_goes_into_the_history_and_the_next_one_works() {
    let cluster = cluster();
    let (db, gate) = (cluster.session(), cluster.session());
    db.fill("t", 1..=4);
    gate.stop_at(Point::BeforeMoves);
    db.run_and_tell("delete from t where n <= 2");
    let worker = gate.await_stopped(Point::BeforeMoves);
    db.execute("select pg_cancel_backend($1)", &[&worker]);
    wait_until(PATIENCE, || db.worker() != Some(worker));
    gate.go_on(Point::BeforeMoves);
    let failed = "select origin, error from rbytea.rbytea_vacuum_history where error is not null";
    wait_until(PATIENCE, || !db.text(failed).is_empty());
    assert_eq!(db.text(failed).lines().next(), Some("background|canceling statement due to user request"));
    wait_until(PATIENCE, || cluster.live().len() == 2);
    db.assert_stored("t", 2);
}

#[test]
fn a_fast_shutdown_does_not_wait_for_a_long_scan() {
    let mut cluster = cluster_with(SLOW);
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run(MANY);
    db.run_and_tell("delete from t where n = 1");
    wait_until(PATIENCE, || db.one(MARKING, &[]));

    let began = Instant::now();
    cluster.stop(Shutdown::Fast);
    let took = began.elapsed();
    assert!(took < SOON, "a shutdown in mid-scan took {took:?}");
    cluster.set_conf("vacuum_cost_delay = 0");
    cluster.start();
    let db = cluster.session();
    wait_until(PATIENCE, || cluster.live().len() == 1);
    db.assert_stored("small", 1);
}

#[test]
fn a_fast_shutdown_does_not_wait_for_a_worker_that_waits() {
    let mut cluster = cluster();
    let (db, locker) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    locker.run("begin; lock table t in access exclusive mode");
    let waits = "select exists (select from pg_stat_activity where backend_type = 'rbytea vacuum worker'
                                   and query = 'rbytea vacuum: waiting for a lock on a table')";
    wait_until(PATIENCE, || db.one(waits, &[]));
    let began = Instant::now();
    cluster.stop(Shutdown::Fast);
    let took = began.elapsed();
    assert!(took < SOON, "a shutdown took {took:?}");
    cluster.start();
    cluster.session().assert_stored("t", 2);
}

#[test]
fn pg_stat_activity_shows_what_a_worker_does() {
    let cluster = cluster();
    let (db, gate) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    let shown = "select datname, usename, backend_type, state, query from pg_stat_activity where pid = ";
    for (point, activity) in [
        (Point::BeforeMark, "locking relations"),
        (Point::BetweenRelations, "marking public.t"),
        (Point::BeforePurge, "purging TRASH"),
        (Point::BeforeMoves, "moving files"),
    ] {
        gate.stop_at(point);
        db.fill("t", 1000..=1000);
        db.run_and_tell("delete from t where n = 1000");
        let worker = gate.await_stopped(point);
        assert_eq!(
            db.text(&format!("{shown}{worker}")),
            format!("postgres|postgres|rbytea vacuum worker|active|rbytea vacuum: {activity}")
        );
        gate.go_on(point);
        wait_until(PATIENCE, || cluster.live().len() == 2 && cluster.trash().is_empty());
    }
    wait_until(PATIENCE, || db.worker().is_none());
}

#[test]
fn row_triggers_that_were_lost_come_back() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let db = cluster.session();
    db.run("create table u (n int, b bytea, r rbytea)");
    // As after pg_upgrade, and as pg_restore --disable-triggers leaves them if it ends early.
    db.run("set allow_system_table_mods = on; delete from pg_trigger where tgrelid = 't'::regclass; update pg_class set relhastriggers = false where oid = 't'::regclass");
    db.run("update pg_trigger set tgenabled = 'D' where tgrelid = 'u'::regclass");
    assert_eq!((triggers(&db, "t"), triggers(&db, "u")), (0, 0));
    db.run("insert into t values (1, '\\x01', '\\x01')");
    assert_eq!(db.uuids("r", "t").len(), 0, "without its trigger the table keeps the payload in the row");

    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    cluster.await_log("rbytea put the row trigger of 2 tables in order");
    wait_until(PATIENCE, || (triggers(&db, "t"), triggers(&db, "u")) == (1, 1));
    db.fill("u", 1..=1);
    db.assert_stored("u", 1);
    db.fill("t", 2..=2);
    db.assert_same("t", 2);
    // The payload that came without it is stored as well.
    wait_until(PATIENCE, || db.uuids("r", "t").len() == 2);
    cluster.await_visit("postgres");
    assert_eq!(cluster.logged("rbytea put the row trigger of"), 1, "only when there was something to do");
}

#[test]
fn without_a_free_slot_the_log_names_the_setting_and_service_goes_on_later() {
    // The launcher, that of logical replication, and two keepers.
    let mut cluster = bare_cluster_with(&["max_worker_processes = 4"]);
    let no_slot = "You might need to increase max_worker_processes.";
    cluster.await_log(no_slot);
    let db = cluster.session();
    db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    db.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
    db.fill("t", 1..=4);
    db.run("delete from t where n = 1");
    assert_eq!(db.rvacuum(), 1, "by hand it needs none");
    assert_eq!(db.sqlstate("begin; select pg_current_xact_id(); select rvacuum()").code(), "25001");
    db.run("rollback");
    assert_eq!(cluster.logged(no_slot), 1, "said once");
    assert_eq!(cluster.visits("postgres"), 0);

    cluster.set_conf("max_worker_processes = 5");
    cluster.restart();
    let db = cluster.session();
    db.run_and_tell("delete from t where n = 2");
    wait_until(PATIENCE, || cluster.live().len() == 2);
    db.assert_stored("t", 2);
}

#[test]
fn a_slot_that_becomes_free_is_used() {
    let cluster = cluster_with(&["max_worker_processes = 5", "max_parallel_workers = 8"]);
    let (db, gate) = (cluster.session(), cluster.session());
    db.fill("t", 1..=3);
    db.run("create table numbers as select n from generate_series(1, 1000) n");
    gate.run(
        "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
         set max_parallel_workers_per_gather = 1",
    );
    // A parallel worker takes the last slot, unless the vacuum's is in it.
    let query = || gate.start("select count(*) from numbers where pg_sleep(600) is null");
    let in_parallel = "select exists (select from pg_stat_activity where backend_type = 'parallel worker')";
    let sleeping = "select exists (select from pg_stat_activity where wait_event = 'PgSleep')";
    let mut running = query();
    loop {
        wait_until(PATIENCE, || db.one(sleeping, &[]));
        if db.one(in_parallel, &[]) {
            break;
        }
        gate.cancel();
        running.finish().unwrap_err();
        running = query();
    }
    let no_slot = "You might need to increase max_worker_processes.";
    cluster.await_log(no_slot);
    db.run_and_tell("delete from t where n = 1");
    gate.cancel();
    running.finish().unwrap_err();
    wait_until(PATIENCE, || cluster.live().len() == 2);
    db.assert_stored("t", 2);
}

#[test]
fn log_min_duration_decides_which_visits_are_logged() {
    let cluster = cluster_with(&["rbytea.log_min_duration = -1"]);
    let db = cluster.session();
    let line = "automatic rbytea vacuum of database \"postgres\": everything born before transaction";
    db.fill("t", 1..=3);
    db.run_and_tell("delete from t where n = 1");
    wait_until(PATIENCE, || cluster.live().len() == 2);
    cluster.await_visit("postgres");
    assert_eq!(cluster.logged("automatic rbytea vacuum"), 0, "-1 logs none");

    cluster.set_conf("rbytea.log_min_duration = '1h'");
    cluster.reload();
    db.run_and_tell("delete from t where n = 2");
    wait_until(PATIENCE, || cluster.live().len() == 1);
    cluster.await_visit("postgres");
    assert_eq!(cluster.logged("automatic rbytea vacuum"), 0, "shorter than that");

    cluster.set_conf("rbytea.log_min_duration = 0");
    cluster.reload();
    // A visit that has begun may go on with what it has read before.
    cluster.await_visit("postgres");
    cluster.await_visit("postgres");
    db.run_and_tell("delete from t where n = 3");
    cluster.await_log(line);
    wait_until(PATIENCE, || cluster.log().contains("1 moved to TRASH (1000 bytes)"));
    let visits = cluster.logged("automatic rbytea vacuum");
    cluster.await_visit("postgres");
    cluster.await_visit("postgres");
    assert!(cluster.logged("automatic rbytea vacuum") <= visits + 1, "nothing is said when nothing was done");
}

#[test]
fn two_databases_are_vacuumed_one_after_the_other() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'postgres, other'"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    db.fill("t", 1..=2);
    other.fill("t", 1..=2);
    let gate = cluster.session();
    gate.stop_at(Point::BeforeMoves);
    db.run_and_tell("delete from t where n = 1");
    other.run_and_tell("delete from t where n = 1");
    gate.await_stopped(Point::BeforeMoves);
    let workers = "select count(*) from pg_stat_activity where backend_type = 'rbytea vacuum worker'";
    assert_eq!(db.one::<i64>(workers, &[]), 1);
    gate.go_on(Point::BeforeMoves);
    wait_until(PATIENCE, || cluster.live().len() == 2);
    db.assert_stored("t", 1);
    other.assert_stored("t", 1);
}
