//! What a database is being given out of its template, and what a transaction stores, can be watched.

use std::fs;

use rustix::process::Signal;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::injector::{Injection, Rule};
use crate::support::processes::{Process, signal};
use crate::support::twin_tables::{Twins, cluster_with_table};

const CLONING: &str = "select pid, datname, phase, files from rbytea.rbytea_stat_progress_vacuum";

/// Runs a statement that links files, stopped behind the third one; what the view shows meanwhile.
fn watch(cluster: &Cluster, database: &str, sql: &str) -> (i32, String) {
    let (db, watcher) = (cluster.session_in(database), cluster.session());
    let pid = db.pid();
    let output = cluster.dir().join("trace");
    let rule = Rule { call: "linkat", when: "3", action: "signal=SIGSTOP", paths: &[] };
    let injection = Injection::into(pid, rule, &output);
    let running = db.start(sql);
    wait_until(PATIENCE, || {
        fs::read_to_string(&output).is_ok_and(|trace| trace.contains("stopped by SIGSTOP"))
    });
    let shown = watcher.text(CLONING);
    signal(cluster, &Process::of(pid), Signal::CONT);
    running.finish().unwrap();
    injection.end();
    assert_eq!(watcher.text(CLONING), "", "shown after the end of {sql}");
    (pid, shown)
}

#[test]
fn the_files_that_a_database_is_given_are_counted_while_it_is_made() {
    let cluster = cluster_with_table();
    cluster.session().run("create database source");
    let source = cluster.session_in("source");
    source.run("create extension rbytea; create table t (n int primary key, r rbytea); insert into t select n, n::text::bytea from generate_series(1, 9) n");
    drop(source);
    let (pid, shown) = watch(&cluster, "postgres", "create database copy template source");
    assert_eq!(shown, format!("{pid}|postgres|cloning files|2"));
    let copy = cluster.session_in("copy");
    for file in cluster.files_of(&copy).live {
        fs::remove_file(file).unwrap();
    }
    let (pid, shown) = watch(&cluster, "copy", "select rbytea_clone_from('source')");
    assert_eq!(shown, format!("{pid}|copy|cloning files|2"));
    assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
}

#[test]
fn what_a_transaction_has_stored_is_shown_until_it_ends() {
    const STORED: &str = "select pid, datname, payloads, bytes from rbytea.rbytea_stat_progress_store";
    let cluster = cluster_with_table();
    let (db, watcher) = (cluster.session(), cluster.session());
    let pid = db.pid();
    for end in ["commit", "rollback", "prepare transaction 'p'"] {
        assert_eq!(watcher.text(STORED), "");
        db.run("begin");
        db.fill("t", 1..=3);
        assert_eq!(watcher.text(STORED), format!("{pid}|postgres|3|3000"), "{end}");
        db.run("savepoint s; insert into t values (4, null, repeat('x', 500)::bytea); rollback to s");
        db.fill("t", 4..=4);
        assert_eq!(
            watcher.text(STORED),
            format!("{pid}|postgres|5|4500"),
            "{end}: what is garbage by now was stored"
        );
        db.run(end);
        assert_eq!(watcher.text(STORED), "", "{end}");
        db.run("delete from t");
    }
    db.run("rollback prepared 'p'");
    cluster.session().run("create role mallory login");
    assert_eq!(cluster.session_as("mallory").sqlstate(STORED).code(), "42501");
}
