//! Keys come and go with the configuration: a running session has new ones from its next statement after a reload on, and
//! no user is shown a key.

use std::fs;

use tokio_postgres::error::SqlState;

use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::encryption::{
    counts, default_key_file, digits, encrypting, key_file, modes, put, reload, set_keys,
};
use crate::support::session::Session;
use crate::support::standby::standby_of;
use crate::support::twin_tables::Twins;

const READ: &str = "select r::bytea from t where n = 1";

/// The ids of the keys that the rows of `t` need.
fn ids(db: &Session) -> String {
    counts(db)
}

#[test]
fn the_newest_key_encrypts_and_older_ones_decrypt() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=2);
    // Neither order nor gaps matter.
    put(&cluster, &default_key_file(&cluster), &key_file(&[300, 1, 65535, 20]), 0o600);
    db.fill("t", 3..=3);
    db.assert_stored("t", 3);
    reload(&cluster, &[&db]);
    db.fill("t", 4..=7);
    db.assert_stored("t", 7);
    assert_eq!(
        ids(&db),
        "1:3 20:0 300:0 65535:4",
        "a running session has a new key after a reload, not before"
    );
    set_keys(&cluster, &[300, 1, 65535]);
    reload(&cluster, &[&db]);
    cluster.session().assert_stored("t", 7);
}

#[test]
fn a_running_transaction_has_a_new_key_at_its_next_statement() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("begin");
    db.fill("t", 1..=1);
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    db.fill("t", 2..=2);
    db.run("commit");
    db.assert_stored("t", 2);
    assert_eq!(ids(&db), "1:1 2:1");

    // One statement is under one key.
    let lock = cluster.session();
    lock.run("select pg_advisory_lock(1)");
    let pid = db.pid();
    let running = db.start(
        "insert into t select n, payload(n), payload(n) from generate_series(3, 6) n
          where n <> 5 or pg_advisory_xact_lock(1) is not null",
    );
    wait_until(PATIENCE, || lock.sees_waiting(pid));
    set_keys(&cluster, &[1, 2, 3]);
    cluster.reload();
    lock.run("select pg_advisory_unlock(1)");
    running.finish().unwrap();
    db.assert_stored("t", 6);
    assert_eq!(ids(&db), "1:1 2:5 3:0");
}

#[test]
fn a_key_that_is_gone_is_named_and_costs_only_what_needs_it() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=2);
    set_keys(&cluster, &[1, 7]);
    reload(&cluster, &[&db]);
    db.fill("t", 3..=4);
    set_keys(&cluster, &[7]);
    db.assert_stored("t", 4);
    reload(&cluster, &[&db]);

    let error = db.error(READ);
    assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR);
    let path = default_key_file(&cluster);
    assert_eq!(error.message(), format!("encryption key 1 is not in key file \"{}\"", path.display()));
    db.run("create role alice login; grant all on t to alice");
    let alice = cluster.session_as("alice");
    let error = alice.error(READ);
    assert_eq!(error.message(), "encryption key 1 is not available");
    assert!(!format!("{error:?}").contains(path.to_str().unwrap()), "{error:?}");

    db.assert_stored("(select * from t where n > 2) s", 2);
    db.fill("t", 5..=5);
    assert_eq!(db.text("select id, fingerprint is null, payloads from rbytea_keys()"), "7|f|3\n1|t|2");
    assert_eq!(
        db.text("select r = payload(1)::rbytea, len(r), length(sha256store(r)) from t where n = 1"),
        "t|1000|64"
    );
    db.run("update t set n = -n where n = 2; delete from t where n = 1");
    assert_eq!(db.rvacuum(), 1, "the vacuum needs no keys");
    set_keys(&cluster, &[1, 7]);
    reload(&cluster, &[&db]);
    db.assert_stored("t", 4);
}

#[test]
fn a_new_session_reads_the_file_as_it_is_and_a_restart_too() {
    let mut cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=2);
    fs::remove_file(default_key_file(&cluster)).unwrap();
    db.assert_stored("t", 2);
    assert_eq!(cluster.session().sqlstate(READ), SqlState::CONFIG_FILE_ERROR);
    drop(db);
    cluster.stop(Shutdown::Fast);
    cluster.start();
    let db = cluster.session();
    assert_eq!(db.sqlstate(READ), SqlState::CONFIG_FILE_ERROR, "the server starts without its keys");
    set_keys(&cluster, &[1]);
    db.assert_stored("t", 2);
}

