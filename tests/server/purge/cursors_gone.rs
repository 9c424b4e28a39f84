//! A session whose cursor WITH HOLD was never committed, was closed, or has ended with the session, keeps nothing in TRASH
//! any more; and a session that is counted no more has been counted down once.

use crate::purge::waiting::{purge, tables, trash_one};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

const DECLARE: &str = "declare c cursor with hold for select n, b, r from t order by n";

/// Has cursors hold references.
const REFERENCES: &str = "set rbytea.client_type = rbytea";

/// A session whose cursors do.
fn session(cluster: &Cluster) -> Session {
    let session = cluster.session();
    session.run(REFERENCES);
    session
}

/// That a cursor of another session keeps TRASH, and no longer than it is open: the count of sessions is right.
#[track_caller]
fn assert_counted(cluster: &Cluster, db: &Session, after: &str) {
    let other = session(cluster);
    other.run(DECLARE);
    trash_one(db);
    assert_eq!(purge(db), 0, "a cursor is not noticed any more after: {after}");
    other.run("close c");
    assert_eq!(purge(db), 1, "a cursor that is closed keeps TRASH after: {after}");
}

#[test]
fn a_declaration_that_is_rolled_back_lets_the_purge_go_on() {
    let (cluster, db) = tables();
    db.run("create table child (n int references t deferrable initially deferred)");
    for (declare, end) in [
        ("begin; declare", "rollback"),
        ("begin; declare", "select 1/0"),
        ("begin; declare", "rollback and chain; commit"),
        ("begin; declare", "prepare transaction 'p'"),
        ("begin; insert into child values (7); declare", "commit"),
        ("begin; savepoint s; declare", "rollback to s; commit"),
        ("begin; savepoint s; declare", "rollback to s; rollback"),
        ("begin; savepoint s; declare", "release s; rollback"),
        ("begin; savepoint s; savepoint u; declare", "release u; rollback to s; commit"),
        ("begin; savepoint s; declare", "select 1/0; commit"),
    ] {
        let holder = session(&cluster);
        trash_one(&db);
        holder.run(&declare.replace("declare", DECLARE));
        // The transaction is younger than the move: only the cursor keeps the file.
        assert_eq!(purge(&db), 0, "the cursor is not noticed: {declare}");
        let failed = holder.try_run(end).is_err();
        if failed {
            holder.run("rollback");
        }
        // Before another statement of the session, which may be idle for days.
        assert_eq!(purge(&db), 1, "{declare} {end}: there is no cursor, and yet the purge deletes nothing");
        assert_eq!(holder.one::<i64>("select count(*) from pg_cursors where is_holdable", &[]), 0);
        assert_counted(&cluster, &db, end);
    }
    db.assert_stored("t", 2);
}

#[test]
fn a_declaration_in_a_block_that_fails_lets_the_purge_go_on() {
    let (cluster, db) = tables();
    let holder = session(&cluster);
    for statements in [
        "declare_it; select 1/0",
        "do $$ begin execute 'declare_it'; raise exception 'x'; end $$",
        "do $$ begin begin execute 'declare_it'; raise exception 'x'; exception when others then null; end; end $$",
        "do $$ begin execute 'declare_it'; rollback; end $$",
        "do $$ begin execute 'declare_it'; rollback; perform 1; commit; end $$",
    ] {
        trash_one(&db);
        // Some of them are errors.
        let _ = holder.try_run(&statements.replace("declare_it", DECLARE));
        // A client hears of an error before the rollback.
        wait_until(PATIENCE, || purge(&db) == 1);
        assert_eq!(holder.one::<i64>("select count(*) from pg_cursors where is_holdable", &[]), 0);
        assert_counted(&cluster, &db, statements);
    }
}

