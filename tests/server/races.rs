//! References that move from row to row while the vacuum runs. Whatever the interleaving, every visible row reads
//! back, and its file is in LIVE. Lock waits make most of the interleavings deterministic.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cluster::{Cluster, PATIENCE, wait_until};
use crate::session::{Running, Session};
use crate::twin::{Twins, assert_live_is, cluster_with_table};

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
    copier.run("begin; declare c cursor for select n, b, r from t; move c");

    db.run("delete from t");
    assert_eq!(db.rvacuum(), 0);
    copier.run(
        "do $$ declare c refcursor := 'c'; f record; begin
             for i in 1..3 loop fetch c into f; insert into copies values (f.n, f.b, f.r); end loop;
         end $$; commit",
    );
    db.assert_stored("copies", 3);
    assert_eq!(db.rvacuum(), 1, "the row that nobody fetched");
    assert_live_is(&cluster, &db, &[("r", "copies")]);
}

#[test]
fn an_update_that_waits_for_another_one_stores_the_last_word() {
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
fn the_vacuum_deadlocks_with_no_one() {
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

    // Nobody can read another session's temporary tables.
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

#[test]
fn sessions_that_copy_move_and_delete_while_the_vacuum_runs_lose_nothing() {
    const ROUNDS: i32 = 120;
    let (cluster, db) = tables();
    db.run(
        "create table third (n int, b bytea, r rbytea) partition by hash (r);
            create table third1 partition of third for values with (modulus 2, remainder 0);
            create table third2 partition of third for values with (modulus 2, remainder 1)",
    );
    db.run("alter table t drop constraint t_pkey");
    let tables = ["t", "copies", "third"];
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=3)
            .map(|worker| {
                let session = cluster.session();
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        let (from, to) = (tables[round as usize % 3], tables[(round + worker) as usize % 3]);
                        let seed = worker * 10_000 + round;
                        // Rows of one worker only: nobody waits for anybody.
                        let mine = format!("n % 4 = {worker}");
                        session.run(&format!("insert into {from} values ({}, payload({seed}), payload({seed}))", seed * 4 + worker));
                        match round % 4 {
                            0 => session.run(&format!("with gone as (delete from {from} where {mine} returning *) insert into {to} select * from gone")),
                            1 => session.run(&format!("begin; insert into {to} select * from {from} where {mine}; delete from {from} where {mine}; {}", if round % 8 == 1 { "rollback" } else { "commit" })),
                            2 => session.run(&format!("begin isolation level repeatable read; select count(*) from {from}; insert into {to} select * from {from} where {mine} limit 5; commit")),
                            _ => session.run(&format!("delete from {to} where {mine} and n % 3 = 0; update {from} set b = payload({seed} + n), r = payload({seed} + n) where {mine} and n % 5 = 0")),
                        }
                    }
                })
            })
            .collect();
        let vacuum = cluster.session();
        let done = &done;
        let vacuums = scope.spawn(move || {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                // A horizon that moves during each of its attempts is a reason to give up, with nothing moved.
                if let Err(error) = vacuum.try_run("select rvacuum()") {
                    assert_eq!(error.code().unwrap().code(), "55000", "{error}");
                }
                runs += 1;
            }
            runs
        });
        let reader = cluster.session();
        let reads = scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for table in tables {
                    let wrong: i64 = reader
                        .one(&format!("select count(*) from {table} where r::bytea is distinct from b"), &[]);
                    assert_eq!(wrong, 0, "{table}");
                }
            }
        });
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(vacuums.join().unwrap() > 0);
        reads.join().unwrap();
        assert!(ended.iter().all(Result::is_ok), "a session has met an error");
    });
    let files = db.rvacuum();
    assert!(files >= 0);
    for table in tables {
        db.assert_stored(table, db.one(&format!("select count(*) from {table}"), &[]));
    }
    assert_live_is(&cluster, &db, &tables.map(|table| ("r", table)));
}
