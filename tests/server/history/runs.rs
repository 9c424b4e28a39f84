//! Every run leaves a row in the history, also one that failed, and the history does not grow for ever.

use crate::support::access_method::OtherAccessMethod;
use crate::support::background::{Background, Point, Watching, cluster_with};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, with_garbage};

const FAILED: &str =
    "select origin, error from rbytea.rbytea_vacuum_history where error is not null order by id desc limit 1";

/// The origin and the error of the newest run that failed, once there are so many.
#[track_caller]
fn failure(db: &Session, count: i64) -> String {
    let failures = "select count(*) from rbytea.rbytea_vacuum_history where error is not null";
    wait_until(PATIENCE, || db.one::<i64>(failures, &[]) == count);
    db.text(FAILED)
}

#[test]
fn a_call_that_fails_is_recorded_although_its_transaction_is_rolled_back() {
    let (cluster, db) = with_garbage();
    let other = OtherAccessMethod::compile(cluster.installation());
    other.create_table(&db, "odd");

    assert_eq!(db.sqlstate("select rvacuum()").code(), "0A000");
    let row = failure(&db, 1);
    assert!(
        row.starts_with("rvacuum|the vacuum cannot read table public.odd: its access method is not heap"),
        "{row}"
    );
    assert!(row.contains("; Without"), "with as much of the DETAIL as there is room for: {row}");
    assert_eq!(db.sqlstate("select rvacuum_purge()").code(), "0A000");
    let row = failure(&db, 2);
    assert!(row.starts_with("rvacuum_purge|"), "{row}");
    let figures = "select xid is null, moved_at is null, trashed, purged, started <= finished from rbytea.rbytea_vacuum_history";
    assert_eq!(db.text(figures), "t|t|0|0|t\nt|t|0|0|t");
    assert_eq!(cluster.trash().len(), 0);

    // In whatever block it fails, the error is the client's and the row is there.
    db.run("begin; savepoint s");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "0A000");
    db.run("rollback to s; create table kept (n int); commit");
    failure(&db, 3);
    db.run(
        "do $$ begin perform rvacuum(); exception when feature_not_supported then null; end $$; table kept",
    );
    failure(&db, 4);

    db.run("drop table odd");
    assert_eq!(db.rvacuum(), 4);
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 4);
}

#[test]
fn a_call_that_is_cancelled_or_times_out_is_recorded() {
    let (cluster, db) = with_garbage();
    let (other, pid) = (cluster.session(), db.pid());
    other.run("begin; lock table t in access exclusive mode");
    let run = db.start("select rvacuum()");
    wait_until(PATIENCE, || other.sees_waiting(pid));
    db.cancel();
    assert_eq!(run.finish().unwrap_err().code().unwrap().code(), "57014");
    assert_eq!(failure(&db, 1), "rvacuum|canceling statement due to user request");

    assert_eq!(db.sqlstate("set statement_timeout = '2s'; select rvacuum()").code(), "57014");
    assert_eq!(failure(&db, 2), "rvacuum|canceling statement due to statement timeout");
    assert_eq!(
        db.sqlstate("set statement_timeout = 0; set lock_timeout = '200ms'; select rvacuum()").code(),
        "55P03"
    );
    assert_eq!(failure(&db, 3), "rvacuum|canceling statement due to lock timeout");
    other.run("rollback");
    assert_eq!(db.rvacuum(), 4);
}

#[test]
fn a_call_whose_session_is_terminated_leaves_no_harm() {
    let (cluster, db) = with_garbage();
    let victim = cluster.session();
    victim.run("set rbytea.injection_points = on");
    let pid = victim.pid();
    db.stop_at(Point::BeforeMoves);
    let run = victim.start("select rvacuum()");
    db.await_stopped(Point::BeforeMoves);
    db.execute("select pg_terminate_backend($1)", &[&pid]);
    assert!(run.finish().is_err());
    db.go_on(Point::BeforeMoves);
    assert_eq!(db.rvacuum(), 4);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_call_without_the_right_to_execute_is_not_recorded() {
    let (_cluster, db) = with_garbage();
    db.run("create role alice; set role alice");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "42501");
    db.run("reset role");
    assert_eq!(db.rvacuum(), 4);
    assert_eq!(
        db.text("select trashed, error is null from rbytea.rbytea_vacuum_history"),
        "4|t",
        "nothing was begun"
    );
}

#[test]
fn without_a_worker_slot_a_failure_is_an_error_all_the_same() {
    let cluster = crate::support::twin_tables::cluster_with(&[
        "max_worker_processes = 0",
        "shared_preload_libraries = ''",
    ]);
    let db = cluster.session();
    db.run("create table t (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=2);
    db.run("delete from t where n = 1");
    let other = OtherAccessMethod::compile(cluster.installation());
    other.create_table(&db, "odd");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "0A000", "not an error about workers");
    db.run("drop table odd");
    assert_eq!(db.rvacuum(), 1);
}

#[test]
fn the_name_of_a_table_in_any_script_is_recorded() {
    let (cluster, db) = with_garbage();
    let other = OtherAccessMethod::compile(cluster.installation());
    other.create_table(&db, "\"Größe 数\"");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "0A000");
    let row = failure(&db, 1);
    assert!(row.contains("public.\"Größe 数\""), "{row}");
}

