//! References that move from row to row while the vacuum runs. Whatever the interleaving, every visible row reads
//! back, and its file is in LIVE. Lock waits make most of the interleavings deterministic.

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::{Running, Session};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

/// The tables `t`, with four rows, and `copies`, which is empty.
fn tables() -> (Cluster, Session) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table copies (n int, b bytea, r rbytea)");
    db.fill("t", 1..=4);
    (cluster, db)
}

/// rvacuum() in the background, waiting for a lock that `holder` has.
fn blocked_vacuum(vacuum: &Session, holder: &Session) -> Running {
    let pid = vacuum.pid();
    let running = vacuum.start("select rvacuum()");
    wait_until(PATIENCE, || holder.sees_waiting(pid));
    assert!(!running.is_finished());
    running
}

#[test]
fn a_row_copied_while_the_vacuum_waits_is_counted() {
    // Which table the vacuum waits for, and thus which one it could have read already.
    for blocked in ["t", "copies"] {
        let (cluster, db) = tables();
        let (holder, deleter, vacuum) = (cluster.session(), cluster.session(), cluster.session());

        holder.run(&format!("begin; lock table {blocked} in access exclusive mode"));
        let running = blocked_vacuum(&vacuum, &holder);
        holder.run("insert into copies select * from t where n <= 2; delete from t where n <= 2; commit");
        deleter.run("delete from t where n = 3");
        running.finish().unwrap();
        db.assert_stored("copies", 2);
        db.assert_stored("t", 1);
        db.rvacuum();
        db.assert_stored("copies", 2);
        assert_live_is(&cluster, &db, &[("r", "t"), ("r", "copies")]);
    }
}

#[test]
fn a_table_that_appears_vanishes_or_is_emptied_while_the_vacuum_waits_is_counted_as_it_ends() {
    let endings = [
        ("create table fresh as select * from t; truncate t", "commit", "fresh"),
        ("create table fresh as select * from t; truncate t", "rollback", "t"),
        ("create table fresh as select * from t; drop table t", "commit", "fresh"),
        ("create table fresh as select * from t; drop table t", "rollback", "t"),
        ("create table fresh as table t; alter table t drop column r", "commit", "fresh"),
        (
            "alter table t add column q rbytea; update t set q = r; alter table t drop column r; alter table t rename q to r",
            "commit",
            "t",
        ),
        ("alter table t add column q rbytea; update t set q = r, r = null", "rollback", "t"),
        (
            "create type doc as (n int, b bytea, r rbytea); create table fresh of doc; insert into fresh select * from t; delete from t",
            "commit",
            "fresh",
        ),
        ("create materialized view fresh as select n, b, r from t; delete from t", "commit", "fresh"),
        (
            "alter table t rename to fresh; create schema s; alter table fresh set schema s",
            "commit",
            "s.fresh",
        ),
        (
            "create table fresh as select n, b, array[r] as rs from t; truncate t",
            "commit",
            "(select b, rs[1] as r from fresh) s",
        ),
    ];
    for (change, end, table) in endings {
        let (cluster, db) = tables();
        let (holder, vacuum) = (cluster.session(), cluster.session());

        holder.run(&format!("begin; {change}; lock table copies in access exclusive mode"));
        let running = blocked_vacuum(&vacuum, &holder);
        holder.run(end);
        running.finish().unwrap();
        db.assert_stored(table, 4);
        assert_eq!(db.rvacuum(), 0, "after: {change}; {end}");
        assert_live_is(&cluster, &db, &[("r", table)]);
    }
}

#[test]
fn an_uncommitted_copy_counts() {
    let (cluster, db) = tables();
    let copier = cluster.session();

    for end in ["rollback", "commit"] {
        copier.run("begin; insert into copies select * from t");
        copier.run("savepoint s; insert into copies select * from t; rollback to s");
        if end == "commit" {
            db.run("delete from t");
        }
        assert_eq!(db.rvacuum(), 0);
        copier.run(end);
    }
    db.assert_stored("copies", 4);
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "copies")]);
}

