//! The launcher: it is there, does its rounds by itself, follows the settings, and comes back whatever ended it.

use crate::support::background::{
    Background, Point, Watching, bare_cluster_with, cluster, cluster_with, create_database,
};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::twin_tables::{Twins, assert_live_is};

#[test]
fn garbage_goes_to_trash_and_out_of_it_without_a_call_of_rvacuum() {
    let cluster = cluster_with(&["rbytea.trash_retention = -1"]);
    let db = cluster.session();
    db.fill("t", 1..=6);
    cluster.await_visit("postgres");
    assert_eq!(cluster.live().len(), 6, "files of rows have left LIVE");

    db.run_and_tell("delete from t where n <= 2");
    db.run("begin");
    db.fill("t", 7..=7);
    db.run("rollback");
    wait_until(PATIENCE, || cluster.trash().len() == 3);
    assert_live_is(&cluster, &db, &[("r", "t")]);
    cluster.await_visit("postgres");
    assert_eq!(cluster.trash().len(), 3, "a retention of -1 keeps TRASH for ever");

    cluster.set_conf("rbytea.trash_retention = 0");
    cluster.reload();
    wait_until(PATIENCE, || cluster.trash().is_empty());
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 4);
    let called: i64 =
        db.one("select count(*) from rbytea.rbytea_vacuum_history where origin <> 'background'", &[]);
    assert_eq!(called, 0);
}

#[test]
fn the_launcher_is_seen_in_pg_stat_activity_and_is_connected_to_no_database() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    wait_until(PATIENCE, || db.launcher().is_some());
    let seen = "select datname is null, backend_type, wait_event_type, wait_event from pg_stat_activity
                 where backend_type = 'rbytea vacuum launcher'";
    wait_until(PATIENCE, || db.text(seen) == "t|rbytea vacuum launcher|Extension|Extension");
    assert_eq!(db.worker(), None, "a worker has started, and no database is to be vacuumed");
}

#[test]
fn without_preloading_there_is_no_launcher() {
    let cluster = Cluster::with_extension_and(&["shared_preload_libraries = ''"]);
    let db = cluster.session();
    assert_eq!(db.launcher(), None);
    db.run("create table t (n int, r rbytea); insert into t values (1, '\\x01'); delete from t");
    assert_eq!(db.rvacuum(), 1, "rvacuum() needs none");
}

#[test]
fn a_reload_changes_the_list_and_the_naptime() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    let launcher = db.launcher();
    assert_eq!(cluster.visits("postgres"), 0);

    cluster.set_conf("rbytea.databases_for_vacuuming = 'other'");
    cluster.reload();
    cluster.await_visit("other");
    // Only a reload ends so long a sleep.
    cluster.set_conf("rbytea.vacuum_naptime = '1d'");
    cluster.set_conf("rbytea.databases_for_vacuuming = 'other, postgres'");
    cluster.reload();
    wait_until(PATIENCE, || db.one("select exists (select from rbytea.rbytea_vacuum_history)", &[]));
    wait_until(PATIENCE, || db.worker().is_none());
    db.fill("t", 1..=2);
    db.run_and_tell("delete from t");
    assert_eq!((cluster.visits("postgres"), cluster.live().len()), (1, 2), "the launcher sleeps for a day");
    cluster.set_conf("rbytea.vacuum_naptime = '1s'");
    cluster.reload();
    wait_until(PATIENCE, || cluster.live().is_empty());
    assert_eq!(db.launcher(), launcher, "nothing was restarted");

    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    let visits = cluster.visits("other");
    other.fill("t", 1..=2);
    other.run_and_tell("delete from t");
    cluster.await_visit("postgres");
    assert!(cluster.visits("other") <= visits + 1, "a database that has left the list is visited no more");
}

#[test]
fn a_reload_while_a_worker_runs_is_not_forgotten() {
    let cluster = cluster();
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    db.stop_at(Point::BeforeMoves);
    db.fill("t", 1..=1);
    db.run_and_tell("delete from t");
    db.await_stopped(Point::BeforeMoves);

    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres, other'");
    cluster.set_conf("rbytea.vacuum_naptime = '1d'");
    cluster.reload();
    other.run("insert into t (n, r) values (1, '\\x01'); delete from t");
    db.go_on(Point::BeforeMoves);
    wait_until(PATIENCE, || cluster.live().is_empty());
}