#[test]
fn the_history_keeps_a_bounded_number_of_rows_and_the_last_whole_sweep() {
    let cluster = cluster_with(&[
        "rbytea.databases_for_vacuuming = ''",
        "rbytea.vacuum_full_interval = '1000d'",
        // A purge is a reason for a whole sweep.
        "rbytea.trash_retention = -1",
    ]);
    let db = cluster.session();
    db.fill("t", 1..=4);
    db.run_and_tell("delete from t where n = 1");
    assert_eq!(db.rvacuum(), 1);
    let whole: i64 = db.one("select max(id) from rbytea.rbytea_vacuum_history", &[]);
    let copy_rows = "insert into rbytea.rbytea_vacuum_history (origin, system_identifier, database, started, finished, xid, lower, upper, relations, tuples,
               directories, files, recently_dead, not_judged, trashed, bytes, restored, lost, purged, purged_bytes)
           select 'background', system_identifier, database, now(), now(), xid, upper, upper, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
             from (select * from rbytea.rbytea_vacuum_history where lower = '0' order by id desc limit 1) h, generate_series(1, $1)";
    db.execute(copy_rows, &[&1500]);
    let rows = || db.one::<i64>("select count(*) from rbytea.rbytea_vacuum_history", &[]);
    assert_eq!(rows(), 1501);

    // A round of the background vacuum.
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    db.run("begin");
    db.fill("t", 10..=10);
    db.run("rollback");
    wait_until(PATIENCE, || cluster.live().len() == 3);
    wait_until(PATIENCE, || rows() <= 1002);
    assert!(rows() >= 1000, "recent runs are kept");
    let kept: bool =
        db.one("select exists (select from rbytea.rbytea_vacuum_history where id = $1)", &[&whole]);
    assert!(
        kept,
        "the next visit would sweep the whole store, because the row of the last whole sweep is gone"
    );
    assert!(db.one::<bool>(
        "select last_whole_sweep is not null and live_files is not null from rbytea.rbytea_stat",
        &[]
    ));
    let first: i64 =
        db.one("select count(*) from rbytea.rbytea_vacuum_history where lower = '0' and error is null", &[]);
    assert_eq!(first, 1, "the round made no whole sweep");

    assert_eq!(db.rvacuum(), 0);
    cluster.await_visit("postgres");
    assert!(rows() <= 1002);
    let gone: bool =
        db.one("select not exists (select from rbytea.rbytea_vacuum_history where id = $1)", &[&whole]);
    assert!(gone, "there is a newer whole sweep");
    db.assert_stored("t", 3);
}

#[test]
fn the_history_is_not_dumped_and_the_extension_s_users_cannot_write_it() {
    let (cluster, db) = with_garbage();
    db.rvacuum();
    let dump = String::from_utf8(cluster.pg_dump(&[])).unwrap();
    assert!(
        !dump.contains("COPY rbytea.rbytea_vacuum_history"),
        "a restored database has a store of its own"
    );
    db.run("create role alice login; grant pg_monitor to alice");
    let alice = cluster.session_as("alice");
    for statement in [
        "delete from rbytea.rbytea_vacuum_history",
        "update rbytea.rbytea_vacuum_history set trashed = 0",
        "truncate rbytea.rbytea_vacuum_history",
    ] {
        assert_eq!(alice.sqlstate(statement).code(), "42501", "{statement}");
    }
}

/// An older snapshot does not see that the rows are gone, and deleting them once more would be a serialization failure.
#[test]
fn a_run_under_an_old_snapshot_whose_history_another_run_has_trimmed_succeeds() {
    let (cluster, db) = with_garbage();
    assert_eq!(db.rvacuum(), 4);
    let old = "insert into rbytea.rbytea_vacuum_history (origin, system_identifier, database, started, finished, xid, lower, upper, relations, tuples,
                   directories, files, recently_dead, not_judged, trashed, bytes, restored, lost, purged, purged_bytes)
               select 'background', system_identifier, database, now(), now(), xid, upper, upper, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
                 from rbytea.rbytea_vacuum_history, generate_series(1, 1100) order by id limit 1100";
    let rows = || db.one::<i64>("select count(*) from rbytea.rbytea_vacuum_history", &[]);
    for (n, level) in [(5, "repeatable read"), (6, "serializable")] {
        let late = cluster.session();
        let waiting = cluster.session();
        db.run(old);
        late.run(&format!("begin isolation level {level}; select 1"));
        waiting.run(&format!("set default_transaction_isolation = '{level}'"));
        db.run(&format!("delete from t where n = {n}"));
        // The third run has its snapshot before it waits for the second, as behind the background vacuum.
        db.run("begin; lock table rbytea.rbytea_vacuum_history in share update exclusive mode");
        let pid = waiting.pid();
        let run = waiting.start("select rvacuum()");
        wait_until(PATIENCE, || db.sees_waiting(pid));
        db.run("select rvacuum()");
        db.run("commit");
        assert!(rows() <= 1003, "the test is about rows that are gone");
        run.finish().unwrap_or_else(|error| panic!("{level}, and after a wait: {error}"));

        let trashed: i64 = late.one("select rvacuum()", &[]);
        late.run("commit");
        assert_eq!(trashed, 0);
        db.run("select rvacuum()");
        assert!(rows() <= 1003, "a later run trims again");
    }
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 2);
}