#[test]
fn a_copy_out_of_an_old_snapshot_has_its_files() {
    for level in ["repeatable read", "serializable"] {
        let (cluster, db) = tables();
        let copier = cluster.session();

        copier.run(&format!("begin isolation level {level}; select count(*) from t"));
        db.run("delete from t");
        db.run("vacuum t");
        assert_eq!(db.rvacuum(), 0);
        copier.run("insert into copies select * from t; commit");
        db.assert_stored("copies", 4);
        assert_eq!(db.rvacuum(), 0);
        assert_live_is(&cluster, &db, &[("r", "copies")]);
    }
}

#[test]
fn a_row_fetched_from_a_cursor_can_be_stored_after_its_deletion() {
    let (cluster, db) = tables();
    let copier = cluster.session();
    copier.run("set rbytea.client_type = rbytea; begin; declare c cursor for select n, b, r from t; move c");

    db.run("delete from t");
    assert_eq!(db.rvacuum(), 0);
    copier.run(
        "do $$ declare c refcursor := 'c'; f record; begin
             for i in 1..3 loop fetch c into f; insert into copies values (f.n, f.b, f.r); end loop;
         end $$; commit",
    );
    db.assert_stored("copies", 3);
    assert_eq!(db.rvacuum(), 1, "the row that the cursor has not fetched");
    assert_live_is(&cluster, &db, &[("r", "copies")]);
}

#[test]
fn an_update_that_waits_for_another_one_stores_the_last_value() {
    let (cluster, db) = tables();
    let (first, second) = (cluster.session(), cluster.session());
    let pid = second.pid();

    first.run(
        "begin; update t set b = payload(-1), r = payload(-1), n = 11 where n = 1;
               update t set b = payload(-2), r = payload(-2) where n = 2; delete from t where n = 3",
    );
    let waiting = second.start(
        "update t set (b, r) = (select payload(t.n + 100), payload(t.n + 100)) where n = 2;
         insert into t values (1, payload(7), payload(7)) on conflict (n) do update set b = excluded.b, r = excluded.r;
         insert into copies select * from t where n < 4 for update",
    );
    wait_until(PATIENCE, || first.sees_waiting(pid));
    db.rvacuum();
    first.run("commit");
    waiting.finish().unwrap();
    db.assert_stored("t", 4);
    db.assert_stored("copies", 2);
    db.rvacuum();
    db.assert_stored("t", 4);
    db.assert_stored("copies", 2);
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "copies")]);
}

#[test]
fn the_vacuum_takes_part_in_no_deadlock() {
    let (cluster, db) = tables();
    let (holder, vacuum) = (cluster.session(), cluster.session());

    holder.run("begin; lock table copies in access exclusive mode");
    let running = blocked_vacuum(&vacuum, &holder);
    // A vacuum that kept its locks while it waits would make one of the two fail.
    holder.run(
        "set local deadlock_timeout = '10ms'; lock table t in access exclusive mode; truncate t; commit",
    );
    running.finish().unwrap();
    assert_eq!(db.rvacuum(), 0, "the run that waited has collected what was truncated before it could start");
    assert_eq!(cluster.live().len(), 0);
}

#[test]
fn a_temporary_table_of_another_session_can_give_its_payloads_back() {
    let (cluster, db) = tables();
    let other = cluster.session();
    other.run("create temp table own as select * from t");
    db.run("delete from t");

    // The vacuum cannot read another session's temporary tables.
    assert_eq!(db.rvacuum(), 4);
    assert_eq!(cluster.live().len(), 0);
    other.assert_stored("own", 4);
    other.run("insert into copies select * from own where n <= 2");
    db.assert_stored("copies", 2);
    assert_live_is(&cluster, &db, &[("r", "copies")]);
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("copies", 2);
}

#[test]
fn a_procedure_that_commits_between_reading_and_storing_finds_its_payload() {
    let (cluster, db) = tables();
    let caller = cluster.session();
    db.run(
        "create procedure carry() language plpgsql as $$ declare f t; begin
             select * into f from t where n = 1;
             commit;
             perform pg_advisory_lock(1);
             insert into copies select f.*;
         end $$",
    );

    db.run("select pg_advisory_lock(1)");
    let pid = caller.pid();
    let call = caller.start("call carry()");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    db.run("delete from t where n = 1");
    db.rvacuum();
    db.run("select pg_advisory_unlock(1)");
    call.finish().unwrap();
    db.assert_stored("copies", 1);
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "copies")]);
}
