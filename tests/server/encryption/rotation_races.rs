//! rbytea_reencrypt() beside readers and writers: no reader sees a payload change, and no writer's change is lost.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::error::SqlState;

use crate::encryption::rotating::rows_to_rotate;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::encryption::{counts, encrypting, modes, reload, set_keys};
use crate::support::session::{Running, Session};
use crate::support::twin_tables::{Twins, assert_live_is};

/// Starts a call that waits for the row which `lock` has locked.
fn blocked(db: &Session, call: &Session, sql: &str) -> Running {
    let pid = call.pid();
    let running = call.start(sql);
    wait_until(PATIENCE, || db.sees_waiting(pid));
    running
}

#[test]
fn an_old_snapshot_reads_the_old_files() {
    let (cluster, db) = rows_to_rotate(20);
    let reader = cluster.session();
    reader.run("begin isolation level repeatable read");
    let before = reader.uuids("r", "t");
    db.run("call rbytea_reencrypt('t', 6)");
    assert_eq!(db.rvacuum(), 0, "files that an old snapshot may still read are no garbage");
    assert_eq!(reader.uuids("r", "t"), before, "a repeatable read has changed");
    reader.assert_stored("t", 20);
    assert_eq!(
        counts(&db),
        "1:20 2:20",
        "the old key is needed as long as a snapshot can see a row that refers to it"
    );
    reader.run("commit");
    reader.assert_stored("t", 20);
    assert_eq!(counts(&db), "1:0 2:20");
    assert_eq!(db.rvacuum(), 20);
    assert_live_is(&cluster, &db, &[("r", "t")]);
    reader.assert_stored("t", 20);
}

#[test]
fn a_cursor_goes_on_reading_what_it_was_opened_on() {
    let (cluster, db) = rows_to_rotate(20);
    let reader = cluster.session();
    reader.run("begin; declare c cursor for select n, b, r from t order by n; fetch 5 from c");
    reader.run("declare held cursor with hold for select md5(b) = md5sum(r) as same from t; ");
    db.run("call rbytea_reencrypt('t', 6)");
    db.rvacuum();
    let rows = reader.rows("fetch all from c", &[]);
    assert_eq!(rows.len(), 15);
    for row in rows {
        let (b, r): (crate::support::payload::Payload, crate::support::payload::Payload) =
            (row.get("b"), row.get("r"));
        assert!(b == r, "a cursor has lost its payload");
    }
    reader.run("commit");
    assert_eq!(reader.text("fetch 3 from held"), "t\nt\nt");
}

#[test]
fn a_row_that_another_session_changes_is_waited_for_and_has_the_change() {
    // What the other session does to row 3, how it ends, and what is then there of key 2.
    let changes = [
        ("update t set b = payload(-3), r = payload(-3) where n = 3", "commit", 10),
        ("update t set b = payload(-3), r = payload(-3) where n = 3", "rollback", 10),
        ("update t set n = 300 where n = 3", "commit", 10),
        ("update t set r = (select r from t where n = 9), b = payload(9) where n = 3", "commit", 9),
        ("delete from t where n = 3", "commit", 9),
        ("delete from t where n = 3", "rollback", 10),
        ("select from t where n = 3 for share", "commit", 10),
        ("delete from t where n = 3; insert into t values (3, payload(-3), payload(-3))", "commit", 10),
        (
            "savepoint s; update t set r = 'x' where n = 3; rollback to s; update t set b = 'y', r = 'y' where n = 3",
            "commit",
            10,
        ),
        ("update t set r = null, b = null where n = 3", "commit", 9),
    ];
    for (change, end, payloads) in changes {
        let (cluster, db) = rows_to_rotate(10);
        let (other, call) = (cluster.session(), cluster.session());
        other.run(&format!("begin; {change}"));
        let running = blocked(&db, &call, "call rbytea_reencrypt('t', 4)");
        other.run(end);
        running.finish().unwrap_or_else(|error| panic!("{change}; {end}: {error}"));
        let rows = if change.starts_with("delete") && payloads == 9 { 9 } else { 10 };
        db.assert_same("t", rows);
        let counted = counts(&db);
        assert!(counted.starts_with("1:0 "), "{change}; {end}: {counted}");
        // A copied reference may have been split into two files, and may have stayed one.
        if !change.contains("select r from t") {
            assert_eq!(counted, format!("1:0 2:{payloads}"), "{change}; {end}");
        }
        db.rvacuum();
        assert_live_is(&cluster, &db, &[("r", "t")]);
        db.assert_same("t", rows);
    }
}

#[test]
fn a_foreign_key_check_does_not_hold_it_up() {
    let (cluster, db) = rows_to_rotate(10);
    let other = cluster.session();
    db.run("create table child (n int references t)");
    other.run("begin; insert into child values (3)");
    db.run("set lock_timeout = '120s'; ");
    db.run("call rbytea_reencrypt('t', 4)");
    other.run("commit");
    assert_eq!(counts(&db), "1:0 2:10");
    db.run("insert into child values (4)");
    db.assert_stored("t", 10);
}

