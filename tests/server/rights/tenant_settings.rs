//! The owner of a database, who is no superuser, may give it settings that apply to every session in it, the background vacuum's worker
//! included. They must not keep the vacuum from working, there or elsewhere.

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::background::{Background, Watching, bare_cluster_with, create_database};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::Twins;

const BOTH: &[&str] = &["rbytea.databases_for_vacuuming = 'theirs, ours'"];

/// Settings that any user may set, with the values that would do the most harm.
const SETTINGS: &[&str] = &[
    "search_path = mallory",
    "default_transaction_read_only = on",
    "default_transaction_isolation = serializable",
    "default_transaction_deferrable = on",
    "statement_timeout = 1",
    "lock_timeout = 1",
    "idle_in_transaction_session_timeout = 1",
    "idle_session_timeout = 1",
    "datestyle = 'german, dmy'",
    "intervalstyle = sql_standard",
    "timezone = 'Asia/Kathmandu'",
    "client_encoding = 'LATIN1'",
    "standard_conforming_strings = off",
    "transform_null_equals = on",
    "quote_all_identifiers = on",
    "array_nulls = off",
    "bytea_output = escape",
    "work_mem = 64",
    "maintenance_work_mem = 1024",
    "row_security = off",
    "synchronous_commit = remote_apply",
    "rbytea.verify = off",
    "rbytea.external_threshold = '1GB'",
    "vacuum_cost_page_miss = 10000",
];

#[test]
fn a_database_is_vacuumed_whatever_its_owner_has_set() {
    let cluster = bare_cluster_with(BOTH);
    let theirs = create_database(&cluster, "theirs");
    create_database(&cluster, "ours");
    theirs.run("create role mallory login; alter database theirs owner to mallory; create schema mallory authorization mallory");
    let mallory = crate::support::session::Session::connect(&cluster.config("mallory", "theirs"));
    for setting in SETTINGS {
        mallory.run(&format!("alter database theirs set {setting}"));
    }
    // A role's own settings do not apply to the worker.
    theirs.fill("t", 1..=50);
    theirs.run_and_tell("delete from t where n > 10");
    let oid: u32 = theirs.one("select oid from pg_database where datname = 'theirs'", &[]);
    wait_until(PATIENCE, || {
        StoreFiles::walk(&cluster.store())
            .get(&oid)
            .is_some_and(|files| files.live.len() == 10 && files.trash.is_empty())
    });
    theirs.assert_stored("t", 10);
    assert_eq!(
        theirs.text(
            "select string_agg(distinct error, ',') from rbytea.rbytea_vacuum_history where error is not null"
        ),
        ""
    );
    proves_by_assertions(Promise::Collected, SETTINGS.len() as u64);
}

/// One worker at a time visits one database after the other.
#[test]
fn a_database_whose_owner_slows_it_down_does_not_hold_up_others() {
    let cluster = bare_cluster_with(BOTH);
    let theirs = create_database(&cluster, "theirs");
    let ours = create_database(&cluster, "ours");
    theirs.run("create role mallory login; alter database theirs owner to mallory");
    let mallory = crate::support::session::Session::connect(&cluster.config("mallory", "theirs"));
    theirs
        .run("insert into t select n, b, b from generate_series(1, 4000) n, convert_to('x' || n, 'utf8') b");
    ours.fill("t", 1..=10);
    cluster.await_visit("ours");
    for setting in [
        "vacuum_cost_delay = '100ms'",
        "vacuum_cost_limit = 1",
        "vacuum_cost_page_hit = 10000",
        "vacuum_cost_page_miss = 10000",
    ] {
        mallory.run(&format!("alter database theirs set {setting}"));
    }
    theirs.run_and_tell("delete from t where n <= 5");
    // The next worker has these settings, and 4000 files to look at.
    let visits = cluster.visits("theirs");
    wait_until(PATIENCE, || cluster.visits("theirs") > visits);
    ours.run_and_tell("delete from t where n <= 5");
    let oid: u32 = ours.one("select oid from pg_database where datname = 'ours'", &[]);
    let collected =
        || StoreFiles::walk(&cluster.store()).get(&oid).is_some_and(|files| files.live.len() == 5);
    wait_until(PATIENCE / 3, collected);
    proves_by_assertions(Promise::Collected, 1);
}
