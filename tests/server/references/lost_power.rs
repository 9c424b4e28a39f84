//! The power fails after a restore: what was committed is there, whoever had taken the payload before, and for whatever.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::evidence::{Found, Promise, proves};
use crate::references::dumped::{NOT_LOGGED, accept, bytes_below, database, reference};
use crate::support::broken_store::BrokenStore;
use crate::support::session::Session;

/// A store on a file system of its own, with one payload in the database `source`: its reference, and a directory to take it from, by a
/// link or as a copy.
fn with_source(linked: bool) -> (BrokenStore, String, PathBuf) {
    let store = BrokenStore::on_ext4(&[NOT_LOGGED]);
    let source = database(&store.cluster, "source");
    source.run("create table s (r rbytea); insert into s values (repeat('not to be lost', 20000)::bytea)");
    let text = reference(&source, "r from s");
    let from = store.root.join(source.database().to_string());
    if !linked {
        for (path, _) in bytes_below(&from) {
            fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
        }
    }
    store.superuser.run("create table restored (n int, r rbytea); checkpoint");
    (store, text, from)
}

/// Has the power fail, and judges the rows.
fn judge(mut store: BrokenStore, rows: i64) -> Found {
    store.cluster.kill9();
    store.volume().lose_power();
    store.own();
    store.cluster.start();
    let db = store.cluster.session();
    assert_eq!(db.one::<i64>("select count(*) from restored", &[]), rows);
    let lost = db.text("select problem, path from rbytea_check('restored', digest => true)");
    Found { cases: rows as u64, lost: lost.lines().count() as u64, ..Found::default() }
}

fn restoring(store: &BrokenStore, from: &std::path::Path) -> Session {
    let db = store.cluster.session();
    accept(&db, "on", Some(from));
    db
}

#[test]
fn a_committed_restore_survives_a_power_failure() {
    for linked in [true, false] {
        let (store, text, from) = with_source(linked);
        let db = restoring(&store, &from);
        db.run(&format!("insert into restored values (1, '{text}'), (2, '{text}')"));
        db.run(&format!("begin; savepoint s; insert into restored values (0, '{text}'); rollback to s; insert into restored values (3, '{text}'); commit"));
        drop(db);
        proves(Promise::Durable, judge(store, 3));
    }
}

/// The literal is a constant of the plan, which outlives the transaction that has read it.
#[test]
fn a_statement_that_was_prepared_in_a_transaction_that_is_rolled_back_stores_a_durable_payload() {
    for linked in [true, false] {
        let (store, text, from) = with_source(linked);
        let db = restoring(&store, &from);
        db.run("begin");
        db.run(&format!("prepare restore as insert into restored values (1, '{text}')"));
        db.run("rollback");
        db.run("execute restore");
        drop(db);
        proves(Promise::Durable, judge(store, 1));
    }
}

/// The second restore may get the transaction id of the first one, which no log has.
#[test]
fn a_restore_that_is_made_again_after_a_crash_survives_a_power_failure() {
    for linked in [true, false] {
        let (mut store, text, from) = with_source(linked);
        let insert = format!("insert into restored values (1, '{text}')");
        let db = restoring(&store, &from);
        db.run(&format!("begin; {insert}"));
        let undone: String = db.one("select pg_current_xact_id()::text", &[]);
        store.cluster.kill9();
        drop(db);
        store.cluster.start();
        let db = restoring(&store, &from);
        db.run("begin");
        let again: String = db.one("select pg_current_xact_id()::text", &[]);
        db.run(&format!("{insert}; commit"));
        drop(db);
        assert!(again.parse::<u64>().unwrap() >= undone.parse().unwrap());
        proves(Promise::Durable, judge(store, 1));
    }
}
