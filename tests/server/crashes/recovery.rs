//! SIGKILL while the server recovers from a SIGKILL.

use std::time::Instant;

use rustix::process::Signal;

use super::ways::{assert_sound, cluster};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::processes::{Log, Process, child, hold, kill_all, signal};
use crate::support::twin_tables::Twins;

/// Starts the server and holds its startup process in the middle of the WAL; None if recovery has ended before that.
fn recovering(cluster: &mut Cluster) -> Option<Process> {
    let mut log = Log::from_now(cluster);
    cluster.launch();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let startup = child(cluster, "startup recovering");
        if let Some(startup) = startup.filter(|_| log.text().contains("redo starts at")) {
            hold(cluster, &startup);
            return (!log.text().contains("redo done at")).then_some(startup);
        }
        assert!(Instant::now() < deadline, "no recovery begins:\n{}", log.text());
        if log.text().contains("redo done at") {
            return None;
        }
    }
}

#[test]
fn a_crash_while_the_server_recovers_takes_nothing_more() {
    let mut cluster = cluster(&[]);
    let db = cluster.session();
    db.run(
        "create unlogged table unlogged (n int primary key, b bytea, r rbytea); create table numbers (n int)",
    );
    db.fill("t", 1..=20);
    db.fill("unlogged", 1..=5);
    db.run("checkpoint");
    db.fill("u", 1..=20);
    db.run("insert into u select n + 100, b, r from t where n <= 5; delete from t where n <= 6");
    db.run("begin");
    db.fill("t", 101..=110);
    db.run("prepare transaction 'p'");
    // Some time of recovery.
    db.run("insert into numbers select generate_series(1, 1500000)");
    db.fill("t", 201..=210);
    db.run("select rvacuum()");
    db.run("begin");
    db.fill("t", 301..=310);
    assert!(kill_all(&mut cluster));
    let mut kills = 1;
    for _ in 0..3 {
        assert!(recovering(&mut cluster).is_some(), "the WAL is too short to be caught in it");
        assert!(kill_all(&mut cluster), "the postmaster had ended");
        kills += 1;
    }
    // The startup process alone: the postmaster gives up.
    let mut log = Log::from_now(&cluster);
    let startup = recovering(&mut cluster).expect("the WAL is too short to be caught in it");
    signal(&cluster, &startup, Signal::KILL);
    assert!(log.confirms(&startup));
    kills += 1;
    assert!(log.has("due to startup process failure", PATIENCE));
    kill_all(&mut cluster);
    cluster.start();

    let db = cluster.connected();
    assert_eq!(db.one::<i64>("select count(*) from numbers", &[]), 1_500_000);
    assert_eq!(db.one::<i64>("select count(*) from unlogged", &[]), 0, "a crash empties it");
    db.assert_stored("t", 24);
    db.assert_stored("u", 25);
    db.run("commit prepared 'p'");
    db.run("drop table unlogged");
    assert_sound(&cluster, &db, [34, 25]);
    for promise in [Promise::Durable, Promise::Collected] {
        proves_by_assertions(promise, kills);
    }
}
