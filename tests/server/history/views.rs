//! The views: what is in the store, what a run is doing, who keeps garbage, and who may see that.

use std::fs;
use std::path::PathBuf;

use crate::support::access_method::OtherAccessMethod;
use crate::support::background::{Background, Point, Watching, cluster, cluster_with};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::twin_tables::{Twins, cluster_with_table};

fn bytes(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

#[test]
fn rbytea_stat_has_the_numbers_that_are_on_disk() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let never = "select datname, live_files, live_bytes, trash_files, trash_bytes, oldest_trash, last_whole_sweep, last_success,
                        last_run, last_failure, last_error, swept_before, recently_dead, not_judged, lost from rbytea.rbytea_stat";
    assert_eq!(db.text(never), "postgres||||||||||||||", "no run has counted files yet");
    db.run("insert into t select n, payload(n, n * 100), payload(n, n * 100) from generate_series(1, 20) n");
    db.run("delete from t where n % 4 = 0");
    db.run("set rbytea.external_threshold = 10000; insert into t values (50, payload(50), payload(50)); reset rbytea.external_threshold");
    assert_eq!(db.rvacuum(), 5);
    let stat = "select live_files, live_bytes, trash_files, trash_bytes, lost, recently_dead, not_judged from rbytea.rbytea_stat";
    let expected = || {
        let (live, trash) = (cluster.live(), cluster.trash());
        format!("{}|{}|{}|{}|0|0|0", live.len(), bytes(&live), trash.len(), bytes(&trash))
    };
    assert_eq!(db.text(stat), expected());
    assert_eq!(db.text(stat), "15|15000|5|6000|0|0|0");
    let oldest: bool = db.one("select oldest_trash = (select moved_at from rbytea.rbytea_vacuum_history order by id limit 1) from rbytea.rbytea_stat", &[]);
    assert!(oldest, "the date of the oldest file in TRASH");

    db.run("update t set b = payload(-1, 7), r = payload(-1, 7) where n = 1; begin; insert into t values (60, null, '\\x01'); rollback");
    assert_eq!(db.rvacuum(), 2);
    assert_eq!(db.text(stat), expected());
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 7);
    assert_eq!(db.text(stat), expected());
    assert!(cluster.trash().is_empty());
    assert!(db.one::<bool>("select oldest_trash is null from rbytea.rbytea_stat", &[]));
    let live = cluster.live();
    fs::remove_file(&live[3]).unwrap();
    db.rvacuum();
    assert_eq!(db.text("select lost, live_files from rbytea.rbytea_stat"), format!("1|{}", live.len() - 1));
    db.run("update t set b = null, r = null");
    db.rvacuum();
    assert_eq!(db.text(stat), expected());
    assert_eq!(db.text("select live_files, live_bytes from rbytea.rbytea_stat"), "0|0");
}

#[test]
fn rbytea_stat_keeps_the_last_error_and_when_it_was() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    assert_eq!(db.rvacuum(), 0);
    let other = OtherAccessMethod::compile(cluster.installation());
    other.create_table(&db, "odd");
    db.error("select rvacuum()");
    let failed =
        "select last_error like 'the vacuum cannot read table public.odd%' and last_failure > last_success
                     and last_run = last_failure and live_files = 2 from rbytea.rbytea_stat";
    wait_until(PATIENCE, || db.one::<Option<bool>>(failed, &[]) == Some(true));
    db.run("drop table odd");
    db.rvacuum();
    let healed = "select last_error is not null and last_failure < last_success and last_run = last_success from rbytea.rbytea_stat";
    assert!(db.one::<bool>(healed, &[]));
    assert_eq!(cluster.live().len(), 2);
}

#[test]
fn rbytea_stat_names_who_holds_garbage_back() {
    let cluster = cluster_with_table();
    let (db, reader, writer) = (cluster.session(), cluster.session(), cluster.session());
    db.fill("t", 1..=3);
    assert_eq!(db.text("select held_by from rbytea.rbytea_stat"), "{}");
    reader.run("begin isolation level repeatable read; select");
    db.run("delete from t where n = 1");
    writer.run("begin; insert into t values (7, null, '\\x01')");
    db.run("begin; insert into t values (8, null, '\\x01'); prepare transaction 'it''s'");
    db.run("select pg_create_physical_replication_slot('idle')");
    db.rvacuum();
    assert_eq!(db.text("select recently_dead, not_judged from rbytea.rbytea_stat"), "1|2");
    let holders: Vec<String> = db.column("select unnest(held_by) from rbytea.rbytea_stat", &[]);
    assert!(holders[0].starts_with(&format!("process {} ", reader.pid())), "the oldest first: {holders:?}");
    assert!(
        holders.iter().any(|holder| holder.starts_with(&format!("process {} ", writer.pid()))),
        "{holders:?}"
    );
    assert!(holders.iter().any(|holder| holder == "prepared transaction 'it''s'"), "{holders:?}");
    assert_eq!(holders.len(), 3, "a slot without an xmin holds nothing: {holders:?}");
    reader.run("commit");
    writer.run("rollback");
    db.run("rollback prepared 'it''s'");
    assert_eq!(db.rvacuum(), 3);
    assert_eq!(db.text("select recently_dead, not_judged, held_by from rbytea.rbytea_stat"), "0|0|{}");
}

