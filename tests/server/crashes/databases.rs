//! SIGKILL while a database gets the payload files of its template.

use std::fs;
use std::path::PathBuf;

use super::ways::{WAYS, cluster, crash};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, Twins};

/// Payloads in the template; it takes a while to link them.
const MANY: i32 = 4000;

/// Directories in the root of the store: of databases, and of dropped ones.
fn directories(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.store()).unwrap().map(|entry| entry.unwrap().path());
    let mut directories: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

fn source(cluster: &Cluster) -> Session {
    let source = cluster.session_in("source");
    source.assert_stored("t", MANY.into());
    source
}

#[test]
fn a_database_whose_files_are_half_linked_when_the_server_dies_never_was() {
    let mut cluster = cluster(&[]);
    let db = cluster.session();
    db.run("create database source");
    let template = cluster.session_in("source");
    template.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    template.run(PAYLOAD_FUNCTION);
    template.run(&format!(
        "insert into t select n, p, p from (select n, payload(n, 100) p from generate_series(1, {MANY}) n) s"
    ));
    drop(template);
    db.fill("t", 1..=3);
    let (mut kills, mut half) = (0, 0);
    for way in WAYS {
        for _ in 0..3 {
            let db = cluster.connected();
            let before = directories(&cluster);
            let pid = db.pid();
            let running = db.start("create database copy template source");
            while directories(&cluster).len() == before.len() && !running.is_finished() {}
            let db = crash(&mut cluster, way, pid);
            kills += 1;
            let acknowledged = running.finish().is_ok();
            let exists: bool = db.one("select exists (select from pg_database where datname = 'copy')", &[]);
            assert!(exists || !acknowledged, "a database that was made is gone");
            let new = directories(&cluster).into_iter().find(|path| !before.contains(path));
            let files = new.map_or(0, |new| {
                let oid: u32 = new.file_name().unwrap().to_str().unwrap().parse().unwrap();
                cluster.store_files()[&oid].live.len()
            });
            if exists {
                cluster.session_in("copy").assert_stored("t", MANY.into());
                db.run("drop database copy");
            }
            half += u64::from((1..MANY as usize).contains(&files));
            // A dropped database has a date in whole seconds.
            wait_until(PATIENCE, || {
                db.run("select rvacuum_purge()");
                directories(&cluster) == before
            });
            let source = source(&cluster);
            assert_eq!(cluster.files_of(&source).live.len(), MANY as usize);
        }
    }
    assert!(half > 0, "none of {kills} was killed while it linked");
    let db = cluster.connected();
    db.run("create database copy template source");
    let copy = cluster.session_in("copy");
    copy.assert_stored("t", MANY.into());
    db.assert_stored("t", 3);
    for promise in [Promise::Durable, Promise::Databases, Promise::Collected] {
        proves_by_assertions(promise, kills);
    }
}
