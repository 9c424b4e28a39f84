//! SIGKILL at each injection point of the vacuum, in the middle of its moves and of its deletions, and between the moves and
//! the row of history that tells of them.

use super::ways::{WAYS, assert_sound, cluster, crash};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::background::{Point, Watching};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::processes::{Process, hold, hurry};
use crate::support::session::{Running, Session};
use crate::support::twin_tables::Twins;

const POINTS: [Point; 5] = [
    Point::BeforeMark,
    Point::BetweenRelations,
    Point::BeforeSecondHorizon,
    Point::BeforeMoves,
    Point::BeforePurge,
];

/// Five rows in each table, some of them with each other's payloads; files in LIVE and in TRASH that no row refers to.
fn mess(db: &Session) {
    db.run("truncate t, u");
    db.fill("t", 1..=8);
    db.run("insert into u select n + 10, b, r from t where n > 6");
    db.fill("u", 1..=3);
    db.run("delete from t where n in (1, 7)");
    db.run("select rvacuum()");
    // What is deleted from TRASH and not logged yet would be written again.
    db.run("checkpoint");
    db.run_and_tell("delete from t where n = 2");
}

fn proven(cases: usize) {
    for promise in [Promise::Durable, Promise::OnlyGarbage, Promise::Collected] {
        proves_by_assertions(promise, cases as u64);
    }
}

#[test]
fn a_run_by_hand_that_is_killed_at_any_point_has_cost_nothing() {
    let mut cluster = cluster(&["rbytea.injection_points = on"]);
    for way in WAYS {
        for point in POINTS {
            let (gate, vacuum) = (cluster.session(), cluster.session());
            mess(&gate);
            let pid = vacuum.pid();
            gate.stop_at(point);
            let run = vacuum.start("select rvacuum_purge()");
            assert_eq!(gate.await_stopped(point), pid);
            let trash = cluster.trash().len();
            let db = crash(&mut cluster, way, pid);
            assert!(run.finish().is_err(), "{point:?}");
            assert_eq!(cluster.trash().len(), trash, "{point:?}");
            assert_sound(&cluster, &db, [5, 5]);
        }
    }
    proven(2 * POINTS.len());
}

#[test]
fn a_visit_of_the_background_vacuum_that_is_killed_at_any_point_has_cost_nothing() {
    let mut cluster = cluster(&[
        "rbytea.injection_points = on",
        "rbytea.databases_for_vacuuming = 'postgres'",
        "rbytea.vacuum_naptime = 1s",
    ]);
    for way in WAYS {
        for point in POINTS {
            let (db, keeper) = (cluster.session(), cluster.session());
            // While it is there nothing is deleted, so that a worker finds something to delete.
            keeper.run("create temp table hidden (r rbytea)");
            mess(&db);
            db.stop_at(point);
            drop(keeper);
            db.run_and_tell("delete from t where n = 3");
            wait_until(PATIENCE, || {
                hurry(&cluster);
                db.worker().is_some_and(|worker| db.sees_waiting(worker))
            });
            let worker = db.await_stopped(point);
            assert!(matches!(point, Point::BeforeMoves) || !cluster.trash().is_empty());
            let db = crash(&mut cluster, way, worker);
            db.assert_stored("t", 4);
            db.assert_stored("u", 5);
            wait_until(PATIENCE, || {
                hurry(&cluster);
                cluster.live().len() == 8 && cluster.trash().is_empty()
            });
            assert_sound(&cluster, &db, [4, 5]);
        }
    }
    proven(2 * POINTS.len());
}

/// A session, and nothing in the tables or in the store.
fn emptied(cluster: &Cluster) -> Session {
    let db = cluster.session();
    db.run("truncate t, u");
    assert_sound(cluster, &db, [0, 0]);
    db
}

/// Makes a run sleep before each file, and waits until it has moved or deleted some and not all of them.
fn in_the_middle(cluster: &Cluster, vacuum: &Session, trash: std::ops::Range<usize>) -> (i32, Running) {
    let pid = vacuum.pid();
    // Pages that are in memory cost nothing.
    vacuum.run("set vacuum_cost_delay = 50; set vacuum_cost_limit = 1; set vacuum_cost_page_hit = 0");
    let run = vacuum.start("select rvacuum_purge()");
    wait_until(PATIENCE, || trash.contains(&cluster.trash().len()));
    hold(cluster, &Process::of(pid));
    (pid, run)
}

#[test]
fn a_run_that_is_killed_in_the_middle_of_its_moves_has_cost_nothing() {
    let mut cluster = cluster(&[]);
    for way in WAYS {
        let (db, vacuum) = (emptied(&cluster), cluster.session());
        db.fill("t", 1..=60);
        db.fill("u", 1..=5);
        db.run("delete from t where n > 5");
        let (pid, run) = in_the_middle(&cluster, &vacuum, 2..40);
        let db = crash(&mut cluster, way, pid);
        assert!(run.finish().is_err());
        let moved = cluster.trash().len();
        assert!((2..50).contains(&moved), "it was not killed in the middle of its moves: {moved}");
        assert_sound(&cluster, &db, [5, 5]);
    }
    proven(2);
}

#[test]
fn a_run_that_is_killed_in_the_middle_of_its_deletions_has_cost_nothing() {
    let mut cluster = cluster(&[]);
    for way in WAYS {
        let (db, vacuum) = (emptied(&cluster), cluster.session());
        db.fill("t", 1..=60);
        db.fill("u", 1..=5);
        db.run("delete from t where n > 5");
        assert_eq!(db.rvacuum(), 55);
        db.run("checkpoint");
        let (pid, run) = in_the_middle(&cluster, &vacuum, 15..53);
        let db = crash(&mut cluster, way, pid);
        assert!(run.finish().is_err());
        let left = cluster.trash().len();
        assert!((1..55).contains(&left), "it was not killed in the middle of its deletions: {left}");
        assert_sound(&cluster, &db, [5, 5]);
    }
    proven(2);
}

/// Nothing tells later runs of these moves, but the date of the files.
#[test]
fn files_whose_move_is_in_no_row_of_history_are_purged_later() {
    let mut cluster = cluster(&[]);
    let db = cluster.session();
    db.run(
        "create function wait() returns trigger language plpgsql as $$ begin
             perform pg_catalog.pg_advisory_xact_lock_shared(29282, 5); return new; end $$;
         create trigger wait before insert on rbytea.rbytea_vacuum_history for each row execute function wait()",
    );
    for way in WAYS {
        let (gate, vacuum) = (emptied(&cluster), cluster.session());
        gate.fill("t", 1..=10);
        gate.fill("u", 1..=5);
        gate.run("delete from t where n > 5");
        let pid = vacuum.pid();
        gate.stop_at(Point::BeforePurge);
        let run = vacuum.start("select rvacuum()");
        assert_eq!(gate.await_stopped(Point::BeforePurge), pid);
        assert_eq!(cluster.trash().len(), 5);
        let db = crash(&mut cluster, way, pid);
        assert!(run.finish().is_err());
        assert_eq!(cluster.trash().len(), 5);
        assert_sound(&cluster, &db, [5, 5]);
    }
    proven(2);
}