#[test]
fn progress_shows_each_phase_of_a_run_by_hand_and_nothing_afterwards() {
    let cluster = cluster_with_table();
    let (db, vacuum) = (cluster.session(), cluster.session());
    let progress =
        "select pid, datname, phase, relations_total, relations_done, relid::regclass, files, moved, purged
                      from rbytea.rbytea_stat_progress_vacuum";
    db.run("create table u (n int, b bytea, r rbytea)");
    db.fill("t", 1..=6);
    db.run("delete from t where n <= 2");
    vacuum.run("set rbytea.injection_points = on");
    let pid = vacuum.pid();
    let relations: i64 = {
        db.rvacuum();
        // And three catalogs that keep values.
        db.one("select relations + 3 from rbytea.rbytea_vacuum_history order by id desc limit 1", &[])
    };
    db.run("delete from t where n = 3");
    for (point, phase, done) in [
        (Point::BeforeMark, "locking relations", 0),
        (Point::BetweenRelations, "marking", relations - 2),
        (Point::BeforeSecondHorizon, "marking", relations - 1),
        (Point::BeforeMoves, "moving files", relations - 1),
    ] {
        db.stop_at(point);
        let run = vacuum.start("begin; select rvacuum(); rollback");
        db.await_stopped(point);
        let row = &db.rows(
            "select pid, datname, phase, relations_total, relations_done from rbytea.rbytea_stat_progress_vacuum",
            &[],
        )[0];
        assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (pid, "postgres"));
        assert_eq!(row.get::<_, &str>(2), phase, "{point:?}");
        if phase != "locking relations" {
            assert_eq!((row.get::<_, i64>(3), row.get::<_, i64>(4)), (relations, done), "{point:?}");
        }
        db.go_on(point);
        run.finish().unwrap();
        assert_eq!(db.text(progress), "", "after {point:?}");
    }
    db.stop_at(Point::BeforePurge);
    let run = vacuum.start("select rvacuum_purge()");
    db.await_stopped(Point::BeforePurge);
    assert_eq!(db.text("select phase, files from rbytea.rbytea_stat_progress_vacuum"), "purging TRASH|3");
    vacuum.cancel();
    assert!(run.finish().is_err());
    assert_eq!(db.text(progress), "", "a run that failed shows no progress");
    db.go_on(Point::BeforePurge);
    db.assert_stored("t", 3);
}

#[test]
fn progress_shows_the_runs_of_other_databases_and_of_workers() {
    let cluster = cluster();
    let (db, gate) = (cluster.session(), cluster.session());
    db.run("create database other");
    let other = cluster.session_in("other");
    other.run("create extension rbytea");
    db.fill("t", 1..=3);
    gate.stop_at(Point::BeforeMoves);
    db.run_and_tell("delete from t where n = 1");
    let worker = gate.await_stopped(Point::BeforeMoves);
    assert_eq!(
        other.text("select pid, datname, phase from rbytea.rbytea_stat_progress_vacuum"),
        format!("{worker}|postgres|moving files")
    );
    // Progress of other commands is not shown as the vacuum's, nor the vacuum's as that of other commands.
    assert_eq!(db.text("select count(*) from pg_stat_progress_vacuum"), "0");
    gate.go_on(Point::BeforeMoves);
    wait_until(PATIENCE, || {
        other.text("select from rbytea.rbytea_stat_progress_vacuum").is_empty() && db.worker().is_none()
    });
}

#[test]
fn members_of_pg_monitor_alone_see_the_views() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.rvacuum();
    db.run("create role monitor login; grant pg_monitor to monitor; create role alice login");
    let (monitor, alice) = (cluster.session_as("monitor"), cluster.session_as("alice"));
    for query in [
        "select * from rbytea.rbytea_stat",
        "select * from rbytea.rbytea_vacuum_history",
        "select * from rbytea.rbytea_stat_progress_vacuum",
        "select * from rbytea_holders()",
        "select * from rbytea_purge_holders()",
        "select * from rbytea_vacuum_progress()",
    ] {
        monitor.run(query);
        assert_eq!(alice.sqlstate(query).code(), "42501", "{query}");
    }
    // A client hears of an error before its transaction has ended.
    wait_until(PATIENCE, || monitor.text("select live_files, held_by from rbytea.rbytea_stat") == "2|{}");
    db.run("begin isolation level repeatable read; select");
    let named: String = monitor.one("select held_by[1] from rbytea.rbytea_stat", &[]);
    assert!(named.starts_with(&format!("process {} ", db.pid())), "{named}");
    assert_eq!(monitor.sqlstate("select rvacuum()").code(), "42501", "pg_monitor gives no right to vacuum");
}

#[test]
fn a_mark_sleeps_as_the_cost_settings_say() {
    let cluster = cluster_with(&["vacuum_cost_delay = '50ms'", "vacuum_cost_limit = 1"]);
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run_and_tell(
        "insert into t (n) select n from generate_series(1000, 100000) n; delete from t where n = 1",
    );
    let sleeps = "select exists (select from pg_stat_activity where backend_type = 'rbytea vacuum worker'
                                    and wait_event = 'VacuumDelay')";
    wait_until(PATIENCE, || db.one(sleeps, &[]));
    cluster.set_conf("rbytea.databases_for_vacuuming = ''");
    cluster.reload();
    let worker = db.worker();
    db.execute("select pg_terminate_backend($1)", &[&worker]);
    wait_until(PATIENCE, || db.worker().is_none());

    let vacuum = cluster.session();
    let pid = vacuum.pid();
    let run = vacuum.start("select rvacuum()");
    let sleeps = "select exists (select from pg_stat_activity where pid = $1 and wait_event = 'VacuumDelay')";
    wait_until(PATIENCE, || db.one(sleeps, &[&pid]));
    vacuum.cancel();
    run.finish().unwrap_err();
    vacuum.run("set vacuum_cost_delay = 0");
    assert_eq!(vacuum.rvacuum(), 1);
    // The delay was the run's alone.
    vacuum.run("set vacuum_cost_delay = '100ms'; select rvacuum() where false; select count(*) from t");
    assert_eq!(cluster.logged("PANIC"), 0);
}
