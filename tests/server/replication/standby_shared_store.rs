//! A streaming standby on its primary's store, at the same absolute path: it reads everything, and nothing that is done on it
//! writes to the store.

use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::background::{Background, Watching};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::encryption::{ENCRYPTING, set_keys};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::shared_store::{counts, primary, replayed, tree};
use crate::support::standby::standby_of;

/// A standby whose own settings ask for a background vacuum.
const VACUUMING: &[&str] = &[
    "rbytea.databases_for_vacuuming = 'postgres'",
    "rbytea.vacuum_naptime = '1s'",
    "rbytea.trash_retention = 0",
];

#[test]
fn everything_is_read_and_nothing_is_written() {
    let (cluster, root) = primary(ENCRYPTING);
    set_keys(&cluster, &[1]);
    let db = cluster.session();
    db.run("create role alice login; grant select on t to alice");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=14);
    db.run("set rbytea.qss_mode = off");
    ledger.insert(&db, "t", 15..=28);
    ledger.update(&db, "t", 3..=16);
    ledger.delete(&db, "t", 1..=2);
    db.run("create table many (a rbytea[]); insert into many select array_agg(r) from t; create materialized view seen as select * from t");
    // Something for a vacuum to take, if there were one: in LIVE and in TRASH.
    assert!(db.one::<i64>("select rvacuum()", &[]) > 0);
    ledger.delete(&db, "t", 28..=28);
    ledger.update(&db, "t", 20..=21);

    let standby = standby_of(&cluster, VACUUMING);
    let reader = standby.session();
    replayed(&db, &reader);
    let before = tree(&root);
    let user = standby.session_as("alice");
    let mut found = ledger.compare(&reader, "t");
    found = found.and(ledger.compare(&user, "t")).and(ledger.compare(&cluster.session(), "t"));

    // Sorts and hashes that spill, payloads that are kept beyond their statement, several processes.
    reader.run("set work_mem = '64kB'; set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0");
    assert_eq!(
        reader.text("select count(distinct r::bytea), count(*), sum(len(r)) = sum(length(r::bytea)) from t, generate_series(1, 20)"),
        format!("{}|{}|t", ledger.distinct(), 20 * ledger.len())
    );
    reader.run("set enable_hashjoin = on; set enable_mergejoin = off; set enable_nestloop = off");
    for sql in [
        "select a.r from (select r, repeat('x', 10000) from t, generate_series(1, 20)) a join t using (r) order by md5sum(a.r)",
        "select r, count(*) from t, generate_series(1, 50) group by r",
        "select distinct r from t",
        "select md5sum(r), sha256sum(r), md5store(r), sha256store(r), uuid(r), len(r), len_full(r), qss_mode(r), md5(r) from t",
        "select substring(r from 2 for 5), substr(r, 60000), length(r), octet_length(r), r || 'x', r = r::bytea::rbytea from t",
        "select a, unnest(a), a[1] from many",
        "table seen",
        "copy t to stdout",
        "begin; declare c cursor with hold for select r, r::bytea from t; fetch 5 from c; commit; fetch all from c; close c",
        "begin isolation level repeatable read; select md5sum(r) from t; select md5sum(r) from t; commit",
        "do $$ declare v rbytea; begin for v in select r from t loop perform md5sum(v); end loop; end $$",
        "select * from rbytea_check(); select * from rbytea_check('t', true)",
        "select * from rbytea.rbytea_stat; select * from rbytea.rbytea_stat_progress_vacuum; select * from rbytea.rbytea_vacuum_history",
    ] {
        for part in sql.split("; ").filter(|_| !sql.starts_with("do")) {
            if part.starts_with("copy") {
                reader.copy_out(part);
            } else {
                reader.run(part);
            }
        }
        if sql.starts_with("do") {
            reader.run(sql);
        }
    }
    reader.run("select pg_stat_force_next_flush()");
    assert_eq!(
        reader.text("select temp_files > 0 from pg_stat_database where datname = 'postgres'"),
        "t",
        "nothing has spilled"
    );
    let both = "select string_agg(md5sum(r) || sha256sum(r) || uuid(r) || len_full(r) || qss_mode(r), ',' order by n) from t";
    assert_eq!(reader.text(both), db.text(both));
    let changed = tree(&root);
    assert_eq!(changed, before, "queries on the standby have changed the store");
    proves(Promise::Replication, found);
}