/// One of two cursors fails to be read to its end at the commit. The other, which was read before it, outlives the failure.
#[test]
fn a_cursor_that_survives_a_failed_commit_keeps_its_files() {
    let (cluster, db) = tables();
    let mut survivors = 0;
    for names in
        [["c", "x"], ["x", "c"], ["alpha", "beta"], ["beta", "alpha"], ["first", "second"], ["k", "l"]]
    {
        let holder = session(&cluster);
        db.run("truncate t");
        db.fill("t", 1..=2);
        holder.run(&format!(
            "begin; declare {} cursor with hold for select b, r from t order by n; declare {} cursor with hold for select 1 / (n - 2) from t",
            names[0], names[1]
        ));
        assert_eq!(holder.sqlstate("commit").code(), "22012");
        db.run("delete from t");
        db.rvacuum();
        let survived = holder.one::<i64>("select count(*) from pg_cursors where is_holdable", &[]) > 0;
        db.run("select rvacuum_purge()");
        db.run("select rvacuum_purge()");
        if survived {
            survivors += 1;
            let row = &holder.rows(&format!("fetch {}", names[0]), &[])[0];
            assert_eq!(row.get::<_, Payload>("r"), row.get("b"), "the cursor reads what was deleted");
            holder.run("close all");
        }
        db.run("select rvacuum_purge()");
        assert!(cluster.trash().is_empty(), "no session has a cursor any more");
    }
    assert!(survivors > 0, "no cursor has outlived a failed commit, so the test has tested nothing");
}

#[test]
fn closing_lets_the_purge_go_on() {
    let (cluster, db) = tables();
    let holder = session(&cluster);
    for close in ["close c", "close all", "discard all", "begin; close c; commit", "begin; close c; rollback"]
    {
        trash_one(&db);
        // DISCARD ALL has reset it.
        holder.run(REFERENCES);
        holder.run(DECLARE);
        assert_eq!(purge(&db), 0);
        holder.run(close);
        assert_eq!(holder.one::<i64>("select count(*) from pg_cursors where is_holdable", &[]), 0, "{close}");
        assert_eq!(purge(&db), 1, "{close}");
        assert_counted(&cluster, &db, close);
    }
}

#[test]
fn a_session_that_is_ended_lets_the_purge_go_on() {
    let (cluster, db) = tables();
    for state in [
        "",
        "begin",
        "begin; select 1",
        "fetch c",
        "begin; declare d cursor with hold for select r from t",
        "close c",
    ] {
        let holder = session(&cluster);
        let pid = holder.pid();
        trash_one(&db);
        holder.run(DECLARE);
        assert_eq!(purge(&db), 0);
        holder.run(state);
        db.run(&format!("select pg_terminate_backend({pid}, 60000)"));
        assert_eq!(purge(&db), 1, "its session is gone: {state}");
        assert_counted(&cluster, &db, state);
    }
}

#[test]
fn the_cursor_of_one_session_outlives_the_end_of_another() {
    let (cluster, db) = tables();
    let (first, second) = (session(&cluster), session(&cluster));
    first.run(DECLARE);
    second.run(DECLARE);
    let pid = first.pid();
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 2);
    db.run(&format!("select pg_terminate_backend({pid}, 60000)"));
    assert_eq!(purge(&db), 0);
    let row = &second.rows("fetch c", &[])[0];
    assert_eq!(row.get::<_, Payload>("r"), row.get("b"), "the cursor reads what was deleted");
    second.run("close c");
    assert_eq!(purge(&db), 2);
}

/// The count is in shared memory, which a crash makes anew.
#[test]
fn a_crash_ends_every_cursor() {
    let (cluster, db) = tables();
    let holder = session(&cluster);
    trash_one(&db);
    holder.run(DECLARE);
    assert_eq!(purge(&db), 0);
    cluster.kill9_backend(holder.pid());
    wait_until(PATIENCE, || cluster.log().contains("all server processes terminated; reinitializing"));
    wait_until(PATIENCE, || cluster.try_psql(&["-c", "select 1"], "").status.success());
    let db = cluster.session();
    assert_eq!(purge(&db), 1);
    assert_counted(&cluster, &db, "a crash");
}
