//! rbytea_reencrypt() brings a table to how new payloads are written, in batches that are committed: it can be stopped at
//! any moment and called again.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use crate::encryption::rotating::rows_to_rotate;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::encryption::{counts, encrypting, modes, reload, set_keys};
use crate::support::twin_tables::{Twins, assert_live_is, names};

#[test]
fn a_table_goes_from_plain_to_a_key_to_the_next_and_back() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("set rbytea.qss_mode = off");
    db.fill("t", 1..=100);
    db.run("insert into t values (101, '', ''), (102, null, null), (103, payload(3, 300001), payload(3, 300001))");
    assert_eq!((counts(&db), modes(&db, "t")), ("1:0".into(), "0:102".into()));
    let mut before = names(&cluster.live());
    let mut step = |prepare: &dyn Fn(), wanted_counts: &str, wanted_modes: &str| {
        prepare();
        db.run("call rbytea_reencrypt('t')");
        assert_eq!((counts(&db), modes(&db, "t")), (wanted_counts.into(), wanted_modes.into()));
        db.assert_same("t", 103);
        assert_eq!(cluster.live().len(), 204, "each payload was written once");
        assert_eq!(db.rvacuum(), 102, "the old files are garbage, and nothing else is");
        assert_live_is(&cluster, &db, &[("r", "t")]);
        let after = names(&cluster.live());
        assert!(before.is_disjoint(&after), "a file has changed in place");
        before = after;
        assert_eq!(db.text("select rvacuum_purge()"), "102");
        db.run("call rbytea_reencrypt('t'); ");
        assert_eq!(names(&cluster.live()), before, "a second call has nothing to do");
    };
    step(&|| db.run("set rbytea.qss_mode = on"), "1:102", "1:102");
    step(
        &|| {
            set_keys(&cluster, &[1, 2]);
            reload(&cluster, &[&db]);
        },
        "1:0 2:102",
        "1:102",
    );
    step(
        &|| {
            set_keys(&cluster, &[1]);
            // Not without the key: nothing is lost.
            reload(&cluster, &[&db]);
            assert_eq!(db.sqlstate("call rbytea_reencrypt('t')"), SqlState::CONFIG_FILE_ERROR);
            set_keys(&cluster, &[1, 2]);
            reload(&cluster, &[&db]);
            db.run("set rbytea.qss_mode = off");
        },
        "1:0 2:0",
        "0:102",
    );
}

#[test]
fn a_retired_key_can_be_taken_out_of_the_file() {
    let (cluster, db) = rows_to_rotate(30);
    db.fill("t", 31..=40);
    assert_eq!(counts(&db), "1:30 2:10");
    db.run("call rbytea_reencrypt('t', 7)");
    assert_eq!(counts(&db), "1:0 2:40");
    set_keys(&cluster, &[2]);
    reload(&cluster, &[&db]);
    for session in [&db, &cluster.session()] {
        session.assert_stored("t", 40);
    }
    assert_eq!(counts(&db), "2:40");
}

#[test]
fn a_call_that_is_killed_keeps_its_batches_and_the_next_one_goes_on() {
    let stops: [(&str, &SqlState); 4] = [
        ("select pg_terminate_backend($1)", &SqlState::ADMIN_SHUTDOWN),
        ("select pg_cancel_backend($1)", &SqlState::QUERY_CANCELED),
        ("set lock_timeout = 100", &SqlState::LOCK_NOT_AVAILABLE),
        // Time enough to come to the lock.
        ("set statement_timeout = 5000", &SqlState::QUERY_CANCELED),
    ];
    for (stop, wanted) in stops {
        let (cluster, db) = rows_to_rotate(50);
        let (lock, call) = (cluster.session(), cluster.session());
        lock.run("begin; select from t where n = 38 for update");
        let pid = call.pid();
        let by_itself = stop.starts_with("set");
        if by_itself {
            call.run(stop);
        }
        let running = call.start("call rbytea_reencrypt('t', 10)");
        if !by_itself {
            wait_until(PATIENCE, || db.sees_waiting(pid));
            assert!(db.one::<bool>(stop, &[&pid]));
        }
        let error = running.finish().unwrap_err();
        assert_eq!(error.code(), Some(wanted), "{stop}");
        lock.run("rollback");
        // Its snapshot, which sees the old versions of the rows, may outlive the answer.
        let holds =
            "select exists (select from pg_stat_activity where pid = $1 and backend_xmin is not null)";
        wait_until(PATIENCE, || !db.one::<bool>(holds, &[&pid]));
        assert_eq!(counts(&db), "1:13 2:37", "{stop}: what was done was committed before the wait");
        db.assert_stored("t", 50);
        assert_eq!(db.text("select * from rbytea.rbytea_stat_progress_reencrypt"), "");

        db.run("call rbytea_reencrypt('t', 10)");
        assert_eq!(counts(&db), "1:0 2:50");
        db.assert_stored("t", 50);
        assert_eq!(db.rvacuum(), 50, "50 old files, and none of a batch that did not end");
        assert_live_is(&cluster, &db, &[("r", "t")]);
        db.assert_stored("t", 50);
    }
}