#[test]
fn what_would_write_is_refused_and_the_vacuum_stays_away() {
    let (cluster, root) = primary(&[]);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=6);
    ledger.delete(&db, "t", 5..=6);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 2);
    ledger.delete(&db, "t", 4..=4);
    let standby = standby_of(&cluster, VACUUMING);
    let reader = standby.session();
    replayed(&db, &reader);
    let before = tree(&root);
    let calls = [
        "select rvacuum()",
        "select rvacuum_purge()",
        "select * from rvacuum_plan()",
        "select rbytea_adopt_store()",
        "select rbytea_attach()",
        "select rbytea_clone_from('template1')",
        "call rbytea_reencrypt('t')",
        "insert into t values (9, 'x')",
        "update t set r = 'x'",
        "delete from t",
        "create table u as select * from t",
        "create temp table u as select * from t",
        "alter table t alter r type bytea",
        "begin; prepare transaction 'p'",
    ];
    let mut allowed = Vec::new();
    for sql in calls {
        let state = reader.try_run(sql).map_err(|error| error.code().unwrap().code().to_owned());
        if state != Err("25006".to_owned()) {
            allowed.push((sql, state));
        }
        reader.run("rollback");
    }
    assert!(allowed.is_empty(), "read_only_sql_transaction is not what they raise: {allowed:?}");
    // The caller may not write; PostgreSQL's own error says that a transaction id is needed.
    let state = reader.sqlstate("select rbytea_store('x')");
    assert!(["25006", "55000"].contains(&state.code()), "rbytea_store: {state:?}");
    assert_eq!(reader.launcher(), None, "a standby has nothing to move");
    assert_eq!(standby.visits("postgres"), 0);
    assert_eq!(tree(&root), before, "a refused call has changed the store");
    assert_eq!(counts(&root), (4, 2));
    ledger.assert_equal(&reader, "t");
    proves_by_assertions(Promise::Replication, calls.len() as u64 + 1);
}

/// A standby that sees rows that its primary has deleted reads them from TRASH, however often the primary cleans up.
#[test]
fn rows_that_the_primary_has_deleted_are_there_until_the_deletion_is_replayed() {
    let mut sum = Found::default();
    for delayed in [false, true] {
        let (cluster, root) = primary(&["rbytea.trash_retention = 0"]);
        let db = cluster.session();
        let mut ledger = Ledger::default();
        ledger.insert(&db, "t", 1..=14);
        let standby = standby_of(&cluster, &["wal_receiver_status_interval = 1s"]);
        let reader = standby.session();
        replayed(&db, &reader);
        if delayed {
            reader.run("alter system set recovery_min_apply_delay = '1h'");
            reader.run("select pg_reload_conf()");
            wait_until(PATIENCE, || reader.text("show recovery_min_apply_delay") == "1h");
        } else {
            reader.run("select pg_wal_replay_pause()");
            wait_until(PATIENCE, || reader.text("select pg_get_wal_replay_pause_state()") == "paused");
        }
        let seen = ledger.clone();
        ledger.delete(&db, "t", 1..=5);
        ledger.update(&db, "t", 6..=9);
        db.run("vacuum t");
        // The payload of row 7 is empty before and afterwards, and keeps its file.
        assert_eq!(db.one::<i64>("select rvacuum()", &[]), 8);
        // The standby receives it all, and its slot is past it. It has not replayed it.
        let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
        let received = "select restart_lsn >= $1::text::pg_lsn from pg_replication_slots";
        wait_until(PATIENCE, || db.one(received, &[&now]));
        for _ in 0..3 {
            db.run("select pg_current_xact_id()");
            db.run("vacuum t");
            db.one::<i64>("select rvacuum()", &[]);
            assert_eq!(
                db.one::<i64>("select rvacuum_purge()", &[]),
                0,
                "the standby's rows still need it (delayed: {delayed})"
            );
        }
        assert!(
            db.text("select purge_held_by from rbytea.rbytea_stat").contains("standby "),
            "purge_held_by does not name the standby that keeps files in TRASH"
        );
        let before = tree(&root);
        let found = seen.compare(&reader, "t");
        assert_eq!(tree(&root), before, "reading from TRASH has changed the store");
        if delayed {
            reader.run("alter system reset recovery_min_apply_delay");
            reader.run("select pg_reload_conf()");
        } else {
            reader.run("select pg_wal_replay_resume()");
        }
        replayed(&db, &reader);
        ledger.assert_equal(&reader, "t");
        wait_until(PATIENCE, || {
            db.one::<i64>("select rvacuum_purge()", &[]);
            counts(&root) == (9, 0)
        });
        sum = sum.and(found).and(ledger.compare(&reader, "t"));
    }
    proves(Promise::Replication, sum);
}