#[test]
fn superusers_alone_set_the_mode_and_see_the_path() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("create role alice login; grant all on t to alice; create role bob login");
    let alice = cluster.session_as("alice");
    for sql in [
        "set rbytea.qss_mode = off",
        "alter role alice set rbytea.qss_mode = off",
        "select set_config('rbytea.qss_mode', 'off', true)",
    ] {
        assert_eq!(alice.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    assert_eq!(alice.text("show rbytea.qss_mode"), "on");
    assert_eq!(alice.sqlstate("show rbytea.key_file"), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(alice.sqlstate("select current_setting('rbytea.key_file')"), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(alice.text("select count(*) from pg_settings where name = 'rbytea.key_file'"), "0");
    assert_eq!(alice.text("select count(*) from pg_settings where setting like '%keys%'"), "0");
    for sql in ["set rbytea.key_file = 'x'", "alter database postgres set rbytea.key_file = 'x'"] {
        let code = db.sqlstate(sql);
        assert_eq!(
            code,
            SqlState::CANT_CHANGE_RUNTIME_PARAM,
            "not even a superuser has a key file of their own: {sql}"
        );
    }
    for sql in [
        "select * from rbytea_keys()",
        "call rbytea_reencrypt('t')",
        "select * from rbytea.rbytea_stat_progress_reencrypt",
    ] {
        assert_eq!(alice.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    // What alice writes is encrypted all the same.
    alice.run("insert into t values (1, 'x', 'x')");
    assert_eq!(modes(&alice, "t"), "1:1");
    db.run("grant set on parameter rbytea.qss_mode to alice");
    alice.run("set rbytea.qss_mode = off; insert into t values (2, 'x', 'x')");
    assert_eq!(modes(&alice, "t"), "0:1 1:1");
    alice.assert_stored("t", 2);
}

#[test]
fn keys_are_in_no_place_that_sql_reaches() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("set log_statement = 'all'; set log_min_messages = debug5; set client_min_messages = debug5");
    db.fill("t", 1..=2);
    db.assert_stored("t", 2);
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    db.run("call rbytea_reencrypt('t')");
    let mut seen = format!("{:?}", db.notices());
    for query in [
        "select * from pg_settings",
        "select * from pg_file_settings",
        "select * from pg_stat_activity",
        "select * from rbytea_keys()",
        "select * from rbytea.rbytea_vacuum_history",
        "select * from pg_get_backend_memory_contexts()",
    ] {
        seen += &db.text(query);
    }
    seen += &cluster.log();
    assert!(
        seen.contains("rbytea_reencrypt") && seen.contains("rbytea.key_file"),
        "the test looks at the wrong place"
    );
    for id in [1, 2] {
        let digits = digits(id);
        for at in 0..=56 {
            assert!(!seen.contains(&digits[at..at + 8]), "a part of key {id} is shown");
        }
    }
}

#[test]
fn a_standby_reads_with_the_same_keys() {
    let primary = encrypting();
    let db = primary.session();
    db.fill("t", 1..=3);
    let store = primary.store();
    let standby = standby_of(&primary, &[&format!("rbytea.filesystem_storage_path = '{}'", store.display())]);
    set_keys(&standby, &[1]);
    let far = standby.session();
    far.assert_stored("t", 3);
    set_keys(&primary, &[1, 2]);
    reload(&primary, &[&db]);
    db.fill("t", 4..=6);
    let lsn: String = db.one("select pg_current_wal_lsn()::text", &[]);
    wait_until(PATIENCE, || far.one("select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", &[&lsn]));
    let error = far.error("select r::bytea from t where n = 4");
    assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR);
    assert!(error.message().contains("encryption key 2"), "{error:?}");
    far.assert_stored("(select * from t where n <= 3) s", 3);
    set_keys(&standby, &[1, 2]);
    reload(&standby, &[&far]);
    far.assert_stored("t", 6);
    for sql in ["call rbytea_reencrypt('t')", "select * from rbytea_keys()"] {
        assert_eq!(far.sqlstate(sql), SqlState::READ_ONLY_SQL_TRANSACTION, "{sql}");
    }
}

#[test]
fn parallel_workers_read_with_the_keys() {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=200);
    db.run(
        "alter table t set (parallel_workers = 2); analyze t;
         set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set parallel_leader_participation = off",
    );
    let query = "select count(*) from t where md5sum(r) = md5(b) and r::bytea = b and substring(r from 3 for 7) = substring(b from 3 for 7)";
    assert!(db.text(&format!("explain {query}")).contains("Workers Planned: 2"), "the plan is not parallel");
    assert_eq!(db.text(query), "200");
    assert_keys_missing_in_workers(&cluster, &db, query);
}

fn assert_keys_missing_in_workers(cluster: &Cluster, db: &Session, query: &str) {
    set_keys(cluster, &[2]);
    reload(cluster, &[db]);
    let error = db.error(query);
    assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR, "{error:?}");
    assert!(error.message().contains("encryption key 1"), "{error:?}");
}
