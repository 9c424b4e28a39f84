//! Standbys with a copy of the store, standbys of standbys, and readers on a standby that are older than what it has replayed.

use std::process::Command;

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::session::block_on;
use crate::support::shared_store::{counts, primary, replayed, tree};
use crate::support::standby::standby_of;

/// Copies what the one store has to the other, as `rsync -a` would.
fn copy_store(from: &Cluster, to: &Cluster) {
    let copied = Command::new("cp").args(["-a", "-T"]).arg(from.store()).arg(to.store()).status().unwrap();
    assert!(copied.success());
}

/// Where the WAL carries no payloads: what the copy lacks is an error that says so, and is there as soon as it has been copied.
#[test]
fn a_standby_with_a_copy_of_the_store_has_what_was_copied() {
    let cluster = Cluster::with_extension_and(&["rbytea.wal_payload_limit = 0"]);
    let db = cluster.session();
    db.run("create table t (n int primary key, r rbytea)");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();
    replayed(&db, &reader);
    assert_ne!(standby.store(), cluster.store());
    let first = ledger.compare(&reader, "t");
    assert_eq!(
        (first.lost, first.dangling),
        (0, 0),
        "the base backup has brought the store along: {first:?}"
    );

    ledger.insert(&db, "t", 11..=20);
    ledger.update(&db, "t", 1..=3);
    replayed(&db, &reader);
    let behind = ledger.compare(&reader, "t");
    assert_eq!(
        (behind.lost, behind.dangling),
        (0, 13),
        "an error for each payload that is not there, and no other bytes"
    );
    let error = reader.error("select r from t where n = 11");
    assert_eq!(error.code().code(), "58P01", "{error:?}");
    assert_eq!(reader.text("select count(*), count(distinct uuid(r)), sum(len(r)) > 0 from t"), "20|20|t");
    let before = tree(&standby.store());
    copy_store(&cluster, &standby);
    assert_ne!(tree(&standby.store()), before);
    let copied = tree(&standby.store());
    let found = ledger.compare(&reader, "t");

    // Copied in any order, after the primary's vacuum too: TRASH comes along.
    ledger.delete(&db, "t", 4..=5);
    db.one::<i64>("select rvacuum()", &[]);
    replayed(&db, &reader);
    let after = ledger.compare(&reader, "t");
    assert_eq!(tree(&standby.store()), copied, "reading has changed the copy");
    proves(Promise::Replication, first.and(found).and(after));
}

/// A standby of a standby, both on the primary's store, and the promotion of the one between.
#[test]
fn a_standby_of_a_standby_reads_the_same_store() {
    let (cluster, root) = primary(&[]);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let middle = standby_of(&cluster, &[]);
    let between = middle.session();
    replayed(&db, &between);
    let last = standby_of(&middle, &[]);
    let reader = last.session();
    ledger.update(&db, "t", 1..=5);
    ledger.delete(&db, "t", 6..=6);
    replayed(&db, &reader);
    let before = tree(&root);
    let mut found = ledger.compare(&reader, "t");
    assert_eq!(tree(&root), before);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 6);
    replayed(&db, &reader);
    found = found.and(ledger.compare(&reader, "t"));

    // Its upstream becomes the primary.
    let mut cluster = cluster;
    drop(db);
    cluster.stop(Shutdown::Immediate);
    between.run("select pg_promote()");
    wait_until(PATIENCE, || between.text("select pg_is_in_recovery()") == "f");
    between.run("select rbytea_adopt_store()");
    ledger.insert(&between, "t", 20..=25);
    ledger.delete(&between, "t", 1..=1);
    assert_eq!(between.one::<i64>("select rvacuum()", &[]), 1);
    replayed(&between, &reader);
    for sql in ["select rvacuum()", "select rbytea_adopt_store()"] {
        assert_eq!(reader.sqlstate(sql).code(), "25006", "{sql}");
    }
    for session in [&between, &reader] {
        found = found.and(ledger.compare(session, "t"));
    }
    proves(Promise::Replication, found);
}

/// A standby of a standby that is further behind than its upstream: the primary's slot and pg_stat_replication know only of that.
#[test]
fn what_a_standby_of_a_standby_still_sees_is_not_deleted() {
    let (cluster, root) = primary(&[]);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let middle = standby_of(&cluster, &["wal_receiver_status_interval = 1s"]);
    let between = middle.session();
    replayed(&db, &between);
    let last = standby_of(&middle, &[]);
    let reader = last.session();
    replayed(&db, &reader);
    reader.run("select pg_wal_replay_pause()");
    wait_until(PATIENCE, || reader.text("select pg_get_wal_replay_pause_state()") == "paused");
    let seen = ledger.clone();
    ledger.delete(&db, "t", 1..=5);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 5);
    replayed(&db, &between);
    let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
    let told = "select coalesce(min(replay_lsn) >= $1::text::pg_lsn, false) from pg_stat_replication";
    wait_until(PATIENCE, || db.one(told, &[&now]));
    let in_trash = seen.compare(&reader, "t");
    assert_eq!((in_trash.lost, in_trash.dangling), (0, 0), "{in_trash:?}");
    db.one::<i64>("select rvacuum()", &[]);
    assert_eq!(counts(&root), (5, 5), "the retention keeps it for those of whom the primary does not know");
    let found = seen.compare(&reader, "t");
    proves(Promise::Replication, found);
}

/// Replay has gone on, a reader's snapshot has not. TRASH keeps what it sees for the retention; with hot_standby_feedback a purge
/// waits for it (see purge_horizons), without it gets an error.
#[test]
fn a_reader_that_is_older_than_a_purge_gets_an_error_and_no_other_bytes() {
    let (cluster, root) = primary(&[]);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let standby =
        standby_of(&cluster, &["wal_receiver_status_interval = 1s", "max_standby_streaming_delay = -1"]);
    let reader = standby.session();
    replayed(&db, &reader);
    reader.run("begin isolation level repeatable read; select count(*) from t");
    let seen = ledger.clone();
    ledger.delete(&db, "t", 1..=5);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 5);
    replayed(&db, &reader);
    let found = seen.compare(&reader, "t");

    let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
    let told = "select coalesce(min(replay_lsn) >= $1::text::pg_lsn, false) from pg_stat_replication";
    wait_until(PATIENCE, || db.one(told, &[&now]));
    db.one::<i64>("select rvacuum_purge()", &[]);
    for n in 1..=10 {
        reader.run("savepoint s");
        let read = block_on(reader.client().query_one("select r from t where n = $1", &[&n]));
        match read {
            Ok(row) => assert!(seen.is(n, &row.get(0)), "row {n} reads back other bytes"),
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::UNDEFINED_FILE), "row {n}: {error:?}");
                assert!(n <= 5 && counts(&root) == (5, 0), "row {n} is needed by more than an old reader");
            }
        }
        reader.run("rollback to s");
    }
    reader.run("commit");
    ledger.assert_equal(&reader, "t");
    proves(Promise::Replication, found);
}
