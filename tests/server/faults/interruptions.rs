//! Whatever ends a transaction early - an error on the way to the commit, a cancel, a signal, a crash - the server
//! goes on, committed rows read back, and the rest is garbage that the vacuum collects.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio_postgres::error::SqlState;

use crate::support::cluster::{PATIENCE, Shutdown, wait_until};
use crate::support::processes::{child, hold};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster, cluster_with, cluster_with_table, name};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Uses up transaction ids: those of transactions that a crash has undone are given out again.
fn pass_transactions(db: &Session) {
    for _ in 0..20 {
        db.run("select pg_current_xact_id()");
    }
}

#[test]
fn a_commit_that_cannot_make_its_payloads_durable_is_refused() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=1);
    // The directory of a file that the transaction at hand has written, and the directory above it.
    let directories = || {
        let uuid = db.uuids("r", "t where n = 5").remove(0);
        let file = cluster.live().into_iter().find(|file| name(file) == uuid).unwrap();
        (file.parent().unwrap().to_owned(), file.ancestors().nth(2).unwrap().to_owned())
    };

    for end in ["commit", "prepare transaction 'a'"] {
        db.run("begin");
        db.fill("t", 2..=5);
        let (leaf, _) = directories();
        chmod(&leaf, 0o000);
        assert_eq!(db.sqlstate(end).code(), "42501", "{end} with a directory that cannot be opened");
        chmod(&leaf, 0o700);
        db.assert_stored("t", 1);

        db.run("begin");
        db.fill("t", 2..=5);
        let (_, era) = directories();
        let elsewhere = cluster.dir().join("elsewhere");
        fs::rename(&era, &elsewhere).unwrap();
        assert_eq!(db.sqlstate(end).code(), "58030", "{end} with directories that are gone");
        fs::rename(&elsewhere, &era).unwrap();
        db.assert_stored("t", 1);
    }
    assert_eq!(db.one::<i64>("select count(*) from pg_prepared_xacts", &[]), 0);
    assert_eq!(db.rvacuum(), 16, "four rows of four transactions");
    db.fill("t", 2..=5);
    db.assert_stored("t", 5);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_commit_that_is_interrupted_is_whole_or_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let mut next = 1;

    // Few files are synced one by one, many with the whole file system.
    for (way, rows) in [("cancel", 7), ("terminate", 7), ("cancel", 300), ("terminate", 300)].repeat(4) {
        let victim = cluster.session();
        let pid = victim.pid();
        victim.run("begin");
        victim.fill("t", next..=next + rows - 1);
        let commit = victim.start("commit");
        // One that comes before the command is ignored, one that comes after it has nothing to interrupt.
        while !commit.is_finished() {
            db.run(&format!("select pg_{way}_backend({pid})"));
        }
        let result = commit.finish();
        if way == "terminate" {
            // In case the commit was faster than the first signal.
            db.run(&format!("select pg_terminate_backend({pid})"));
            let gone = "select not exists (select from pg_stat_activity where pid = $1)";
            wait_until(PATIENCE, || db.one(gone, &[&pid]));
        } else {
            // A cancel that came before the commit began has left the transaction open, one that comes late hits
            // the next statement, or none.
            let _ = victim.try_run("rollback");
            let _ = victim.try_run("rollback");
            victim.run("delete from t where n = -1; insert into t values (-1, '\\x01', '\\x01')");
        }
        let found: i64 = db.one("select count(*) from t where n >= $1", &[&next]);
        match result.map_err(|error| error.code().cloned()) {
            Ok(()) => assert_eq!(found, i64::from(rows), "{way}: what was committed is gone"),
            Err(Some(SqlState::QUERY_CANCELED)) => assert_eq!(found, 0, "a commit that failed has committed"),
            // The connection may break before its last message arrives.
            Err(_) => assert!(found == 0 || found == i64::from(rows), "{way}: {found} rows of {rows}"),
        }
        next += rows;
    }
    db.assert_stored("t", db.one("select count(*) from t", &[]));
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", db.one("select count(*) from t", &[]));
}

#[test]
fn a_big_insert_can_be_cancelled_and_its_session_terminated() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("insert into t select 0, repeat('x', 32 << 20)::bytea");
    db.run("update t set r = b");

    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        let files = cluster.live().len();
        let victim = cluster.session();
        let pid = victim.pid();
        // Minutes of work.
        let running =
            victim.start("insert into t select i, null, b from t, generate_series(1, 1000) i where n = 0");
        wait_until(PATIENCE, || cluster.live().len() > files + 1);
        db.execute(&format!("select {function}($1)"), &[&pid]);
        let error = running.finish().unwrap_err();
        let expected = if function == "pg_cancel_backend" { "57014" } else { "57P01" };
        assert_eq!(error.code().unwrap().code(), expected);
        if function == "pg_cancel_backend" {
            victim.run("insert into t values (-1, '\\x01', '\\x01')");
        } else {
            wait_until(PATIENCE, || {
                !db.one::<bool>("select exists (select from pg_stat_activity where pid = $1)", &[&pid])
            });
        }
        db.assert_stored("t", 2);
        assert!(db.rvacuum() > 0);
        assert_live_is(&cluster, &db, &[("r", "t")]);
    }
}

