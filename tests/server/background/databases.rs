//! The list of databases: what cannot be vacuumed is said once and skipped, and served as soon as it can be.

use rustix::process::Signal;

use crate::support::background::{Background, Watching, bare_cluster_with, cluster_with, create_database};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

/// What the launcher says about a database that it skips.
fn skipped(name: &str) -> String {
    format!("rbytea does not vacuum database \"{name}\"")
}

/// Makes garbage and waits until it has been collected without a call.
#[track_caller]
fn assert_served(cluster: &Cluster, db: &Session) {
    let oid: u32 = db.one("select oid from pg_database where datname = current_database()", &[]);
    let next: i32 = db.one("select coalesce(max(n), 0) + 1 from t", &[]);
    let rows: i64 = db.one("select count(*) from t", &[]);
    db.fill("t", next..=next);
    db.run_and_tell(&format!("delete from t where n = {next}"));
    wait_until(PATIENCE, || cluster.store_files()[&oid].live.len() as i64 == rows);
    db.assert_stored("t", rows);
}

#[test]
fn a_database_that_is_missing_is_skipped_until_it_is_there() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'later, postgres'"]);
    let db = cluster.session();
    cluster.await_log(&skipped("later"));
    for _ in 0..2 {
        cluster.await_visit("postgres");
    }
    assert_served(&cluster, &db);
    assert_eq!(cluster.logged(&skipped("later")), 1, "said once");
    assert_eq!(cluster.logged("The database does not exist."), 1);

    let later = create_database(&cluster, "later");
    assert_served(&cluster, &later);
    assert_served(&cluster, &db);
    drop(later);
    db.run("drop database later");
    wait_until(PATIENCE, || cluster.logged("The database does not exist.") == 2);
    assert_served(&cluster, &db);
}

#[test]
fn a_database_that_takes_no_connections_is_skipped_until_it_does() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'other, postgres'"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    other.fill("t", 1..=3);
    assert_served(&cluster, &other);
    db.run("alter database other allow_connections false");
    cluster.await_log("The database does not accept connections.");
    for _ in 0..2 {
        cluster.await_visit("postgres");
    }
    let visits = cluster.visits("other");
    cluster.await_visit("postgres");
    assert_eq!(cluster.visits("other"), visits, "a worker could not connect");
    assert_eq!(cluster.logged("The database does not accept connections."), 1, "said once");
    assert_served(&cluster, &db);

    db.run("alter database other allow_connections true");
    assert_served(&cluster, &other);
    assert_eq!(cluster.logged("FATAL"), 0);
}

#[test]
fn a_database_without_the_extension_is_skipped_until_it_has_it() {
    let cluster = bare_cluster_with(&["rbytea.databases_for_vacuuming = 'other, postgres'"]);
    let db = cluster.session();
    db.run("create database other");
    let said = "The database does not have the extension rbytea.";
    wait_until(PATIENCE, || cluster.logged(said) == 2);
    for _ in 0..2 {
        cluster.await_visit("postgres");
    }
    assert_eq!(cluster.logged(said), 2, "once for each database");
    assert!(cluster.live().is_empty() && !cluster.store().exists(), "looking makes no store");

    for name in ["other", "postgres"] {
        let db = cluster.session_in(name);
        db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
        db.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
        assert_served(&cluster, &db);
    }
    db.run("drop extension rbytea cascade");
    wait_until(PATIENCE, || cluster.logged(said) == 3);
}

#[test]
fn names_are_read_as_sql_reads_names() {
    let names = ["My Db", "UPPER", "naïve", "with\"\"quote", "comma, too"];
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let conf = format!("rbytea.databases_for_vacuuming = ' {} , LOWER,postgres,postgres'", list.join(" ,"));
    let cluster = cluster_with(&[&conf]);
    cluster.session().run("create database lower");
    for name in ["My Db", "UPPER", "naïve", "with\"\"quote", "comma, too"] {
        cluster.session().run(&format!("create database \"{name}\""));
        let db = cluster.session_in(&name.replace("\"\"", "\""));
        db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
        db.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
        db.fill("t", 1..=2);
        assert_served(&cluster, &db);
        db.assert_stored("t", 2);
    }
    cluster.await_log(&skipped("lower"));
    assert!(cluster.log().contains("rbytea vacuum of database \"naïve\""), "in the log as it was written");
}