#[test]
fn an_invalid_list_is_refused_and_the_old_one_stays() {
    let cluster = cluster();
    let db = cluster.session();
    for wrong in ["postgres, , other", "postgres other", "\"postgres", ","] {
        let refusals = cluster.logged("invalid value for parameter \"rbytea.databases_for_vacuuming\"");
        cluster.set_conf(&format!("rbytea.databases_for_vacuuming = '{wrong}'"));
        // Not `reload`: the server need not say that it has read a file with errors.
        db.run("select pg_reload_conf()");
        wait_until(PATIENCE, || {
            cluster.logged("invalid value for parameter \"rbytea.databases_for_vacuuming\"") > refusals
        });
        assert_eq!(db.one::<String>("show rbytea.databases_for_vacuuming", &[]), "postgres", "{wrong}");
    }
    db.fill("t", 1..=2);
    db.run_and_tell("delete from t");
    wait_until(PATIENCE, || cluster.live().is_empty());

    db.run("alter system set rbytea.databases_for_vacuuming = 'postgres', 'Other'");
    assert_eq!(db.sqlstate("alter system set rbytea.databases_for_vacuuming = 'a, , b'").code(), "22023");
    assert_eq!(db.sqlstate("set rbytea.databases_for_vacuuming = 'postgres'").code(), "55P02");
}

#[test]
fn a_terminated_launcher_comes_back() {
    let cluster = cluster();
    let db = cluster.session();
    wait_until(PATIENCE, || db.launcher().is_some());
    let launcher = db.launcher();

    db.execute("select pg_terminate_backend($1)", &[&launcher]);
    wait_until(PATIENCE, || db.launcher().is_some_and(|pid| Some(pid) != launcher));
    db.fill("t", 1..=2);
    db.run_and_tell("delete from t");
    wait_until(PATIENCE, || cluster.live().is_empty());
}

#[test]
fn a_launcher_that_is_terminated_while_a_worker_runs_disturbs_nothing() {
    let cluster = cluster();
    let (db, gate) = (cluster.session(), cluster.session());
    gate.stop_at(Point::BeforeMoves);
    db.fill("t", 1..=4);
    db.run_and_tell("delete from t where n <= 2");
    gate.await_stopped(Point::BeforeMoves);
    let launcher = db.launcher();

    db.execute("select pg_terminate_backend($1)", &[&launcher]);
    wait_until(PATIENCE, || db.launcher().is_some_and(|pid| Some(pid) != launcher));
    gate.go_on(Point::BeforeMoves);
    wait_until(PATIENCE, || cluster.live().len() == 2);
    db.assert_stored("t", 2);
    cluster.await_visit("postgres");
    db.assert_stored("t", 2);
}

#[test]
fn the_launcher_works_again_after_a_crash() {
    let cluster = cluster();
    let db = cluster.session();
    db.fill("t", 1..=4);
    db.stop_at(Point::BeforeMoves);
    db.run_and_tell("delete from t where n <= 2");
    cluster.kill9_backend(db.await_stopped(Point::BeforeMoves));
    cluster.await_log("all server processes terminated; reinitializing");
    wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());

    let db = cluster.session();
    wait_until(PATIENCE, || db.launcher().is_some());
    wait_until(PATIENCE, || cluster.live().len() == 2);
    db.assert_stored("t", 2);
    assert_live_is(&cluster, &db, &[("r", "t")]);

    cluster.kill9_backend(db.launcher().unwrap());
    wait_until(PATIENCE, || cluster.logged("all server processes terminated; reinitializing") == 2);
    wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());
    let db = cluster.session();
    db.fill("t", 5..=5);
    db.run_and_tell("delete from t where n = 3");
    wait_until(PATIENCE, || cluster.live().len() == 2);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn the_launcher_does_not_keep_the_server_from_stopping() {
    for how in [Shutdown::Smart, Shutdown::Fast, Shutdown::Immediate] {
        let mut cluster = bare_cluster_with(&["rbytea.vacuum_naptime = '1d'"]);
        wait_until(PATIENCE, || cluster.session().launcher().is_some());
        cluster.stop(how);
        cluster.start();
        wait_until(PATIENCE, || cluster.session().launcher().is_some());
    }
}
