//! Logical replication carries payloads: the subscriber stores them in files of its own, however far it is behind.

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with_table, names};

/// A table whose rows are found by a key.
const KEYED: &str = "create table t (n int primary key, b bytea, r rbytea)";

/// What is the same on both sides: numbers and bytes.
const ROWS: &str = "select string_agg(n || ':' || md5(b) || md5sum(r), ',' order by n) from t";

/// A publisher, the database `postgres`, with the table `t` of this definition, and a subscriber, the database `far`
/// of the same cluster. The subscription `s` has these options and is not enabled yet.
fn publisher_and_subscriber(table: &str, options: &str) -> (Cluster, Session, Session) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(&format!("drop table t; {table}; create publication p for table t"));
    db.run("create database far");
    let far = cluster.session_in("far");
    far.run(&format!("create extension rbytea; {table}"));
    // Creating it together with the subscription would wait for the subscription's own transaction.
    let two_phase = options.contains("two_phase");
    db.run(&format!("select pg_create_logical_replication_slot('s', 'pgoutput', false, {two_phase})"));
    far.run(&format!(
        "create subscription s connection 'host={} port={} user=postgres dbname=postgres' publication p
         with (create_slot = false, slot_name = 's', enabled = false, copy_data = true, {options})",
        cluster.dir().display(),
        cluster.port()
    ));
    (cluster, db, far)
}

/// Waits until the subscriber has everything.
fn catch_up(db: &Session, far: &Session) {
    far.run("alter subscription s enable");
    wait_until(PATIENCE, || far.one("select bool_and(srsubstate = 'r') from pg_subscription_rel", &[]));
    let lsn: String = db.one("select pg_current_wal_lsn()::text", &[]);
    let caught_up =
        "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = 's'";
    wait_until(PATIENCE, || db.one(caught_up, &[&lsn]));
}

/// Stops the subscription for good.
fn unsubscribe(db: &Session, far: &Session) {
    far.run("alter subscription s disable; alter subscription s set (slot_name = none)");
    far.run("drop subscription s");
    wait_until(PATIENCE, || db.try_run("select pg_drop_replication_slot('s')").is_ok());
}

/// The subscriber has files of its own, one for each row, after its vacuum.
fn assert_own_files(cluster: &Cluster, far: &Session) {
    far.rvacuum();
    let oid: u32 = far.one("select oid from pg_database where datname = 'far'", &[]);
    let live = names(&cluster.store_files()[&oid].live);
    assert_eq!(live.into_iter().collect::<Vec<_>>(), far.uuids("r", "t"));
}

#[test]
fn a_subscriber_stores_what_it_copies_and_applies() {
    let (cluster, db, far) = publisher_and_subscriber(KEYED, "binary = false");
    db.fill("t", 1..=3);
    catch_up(&db, &far);
    far.assert_stored("t", 3);

    db.fill("t", 4..=5);
    db.run("update t set b = payload(-n), r = payload(-n) where n = 1; delete from t where n = 2; update t set n = 30 where n = 3");
    db.run("begin; insert into t values (6, payload(6), payload(6)); savepoint s; delete from t; rollback to s; commit");
    catch_up(&db, &far);
    far.assert_stored("t", 5);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    unsubscribe(&db, &far);
    assert_own_files(&cluster, &far);
    far.assert_stored("t", 5);
}

#[test]
fn a_subscriber_that_lags_gets_payloads_that_are_in_trash_by_now() {
    let (cluster, db, far) = publisher_and_subscriber(KEYED, "binary = true");
    db.fill("t", 1..=2);
    catch_up(&db, &far);
    far.run("alter subscription s disable");
    wait_until(PATIENCE, || db.one("select not active from pg_replication_slots where slot_name = 's'", &[]));

    db.fill("t", 3..=6);
    db.run("delete from t where n <= 4");
    db.run("update t set b = payload(-5), r = payload(-5) where n = 5");
    assert_eq!(db.rvacuum(), 5);
    catch_up(&db, &far);
    far.assert_stored("t", 2);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    unsubscribe(&db, &far);
    assert_own_files(&cluster, &far);
}

#[test]
fn rows_are_found_by_their_payloads_where_they_have_no_key() {
    let table = "create table t (n int, b bytea, r rbytea); alter table t replica identity full";
    let (cluster, db, far) = publisher_and_subscriber(table, "streaming = true");
    db.fill("t", 1..=4);
    db.run("insert into t values (1, payload(11), payload(11))");
    catch_up(&db, &far);

    db.run("delete from t where n = 1 and r = payload(11)::rbytea; delete from t where n = 2");
    db.run("update t set b = payload(-3), r = payload(-3) where n = 3; update t set n = 40 where n = 4");
    catch_up(&db, &far);
    far.assert_stored("t", 3);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    unsubscribe(&db, &far);
    assert_own_files(&cluster, &far);
}

#[test]
fn a_prepared_transaction_is_prepared_on_the_subscriber_too() {
    let (cluster, db, far) = publisher_and_subscriber(KEYED, "two_phase = true");
    db.fill("t", 1..=2);
    catch_up(&db, &far);
    wait_until(PATIENCE, || far.one("select subtwophasestate = 'e' from pg_subscription", &[]));

    for (gid, first) in [("keep", 3), ("drop", 5)] {
        db.run("begin");
        db.fill("t", first..=first + 1);
        db.run(&format!("prepare transaction '{gid}'"));
    }
    // Those of the publisher are in the same cluster.
    wait_until(PATIENCE, || {
        far.one("select count(*) = 2 from pg_prepared_xacts where database = 'far'", &[])
    });
    assert_eq!(far.rvacuum(), 0, "what the subscriber has prepared waits for its second phase");
    db.run("commit prepared 'keep'");
    db.run("rollback prepared 'drop'");
    wait_until(PATIENCE, || {
        far.one("select count(*) = 0 from pg_prepared_xacts where database = 'far'", &[])
    });
    far.assert_stored("t", 4);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    unsubscribe(&db, &far);
    assert_own_files(&cluster, &far);
    far.assert_stored("t", 4);
}

#[test]
fn a_big_transaction_is_streamed_while_it_is_open() {
    let (cluster, db, far) = publisher_and_subscriber(KEYED, "streaming = true");
    db.run("alter system set logical_decoding_work_mem = '64kB'");
    db.run("select pg_reload_conf()");
    catch_up(&db, &far);

    db.run("begin");
    db.fill("t", 1..=2000);
    let streamed =
        "select coalesce(sum(stream_txns), 0) > 0 from pg_stat_replication_slots where slot_name = 's'";
    db.run("savepoint s");
    db.fill("t", 2001..=4000);
    let other = cluster.session();
    wait_until(PATIENCE, || other.one(streamed, &[]));
    assert_eq!(far.one::<i64>("select count(*) from t", &[]), 0);
    db.run("rollback to s; update t set b = payload(-n), r = payload(-n) where n <= 10; commit");
    catch_up(&db, &far);
    far.assert_stored("t", 2000);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    unsubscribe(&db, &far);
    assert_own_files(&cluster, &far);
}