#[test]
fn a_database_whose_setting_would_break_a_run_is_vacuumed_all_the_same() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run(
        "alter database postgres set default_transaction_isolation = 'serializable';
         alter database postgres set default_transaction_read_only = on;
         alter database postgres set statement_timeout = '1ms';
         alter database postgres set search_path = nowhere;
         alter database postgres set row_security = off;
         alter role postgres set lock_timeout = '1ms'",
    );
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    // A session of its own would fail on those settings.
    cluster.signal(Signal::HUP);
    assert_served(&cluster, &db);
    assert_eq!(cluster.logged("ERROR"), 0);
}

#[test]
fn an_extension_in_a_schema_of_its_own_is_found() {
    let cluster = bare_cluster_with(&[]);
    let db = cluster.session();
    db.run("create schema \"My Schema\"; create extension rbytea schema \"My Schema\"");
    db.run("set search_path = \"My Schema\", public; create table t (n int primary key, b bytea, r rbytea)");
    db.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
    db.fill("t", 1..=2);
    assert_served(&cluster, &db);
    db.run("alter schema \"My Schema\" rename to other; set search_path = other, public");
    assert_served(&cluster, &db);
}

#[test]
fn a_database_in_another_encoding_is_vacuumed() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'latin'"]);
    cluster.session().run("create database latin template template0 encoding 'LATIN1' locale 'C'");
    let db = cluster.session_in("latin");
    db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    db.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
    db.run("create table \"Größe\" (n int, r rbytea)");
    assert_served(&cluster, &db);
}

#[test]
fn a_connection_limit_is_for_users() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'postgres'"]);
    let db = cluster.session();
    db.run("alter database postgres connection limit 0");
    assert_served(&cluster, &db);
}

#[test]
fn a_role_setting_does_not_change_the_role_of_the_worker() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let db = cluster.session();
    db.run("create role alice; create role boss superuser login");
    for (database, given, back) in [
        ("first", "alter database first set role = 'alice'", "alter database first reset role"),
        ("second", "alter role postgres set role = 'alice'", "alter role postgres reset role"),
        ("third", "alter role postgres nologin", "alter role postgres login"),
    ] {
        let inside = create_database(&cluster, database);
        inside.fill("t", 1..=2);
        db.run(given);
        cluster.set_conf(&format!("rbytea.databases_for_vacuuming = '{database}'"));
        cluster.signal(Signal::HUP);
        assert_served(&cluster, &inside);
        db.run(back);
    }
    assert_eq!(cluster.logged("permission denied"), 0);
}

#[test]
fn a_history_that_another_session_has_locked_keeps_no_other_database_waiting() {
    // Where locks are logged, they have a transaction id, which holds back what is younger in every database.
    let quiet =
        ["rbytea.databases_for_vacuuming = 'other, postgres'", "wal_level = minimal", "max_wal_senders = 0"];
    let cluster = cluster_with(&quiet);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    other.fill("t", 1..=2);
    let locker = cluster.session_in("other");
    for locks in [
        "lock table rbytea.rbytea_vacuum_history in access exclusive mode",
        "lock table rbytea.rbytea_vacuum_history in share mode; lock table t in access exclusive mode",
        "lock table t in access exclusive mode; lock table rbytea.rbytea_vacuum_history in access exclusive mode",
    ] {
        locker.run(&format!("begin; {locks}"));
        assert_served(&cluster, &db);
        locker.run("rollback");
    }
    assert_served(&cluster, &other);
}

#[test]
fn a_standby_that_does_not_answer_stops_no_vacuum() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'other, postgres'"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    for db in [&db, &other] {
        db.run("set synchronous_commit = local");
        db.fill("t", 1..=2);
    }
    cluster.set_conf("synchronous_standby_names = 'nobody'");
    cluster.reload();
    assert_served(&cluster, &other);
    assert_served(&cluster, &db);
    drop(other);
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    assert_eq!(
        db.one::<i64>(waits, &[]),
        0,
        "a worker waits for a standby, and a DROP DATABASE for the worker"
    );
}
