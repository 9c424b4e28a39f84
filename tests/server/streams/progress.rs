//! rbytea.rbytea_stat_progress_store: what the transactions of other sessions are storing.

use futures_util::SinkExt;

use super::client::{IN_MEMORY, MIB, Uploads, binary, live};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::{Session, block_on};
use crate::support::twin_tables::cluster_with_table;
use crate::support::twins::noise;

const PROGRESS: &str = "select datname, payloads, bytes, payload_bytes_done, payload_bytes_total
                          from rbytea.rbytea_stat_progress_store where pid = $1";

/// Its row as this session sees it; nothing if there is none.
fn progress(watcher: &Session, pid: i32) -> String {
    watcher.text(&PROGRESS.replace("$1", &pid.to_string()))
}

#[test]
fn another_session_sees_what_is_uploaded_until_the_transaction_ends() {
    let cluster = cluster_with_table();
    let (db, watcher) = (cluster.session(), cluster.session());
    let pid = db.pid();
    for end in ["commit", "rollback", "select 1 / 0; rollback", "prepare transaction 'p'"] {
        assert_eq!(progress(&watcher, pid), "");
        db.run("begin");
        let (first, second, small) = (db.begin(), db.begin(), db.begin());
        assert_eq!(progress(&watcher, pid), "", "nothing is stored yet");
        db.append(first, &noise(3 * MIB, 1));
        assert_eq!(progress(&watcher, pid), format!("postgres|0|0|{}|", 3 * MIB));
        db.insert(1, first);
        assert_eq!(progress(&watcher, pid), format!("postgres|1|{}|0|", 3 * MIB));
        db.append(second, &noise(2 * MIB, 2));
        assert_eq!(progress(&watcher, pid), format!("postgres|1|{}|{}|", 3 * MIB, 2 * MIB));
        db.append(second, &noise(2 * MIB, 2));
        assert_eq!(progress(&watcher, pid), format!("postgres|1|{}|{}|", 3 * MIB, 4 * MIB));
        db.append(small, b"small");
        db.insert(2, second);
        db.insert(3, small);
        assert_eq!(progress(&watcher, pid), format!("postgres|3|{}|0|", 7 * MIB + 5));
        let _ = db.try_run(end);
        let _ = db.try_run("rollback");
        assert_eq!(progress(&watcher, pid), "", "{end}");
        db.run("delete from t");
    }
}

#[test]
fn each_transaction_of_a_procedure_counts_for_itself() {
    let cluster = cluster_with_table();
    let (db, watcher) = (cluster.session(), cluster.session());
    let pid = db.pid();
    for end in ["commit", "rollback"] {
        db.run(&format!(
            "create or replace procedure p() language plpgsql as $$ begin
                 for i in 1..3 loop
                     insert into t (n, r) values (i, payload(i, 1000));
                     perform pg_advisory_xact_lock(i);
                     {end};
                 end loop;
             end $$"
        ));
        watcher.run("select pg_advisory_lock(1), pg_advisory_lock(2), pg_advisory_lock(3)");
        let running = db.start("call p()");
        for i in 1..=3 {
            let waits = format!(
                "select count(*) from pg_locks where pid = {pid} and locktype = 'advisory' and objid = {i} and not granted"
            );
            wait_until(PATIENCE, || watcher.text(&waits) == "1");
            assert_eq!(progress(&watcher, pid), "postgres|1|1000|0|", "transaction {i}, {end}");
            watcher.run(&format!("select pg_advisory_unlock({i})"));
        }
        running.finish().unwrap();
        assert_eq!(progress(&watcher, pid), "");
        db.run("delete from t");
    }
}

#[test]
fn the_rights_of_pg_monitor_are_enough_and_needed() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create role alice login; create role watcher login in role pg_monitor; grant insert on t to alice",
    );
    let (alice, watcher) = (cluster.session_as("alice"), cluster.session_as("watcher"));
    alice.run("begin");
    let upload = alice.begin();
    alice.append(upload, &noise(MIB, 3));
    assert_eq!(progress(&watcher, alice.pid()), format!("postgres|0|0|{MIB}|"));
    assert_eq!(alice.sqlstate("select * from rbytea.rbytea_stat_progress_store").code(), "42501");
    assert_eq!(alice.sqlstate("rollback; select * from rbytea_store_progress()").code(), "42501");
}

/// PostgreSQL has one place for a session's progress.
#[test]
fn a_copy_keeps_its_own_progress() {
    let cluster = cluster_with_table();
    let (db, watcher) = (cluster.session(), cluster.session());
    let pid = db.pid();
    db.run("begin");
    let upload = db.begin();
    db.append(upload, &noise(MIB, 4));
    let chunk = noise(IN_MEMORY, 5);
    let rows: Vec<(i64, &[u8])> = vec![(upload, &chunk[..]); 12];
    let mut data = binary(&rows);
    data.truncate(data.len() - 2);
    let mut sink =
        Box::pin(block_on(db.client().copy_in("copy rbytea_upload from stdin (format binary)")).unwrap());
    block_on(async {
        sink.send(bytes::Bytes::from(data.clone())).await.unwrap();
        sink.flush().await.unwrap();
    });
    wait_until(PATIENCE, || live(&cluster).1 == 4 * MIB as u64);
    let copy = format!(
        "select command, type, bytes_processed > 3000000 from pg_stat_progress_copy where pid = {pid}"
    );
    wait_until(PATIENCE, || watcher.text(&copy) == "COPY FROM|PIPE|t");
    assert_eq!(progress(&watcher, pid), "", "it is COPY that is shown");
    block_on(async {
        sink.send(bytes::Bytes::from_static(&[0xff, 0xff])).await.unwrap();
        sink.as_mut().finish().await.unwrap();
    });
    assert_eq!(watcher.text(&copy), "");
    db.append(upload, &noise(MIB, 6));
    assert_eq!(
        progress(&watcher, pid),
        format!("postgres|0|0|{}|", 5 * MIB),
        "and the upload again after it"
    );
    db.insert(1, upload);
    db.run("commit");
    assert_eq!(progress(&watcher, pid), "");
}
