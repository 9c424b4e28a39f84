//! What uploads take is bounded, and given back with the transaction: descriptors, and memory.

use std::fs;

use tokio_postgres::error::SqlState;

use super::client::{IN_MEMORY, MIB, Uploads, live, open_files};
use crate::support::cluster::Cluster;
use crate::support::procfs::peak_memory;
use crate::support::session::{Session, block_on};
use crate::support::twin_tables::{Twins, cluster_with_table};
use crate::support::twins::noise;

#[test]
fn no_session_uploads_more_at_once_than_the_setting_says() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("set rbytea.max_uploads = 3; begin");
    let uploads = [db.begin(), db.begin(), db.begin()];
    for upload in uploads {
        db.append(upload, &noise(MIB, 1));
    }
    db.run("savepoint s");
    let error = db.error("select rbytea_begin()");
    assert_eq!(error.code(), &SqlState::CONFIGURATION_LIMIT_EXCEEDED);
    assert!(error.hint().is_some() && error.detail().is_some_and(|detail| detail.contains("3")), "{error:?}");
    db.run("rollback to s");
    db.insert(1, uploads[0]);
    let fourth = db.begin();
    db.append(fourth, b"there is room again");
    db.insert(2, fourth);
    db.run("commit; begin");
    let again = [db.begin(), db.begin(), db.begin()];
    db.insert(3, again[2]);
    db.run("commit");
    db.assert_healthy(3);
    db.assert_row(2, b"there is room again");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

#[test]
fn the_bound_is_not_an_ordinary_users_to_set() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create role alice login; grant insert on t to alice");
    let alice = cluster.session_as("alice");
    assert_eq!(alice.sqlstate("set rbytea.max_uploads = 1000"), SqlState::INSUFFICIENT_PRIVILEGE);
    for out_of_range in ["0", "-1", "4097"] {
        let sql = format!("set rbytea.max_uploads = {out_of_range}");
        assert_eq!(db.sqlstate(&sql), SqlState::INVALID_PARAMETER_VALUE, "{sql}");
    }
    db.run("alter role alice set rbytea.max_uploads = 1");
    let alice = cluster.session_as("alice");
    alice.run("begin");
    alice.begin();
    assert_eq!(alice.sqlstate("select rbytea_begin()"), SqlState::CONFIGURATION_LIMIT_EXCEEDED);
}

/// What PostgreSQL leaves to others is less than the setting allows.
#[test]
fn a_session_without_descriptors_says_so_and_goes_on() {
    let cluster = Cluster::with_extension_and(&["max_files_per_process = 120", "rbytea.max_uploads = 500"]);
    let db = cluster.session();
    db.run("create table t (n int primary key, r rbytea)");
    db.run("begin");
    let chunk = noise(IN_MEMORY + 1, 2);
    let uploads: Vec<i64> = (0..200).map(|_| db.begin()).collect();
    let append = "select rbytea_append($1, $2)";
    let mut refused = None;
    for upload in &uploads {
        let appended = block_on(db.client().query(append, &[upload, &chunk]));
        if let Err(error) = appended {
            refused = error.as_db_error().cloned();
            break;
        }
    }
    let error = refused.expect("200 descriptors of 120");
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_RESOURCES, "{error:?}");
    assert!(error.hint().is_some());
    db.run("rollback");
    assert_eq!(live(&cluster).1, 0);
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    for n in 1..=3 {
        db.upload(n, &chunk, MIB);
        db.assert_row(n, &chunk);
    }
}

/// All descriptors of a process, whatever they are of.
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// An end of a transaction with five uploads, three of them with a file, in which one of each kind has been finished.
fn with_uploads(db: &Session, end: &str) {
    db.run("begin");
    let uploads: Vec<i64> = (0..5).map(|_| db.begin()).collect();
    for (at, upload) in uploads.iter().enumerate() {
        db.append(*upload, &noise(if at < 3 { MIB } else { 10 }, 3));
    }
    db.insert(1, uploads[0]);
    db.insert(2, uploads[4]);
    let _ = db.try_run(end);
    let _ = db.try_run("rollback");
    let _ = db.try_run("rollback prepared 'p'");
    db.run("delete from t");
}

