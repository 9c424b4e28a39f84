//! A system call of the background vacuum fails, in its worker: the visit says so in the history, has moved nothing that is
//! needed, and a later visit does its work.

use crate::evidence::{Found, Promise, proves};
use crate::support::background::{Background, Point, Watching, cluster_with};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::injector::{Injection, Rule};
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::session::Session;

/// Where the worker is stopped, and the call of its that fails from then on.
const FAULTS: &[(Point, &str, &str, &str)] = &[
    (Point::BeforeMark, "getdents64", "2", "EIO"),
    (Point::BeforeMark, "openat2", "1+", "ESTALE"),
    (Point::BeforeMoves, "utimensat", "1", "EACCES"),
    (Point::BeforeMoves, "renameat2", "2", "EIO"),
    (Point::BeforeMoves, "fsync", "1", "ENOSPC"),
];

const FAILED: &str =
    "select count(*) from rbytea.rbytea_vacuum_history where origin = 'background' and error is not null";

/// One visit fails; the next ones do not.
fn assert_fails(cluster: &Cluster, db: &Session, first: i32, fault: &(Point, &str, &str, &str)) {
    let (point, call, when, action) = *fault;
    let before: i64 = db.one(FAILED, &[]);
    db.run(&format!(
        "insert into twins select n, payload(n), payload(n) from generate_series({first}, {first} + 4) n"
    ));
    let holder = cluster.session();
    holder.stop_at(point);
    db.run_and_tell(&format!("delete from twins where n > {first}"));
    let worker = holder.await_stopped(point);
    let output = cluster.dir().join("trace");
    let injection = Injection::into(worker, Rule { call, when, action, paths: &[] }, &output);
    holder.go_on(point);
    wait_until(PATIENCE, || db.one::<i64>(FAILED, &[]) > before);
    let hits = injection.end();
    assert!(!hits.is_empty(), "{fault:?}: the visit failed without a fault");
    let error: String = db.one("select last_error from rbytea.rbytea_stat", &[]);
    assert!(error.contains("could not"), "{fault:?}: {error}");
}

#[test]
fn a_visit_whose_call_fails_says_so_and_the_next_one_goes_on() {
    let cluster = cluster_with(&["wal_sync_method = open_datasync"]);
    let db = cluster.session();
    acknowledged::prepare_table(&db);
    let mut found = Found::default();
    let mut kept = std::collections::BTreeSet::new();
    for (fault, first) in FAULTS.iter().zip((1..).step_by(10)) {
        assert_fails(&cluster, &db, first, fault);
        kept.insert(first);
        found.cases += 1;
        // By the background worker's visits alone: no session calls rvacuum().
        wait_until(PATIENCE, || cluster.live().len() == kept.len() && cluster.trash().is_empty());
        found.lost += acknowledged::lost(&db, &kept);
    }
    cluster.await_visit("postgres");
    found.add(acknowledged::judge(&db, &cluster.store(), &kept));
    proves(Promise::ErrorsLoseNothing, found);
}
