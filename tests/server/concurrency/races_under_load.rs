//! Sessions that copy, move, replace and delete payloads as fast as they can while the vacuum runs over and over.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::twin_tables::{Twins, assert_live_is, cluster_with};

#[test]
fn sessions_that_copy_move_and_delete_while_the_vacuum_runs_lose_nothing() {
    const ROUNDS: i32 = 120;
    // Autovacuum removes dead rows as soon as no snapshot sees them.
    let cluster =
        cluster_with(&["autovacuum = on", "autovacuum_naptime = 1s", "autovacuum_vacuum_threshold = 0"]);
    let db = cluster.session();
    db.run(
        "create table t (n int, b bytea, r rbytea); create table copies (n int, b bytea, r rbytea);
         create table third (n int, b bytea, r rbytea) partition by hash (r);
            create table third1 partition of third for values with (modulus 2, remainder 0);
            create table third2 partition of third for values with (modulus 2, remainder 1)",
    );
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
                        // Rows of one worker only: no session waits for another's row lock.
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
    cluster.calm();
    let files = db.rvacuum();
    assert!(files >= 0);
    for table in tables {
        db.assert_stored(table, db.one(&format!("select count(*) from {table}"), &[]));
    }
    assert_live_is(&cluster, &db, &tables.map(|table| ("r", table)));
}