#[test]
fn rows_that_are_inserted_meanwhile_are_under_the_new_key_too() {
    let (cluster, db) = rows_to_rotate(40);
    let (other, call) = (cluster.session(), cluster.session());
    // A session that has not heard of the new key yet: it is in a transaction whose payloads are written already.
    other.run("begin; set local rbytea.qss_mode = off");
    other.fill("t", 41..=45);
    other.run("update t set n = n where n = 20");
    let running = blocked(&db, &call, "call rbytea_reencrypt('t', 5)");
    other.run("commit");
    running.finish().unwrap();
    assert_eq!((modes(&db, "t"), counts(&db)), ("1:45".into(), "1:0 2:45".into()));
    db.assert_stored("t", 45);
}

/// Ends the writers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Writers that change another column, the payload itself, and the set of rows, while key after key becomes the newest.
#[test]
fn no_change_of_a_busy_table_is_lost() {
    const ROWS: i32 = 60;
    let cluster = encrypting();
    let db = cluster.session();
    db.run("alter table t add m bigint not null default 0");
    db.fill("t", 1..=ROWS);
    let stop = &AtomicBool::new(false);
    let (added, payloads, rows) = &(AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(i64::from(ROWS)));
    let until_stopped = &|seed: u64, work: &dyn Fn(&Session, i32, i32)| {
        let session = cluster.session();
        let mut random = StdRng::seed_from_u64(seed);
        while !stop.load(SeqCst) {
            work(&session, random.random_range(1..=ROWS), random.random_range(1..1_000_000));
        }
    };
    thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || {
                until_stopped(seed, &|db, n, _| {
                    added.fetch_add(db.execute("update t set m = m + 1 where n = $1", &[&n]) as i64, SeqCst);
                });
            });
        }
        scope.spawn(|| {
            until_stopped(10, &|db, n, seed| {
                let sql = "update t set b = payload($2), r = payload($2) where n = $1";
                payloads.fetch_add(db.execute(sql, &[&n, &seed]) as i64, SeqCst);
            });
        });
        scope.spawn(|| {
            until_stopped(20, &|db, n, seed| {
                let (n, sql) =
                    (1000 + n, "insert into t values ($1, payload($2), payload($2)) on conflict do nothing");
                rows.fetch_add(db.execute(sql, &[&n, &seed]) as i64, SeqCst);
                rows.fetch_sub(
                    db.execute("delete from t where n = $1", &[&(1000 + seed % ROWS)]) as i64,
                    SeqCst,
                );
            });
        });
        scope.spawn(|| {
            until_stopped(30, &|db, _, _| {
                let other = "select count(*) from t where r::bytea is distinct from b";
                assert_eq!(db.one::<i64>(other, &[]), 0, "a reader has seen other bytes");
            });
        });
        let stopping = Stop(stop);
        for key in 2..=8 {
            set_keys(&cluster, &(1..=key).collect::<Vec<_>>());
            reload(&cluster, &[&db]);
            db.run("call rbytea_reencrypt('t', 7)");
            if key % 3 == 0 {
                db.rvacuum();
            }
        }
        drop(stopping);
    });
    assert!(added.load(SeqCst) > 0 && payloads.load(SeqCst) > 0, "the other sessions have written nothing");
    db.run("call rbytea_reencrypt('t')");
    assert_eq!(db.one::<i64>("select sum(m)::bigint from t", &[]), added.load(SeqCst), "an UPDATE was lost");
    db.assert_stored("t", rows.load(SeqCst));
    let counted = counts(&db);
    assert!(counted.starts_with("1:0 2:0 3:0 4:0 5:0 6:0 7:0 8:"), "{counted}");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", rows.load(SeqCst));
}

#[test]
fn concurrent_calls_for_one_table_lose_nothing() {
    let (cluster, db) = rows_to_rotate(200);
    let calls: Vec<_> = (0..3).map(|_| cluster.session()).collect();
    let running: Vec<_> = calls.iter().map(|call| call.start("call rbytea_reencrypt('t', 10)")).collect();
    for running in running {
        // Both take rows in the same order, but an update moves a row behind them.
        if let Err(error) = running.finish() {
            assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error}");
        }
    }
    db.run("call rbytea_reencrypt('t')");
    assert_eq!(counts(&db), "1:0 2:200");
    db.assert_stored("t", 200);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 200);
}

/// Other sessions may go on writing payloads of the other mode; a call that waits for the last of them would never end.
#[test]
fn a_call_ends_also_while_others_write_in_the_other_mode() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=200);
    let stop = &AtomicBool::new(false);
    let written = &AtomicI64::new(0);
    thread::scope(|scope| {
        let stopping = Stop(stop);
        for writer in 0..2 {
            let session = cluster.session();
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let n = 1 + (written.fetch_add(1, SeqCst) * 7 + writer) as i32 % 200;
                    session.execute(
                        "update t set b = payload($1 + 1000), r = payload($1 + 1000) where n = $1",
                        &[&n],
                    );
                }
            });
        }
        wait_until(PATIENCE, || written.load(SeqCst) > 20);
        db.run("set rbytea.qss_mode = off; set statement_timeout = '120s'");
        let outcome = db.try_run("call rbytea_reencrypt('t', 50)");
        drop(stopping);
        outcome.expect("the call went on as long as other sessions wrote");
    });
    db.assert_stored("t", 200);
}