#[test]
fn however_a_transaction_ends_its_descriptors_are_closed() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let pid = db.pid();
    let ends = [
        "commit",
        "rollback",
        "select 1 / 0",
        "savepoint s; rollback to s; commit",
        "insert into t (n) values (1)",
        "prepare transaction 'p'",
        "rollback and chain; select 1 / 0",
    ];
    // What PostgreSQL itself opens it opens in the first round.
    let mut before = Vec::new();
    for round in 0..3 {
        for (at, end) in ends.iter().enumerate() {
            with_uploads(&db, end);
            assert!(open_files(&cluster.store(), pid).is_empty(), "{end}");
            if round == 1 {
                before.push(descriptors(pid));
            } else if round == 2 {
                assert_eq!(descriptors(pid), before[at], "{end}");
            }
        }
    }
    db.run("select rvacuum()");
    assert_eq!(live(&cluster).0, 0);
}

/// A table `pieces (k, n, p)` of `groups` groups with pieces of these bytes.
fn with_groups(cluster: &Cluster, groups: i32, pieces: i32, size: i32) -> Session {
    let db = cluster.session();
    db.run(&format!(
        "create table pieces as
             select k, n, payload(k * 1000 + n, {size}) as p from generate_series(1, {groups}) k, generate_series(1, {pieces}) n;
         create table expected as
             select k, encode(sha256(string_agg(p, '' order by n)), 'hex') as digest from pieces group by k;
         analyze"
    ));
    db
}

/// Each of them would take a descriptor until the last row has come.
#[test]
fn many_large_groups_at_once_are_refused_and_one_after_the_other_they_are_not() {
    let cluster = cluster_with_table();
    let db = with_groups(&cluster, 80, 3, 100_000);
    let hashed = "select k, rbytea_agg(p) from pieces group by k";
    db.run("set work_mem = '1GB'; set enable_sort = off");
    assert!(
        db.text(&format!("explain {hashed}")).starts_with("HashAggregate"),
        "{}",
        db.text(&format!("explain {hashed}"))
    );
    let error = db.error(&format!("insert into t (n, r) {hashed}"));
    assert_eq!(error.code(), &SqlState::CONFIGURATION_LIMIT_EXCEEDED, "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("ORDER BY"), "what to do? {error:?}");
    assert_eq!(live(&cluster).1, 0, "their space is back");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    db.run("insert into t (n, r) select k, rbytea_agg(p order by n) from pieces group by k");
    assert_eq!(db.text("select count(*) from t join expected on n = k where sha256sum(r) = digest"), "80");
    // Or with more descriptors.
    db.run("set rbytea.max_uploads = 100; delete from t");
    db.run(&format!("insert into t (n, r) {hashed}"));
    assert_eq!(db.text("select count(*) from t join expected on n = k where len(r) = 300000"), "80");
    assert_eq!(db.rvacuum(), 64 + 80);
}

#[test]
fn many_small_groups_take_the_memory_that_they_may() {
    let cluster = cluster_with_table();
    let db = with_groups(&cluster, 2000, 4, 5000);
    db.run("set work_mem = '4MB'; set enable_sort = off");
    let hashed = "select k, rbytea_agg(p) as r from pieces group by k";
    let plan = db.text(&format!("explain (analyze, costs off, timing off) {hashed}"));
    assert!(plan.starts_with("HashAggregate"), "{plan}");
    // 40 MB in all.
    let fresh = cluster.session();
    fresh.run("set work_mem = '4MB'; set enable_sort = off");
    // The memory that is shared counts for whoever has touched it.
    fresh.run("select count(sha256(p)) from pieces");
    let before = peak_memory(fresh.pid());
    assert_eq!(fresh.text(&format!("select count(*) from ({hashed}) s where len(r) = 20000")), "2000");
    let grown = peak_memory(fresh.pid()) - before;
    assert!(grown < 32 * MIB as u64, "{} MiB for 40 MB in 4 MB", grown >> 20);
    assert_eq!(live(&cluster).0, 0, "none of them was written to a file");
    assert!(open_files(&cluster.store(), fresh.pid()).is_empty());
}