#[test]
fn a_crash_keeps_the_batches_too() {
    let (mut cluster, db) = rows_to_rotate(50);
    let (lock, call) = (cluster.session(), cluster.session());
    lock.run("begin; select from t where n = 38 for update");
    let pid = call.pid();
    let running = call.start("call rbytea_reencrypt('t', 10)");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    cluster.kill9();
    running.finish().unwrap_err();
    cluster.start();
    let db = cluster.session();
    assert_eq!(counts(&db), "1:13 2:37");
    db.assert_stored("t", 50);
    db.run("call rbytea_reencrypt('t', 10)");
    assert_eq!(counts(&db), "1:0 2:50");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 50);
}

#[test]
fn progress_is_seen_while_it_goes_on() {
    let (cluster, db) = rows_to_rotate(300);
    let (lock, call) = (cluster.session(), cluster.session());
    lock.run("begin; select from t where n = 250 for update");
    let pid = call.pid();
    assert_eq!(db.text("select * from rbytea.rbytea_stat_progress_reencrypt"), "");
    let running = call.start("call rbytea_reencrypt('t', 100)");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    let shown = db.rows(
        "select pid, datname::text, relid::regclass::text as relation, blocks_total, blocks_done, payloads,
                pg_relation_size('t') / 8192 as blocks from rbytea.rbytea_stat_progress_reencrypt",
        &[],
    );
    let [row] = &shown[..] else { panic!("one call, one row: {shown:?}") };
    assert_eq!(row.get::<_, i32>("pid"), pid);
    assert_eq!(row.get::<_, String>("datname"), "postgres");
    assert_eq!(row.get::<_, String>("relation"), "t");
    assert_eq!(row.get::<_, i64>("payloads"), 249, "two batches and what is done of the third");
    let (total, done, blocks) =
        (row.get::<_, i64>("blocks_total"), row.get::<_, i64>("blocks_done"), row.get::<_, i64>("blocks"));
    assert!(0 < done && done <= total && total <= blocks, "{done} of {total} blocks, of {blocks}");
    db.run("create role watcher login; grant pg_monitor to watcher");
    assert_eq!(
        cluster.session_as("watcher").text("select payloads from rbytea.rbytea_stat_progress_reencrypt"),
        "249"
    );
    lock.run("commit");
    running.finish().unwrap();
    assert_eq!(db.text("select * from rbytea.rbytea_stat_progress_reencrypt"), "");
    db.assert_stored("t", 300);
}

#[test]
fn rows_that_are_right_already_are_not_touched() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=20);
    db.run("set rbytea.qss_mode = off");
    db.fill("t", 21..=40);
    db.run("set rbytea.external_threshold = 5000; insert into t select n, payload(n), payload(n) from generate_series(41, 60) n");
    let place = |from: i32, to: i32| -> BTreeSet<String> {
        db.column(
            &format!("select n || ' ' || ctid::text || uuid(r)::text from t where n between {from} and {to}"),
            &[],
        )
        .into_iter()
        .flat_map(|text: Option<String>| text)
        .collect()
    };
    let before = place(1, 20);
    assert_eq!(before.len(), 20);
    db.run("set rbytea.qss_mode = on");
    let write: String = db.one("select pg_current_wal_lsn()::text", &[]);
    db.run("call rbytea_reencrypt('t', 3)");
    assert_eq!(place(1, 20), before, "rows that were encrypted have got new versions");
    assert_eq!(modes(&db, "t"), "1:40");
    db.assert_same("t", 60);
    db.run("checkpoint");
    db.run("call rbytea_reencrypt('t', 3)");
    assert_eq!(place(1, 20), before);
    assert!(db.one::<bool>("select pg_current_wal_lsn() > $1::text::pg_lsn", &[&write]));
}
