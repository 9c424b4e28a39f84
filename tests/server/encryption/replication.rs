//! Re-encryption and logical replication: a row whose file is written once more is sent once more, and is what it was. The
//! subscriber encrypts, or does not, by its own settings.

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::{counts, encrypting, modes, reload, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, names};

const ROWS: &str = "select string_agg(n || ':' || md5(b) || md5sum(r), ',' order by n) from t";

/// A subscriber of the publication `p` for table `t`: the database `far` of the same cluster.
fn subscriber(cluster: &Cluster, db: &Session, table: &str) -> Session {
    db.run("create publication p for table t");
    db.run("create database far");
    let far = cluster.session_in("far");
    far.run(&format!("create extension rbytea; {table}"));
    db.run("select pg_create_logical_replication_slot('s', 'pgoutput')");
    far.run(&format!(
        "create subscription s connection 'host={} port={} user=postgres dbname=postgres' publication p
         with (create_slot = false, slot_name = 's')",
        cluster.dir().display(),
        cluster.port()
    ));
    far
}

fn catch_up(db: &Session, far: &Session) {
    wait_until(PATIENCE, || far.one("select bool_and(srsubstate = 'r') from pg_subscription_rel", &[]));
    let lsn: String = db.one("select pg_current_wal_lsn()::text", &[]);
    let caught_up =
        "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = 's'";
    wait_until(PATIENCE, || db.one(caught_up, &[&lsn]));
}

fn unsubscribe(db: &Session, far: &Session) {
    far.run("alter subscription s disable; alter subscription s set (slot_name = none)");
    far.run("drop subscription s");
    wait_until(PATIENCE, || db.try_run("select pg_drop_replication_slot('s')").is_ok());
}

#[test]
fn a_subscriber_gets_each_payload_once_more_and_equal() {
    for identity in ["", "alter table t drop constraint t_pkey; alter table t replica identity full"] {
        let cluster = encrypting();
        let db = cluster.session();
        db.run(identity);
        db.fill("t", 1..=30);
        let far = subscriber(
            &cluster,
            &db,
            &format!("create table t (n int primary key, b bytea, r rbytea); {identity}"),
        );
        catch_up(&db, &far);
        far.assert_stored("t", 30);
        assert_eq!((modes(&far, "t"), counts(&far)), ("1:30".into(), "1:30".into()));
        let before = far.uuids("r", "t");

        // A new worker has the new key for sure.
        far.run("alter subscription s disable");
        set_keys(&cluster, &[1, 2]);
        reload(&cluster, &[&db]);
        far.run("alter subscription s enable");
        db.run("call rbytea_reencrypt('t', 7)");
        db.run("update t set b = payload(-1), r = payload(-1) where n = 1");
        catch_up(&db, &far);
        assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
        far.assert_stored("t", 30);
        let after = far.uuids("r", "t");
        assert!(
            after.iter().all(|uuid| !before.contains(uuid)),
            "the subscriber has kept files of the old key"
        );
        unsubscribe(&db, &far);
        assert_eq!((counts(&db), counts(&far)), ("1:0 2:30".into(), "1:0 2:30".into()));
        far.rvacuum();
        let oid: u32 = far.one("select oid from pg_database where datname = 'far'", &[]);
        let live = names(&cluster.store_files()[&oid].live);
        assert_eq!(live.into_iter().collect::<Vec<_>>(), after);
        far.assert_stored("t", 30);
    }
}

#[test]
fn a_subscriber_that_lags_behind_the_rotation_and_the_vacuum() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=10);
    let far = subscriber(&cluster, &db, "create table t (n int primary key, b bytea, r rbytea)");
    catch_up(&db, &far);
    far.run("alter subscription s disable");
    wait_until(PATIENCE, || db.one("select not active from pg_replication_slots where slot_name = 's'", &[]));
    db.run("update t set b = payload(-n), r = payload(-n) where n <= 5");
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    db.run("call rbytea_reencrypt('t', 3)");
    db.rvacuum();
    // The slot has changes of the old key to send: decoding reads their files.
    far.run("alter subscription s enable");
    catch_up(&db, &far);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    far.assert_stored("t", 10);
    unsubscribe(&db, &far);
}

#[test]
fn a_subscriber_without_keys_stores_plain_payloads() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=5);
    let other = Cluster::with_extension();
    let far = other.session();
    far.run("create table t (n int primary key, b bytea, r rbytea)");
    db.run("create publication p for table t");
    far.run(&format!(
        "create subscription s connection 'host={} port={} user=postgres dbname=postgres' publication p",
        cluster.dir().display(),
        cluster.port()
    ));
    catch_up(&db, &far);
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    db.run("call rbytea_reencrypt('t', 2)");
    catch_up(&db, &far);
    assert_eq!(far.one::<String>(ROWS, &[]), db.one::<String>(ROWS, &[]));
    assert_eq!(modes(&far, "t"), "0:5");
    far.assert_stored("t", 5);
    far.run("drop subscription s");
}