#[test]
fn a_big_read_can_be_cancelled_and_its_session_terminated() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("insert into t select 0, b, b from (select repeat('x', 32 << 20)::bytea b) s");

    for reading in ["md5sum(r)", "r::bytea", "sha256store(r)", "substring(r from 2)"] {
        for function in ["pg_cancel_backend", "pg_terminate_backend"] {
            let victim = cluster.session();
            let pid = victim.pid();
            let running =
                victim.start(&format!("select count({reading}) from t, generate_series(1, 100000)"));
            wait_until(PATIENCE, || {
                db.one("select exists (select from pg_stat_activity where pid = $1 and state = 'active' and backend_xmin is not null)", &[&pid])
            });
            db.execute(&format!("select {function}($1)"), &[&pid]);
            let error = running.finish().unwrap_err();
            let expected = if function == "pg_cancel_backend" { "57014" } else { "57P01" };
            assert_eq!(error.code().unwrap().code(), expected, "{reading}");
            if function == "pg_cancel_backend" {
                victim.assert_stored("t", 1);
            }
        }
    }
    db.assert_stored("t", 1);
}

#[test]
fn a_statement_timeout_in_the_middle_of_a_transaction_leaves_the_savepoint() {
    let cluster = cluster_with_table();
    let db = cluster.session();

    db.run("begin");
    db.fill("t", 1..=2);
    db.run("savepoint s; set local statement_timeout = '1s'");
    let endless = "insert into t select n, null, payload(n, 100000) from generate_series(3, 10000000) n";
    assert_eq!(db.sqlstate(endless).code(), "57014");
    db.run("rollback to s; commit");
    db.assert_stored("t", 2);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn what_was_committed_is_there_after_a_crash() {
    let mut cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=10);
    db.run("begin; update t set b = payload(-n), r = payload(-n) where n < 5; savepoint s; delete from t where n = 10; commit");
    cluster.kill9();
    cluster.start();

    let db = cluster.session();
    db.assert_stored("t", 9);
    db.run("insert into t values (11, '\\x0b', '\\x0b')");
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let db = cluster.session();
    db.assert_stored("t", 10);
    assert_eq!(db.rvacuum(), 5, "what was replaced and deleted before the crash");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn what_was_not_committed_is_garbage_after_a_crash() {
    let mut cluster = cluster_with_table();
    cluster.session().fill("t", 1..=3);
    for round in 1..=2 {
        let (db, other) = (cluster.session(), cluster.session());
        db.run("begin");
        db.fill("t", 11..=15);
        db.run("delete from t where n <= 3; savepoint s");
        other.run("begin; insert into t values (30, payload(30), payload(30))");
        if round == 1 {
            cluster.kill9();
        } else {
            // One backend: the postmaster restarts all of them.
            cluster.kill9_backend(other.pid());
            wait_until(PATIENCE, || {
                cluster.log().contains("all server processes terminated; reinitializing")
            });
            wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());
            cluster.stop(Shutdown::Fast);
        }
        cluster.start();
        let db = cluster.session();
        db.assert_stored("t", 3);
        db.fill("t", 20..=20);
        db.run("delete from t where n = 20");
        pass_transactions(&db);
        assert_eq!(db.rvacuum(), 7, "six of the transactions that the crash has ended, and one deleted");
        assert_live_is(&cluster, &db, &[("r", "t")]);
        db.assert_stored("t", 3);
    }
}

#[test]
fn commits_that_a_crash_undoes_leave_rows_that_read_back() {
    let mut cluster = cluster_with(&["synchronous_commit = off", "wal_writer_delay = 10s"]);
    let db = cluster.session();
    db.run("create table t (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=5);
    db.run("checkpoint");
    // It would write each page of the WAL that is full, and what was written survives the end of a process.
    hold(&cluster, &child(&cluster, "walwriter").unwrap());

    db.run("delete from t where n <= 2");
    db.fill("t", 6..=7);
    assert_eq!(db.rvacuum(), 2);
    db.fill("t", 8..=9);
    db.run("delete from t where n = 3");
    cluster.kill9();
    cluster.start();

    let db = cluster.session();
    let rows = db.one("select count(*) from t", &[]);
    db.assert_stored("t", rows);
    let vacuumed: i64 = db.one("select count(*) from t where n <= 2", &[]);
    assert_eq!(vacuumed, 0, "the vacuum has moved files of rows whose deletion a crash has undone");
    pass_transactions(&db);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn an_unlogged_table_that_a_crash_has_emptied_leaves_garbage() {
    let mut cluster = cluster();
    let db = cluster.session();
    db.run("create unlogged table t (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=3);
    db.assert_stored("t", 3);
    cluster.kill9();
    cluster.start();

    let db = cluster.session();
    db.assert_stored("t", 0);
    pass_transactions(&db);
    assert_eq!(db.rvacuum(), 3);
    db.fill("t", 1..=3);
    db.assert_stored("t", 3);
}

#[test]
fn what_a_run_has_moved_before_it_is_cancelled_is_on_record() {
    let cluster = cluster_with(&["rbytea.trash_retention = 0"]);
    let (db, vacuum) = (cluster.session(), cluster.session());
    db.run("create table t (n int, b bytea, r rbytea)");
    db.fill("t", 1..=60);
    db.run("delete from t");
    // It sleeps before each file.
    vacuum.run("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1; set vacuum_cost_page_hit = 0");
    let run = vacuum.start("select rvacuum()");
    let moving = "select exists (select from rbytea.rbytea_stat_progress_vacuum where phase = 'moving files' and moved >= 2)";
    wait_until(PATIENCE, || db.one(moving, &[]));
    vacuum.cancel();
    run.finish().unwrap_err();
    let moved = cluster.trash().len() as i64;
    assert!((2..60).contains(&moved), "the cancel came too late: {moved}");
    let row = "select trashed from rbytea.rbytea_vacuum_history where moved_at is not null and error like 'canceling statement%'";
    wait_until(PATIENCE, || db.column::<i64>(row, &[]) == [moved]);
    assert_eq!(db.rvacuum(), 60 - moved);
    assert_eq!(cluster.trash().len() as i64, 60 - moved, "the next run deletes what that one has moved");
}
