//! A store without room: what is due in TRASH is deleted before anything is moved there, so that vacuuming makes room.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio_postgres::error::SqlState;

use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::payload::Payload;
use crate::support::store_files::StoreFiles;
use crate::support::store_files::next_leaf;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with, name, names};

/// Files in LIVE and in TRASH.
fn files(store: &BrokenStore) -> (usize, usize) {
    let all = StoreFiles::walk(&store.root);
    (all.values().map(|files| files.live.len()).sum(), all.values().map(|files| files.trash.len()).sum())
}

#[test]
fn a_full_disk_has_room_again_after_two_runs() {
    let store = BrokenStore::on_small_file_system(1 << 20);
    let db = &store.superuser;
    store.cluster.set_conf("rbytea.trash_retention = 0");
    store.cluster.reload();
    let payload = Payload((0..40_000u32).map(|n| ((n * n) >> 7) as u8).collect());
    let insert = "insert into t values ($1, $2)";
    // Once with the directory of TRASH still to be made, and once with files in it.
    for round in 0..2 {
        let mut stored = 0;
        for id in 10.. {
            let full = crate::support::session::block_on(db.client().execute(insert, &[&id, &payload])).err();
            stored += i32::from(full.is_none());
            if let Some(full) = full {
                assert_eq!(full.code(), Some(&SqlState::DISK_FULL));
                break;
            }
        }
        assert!(
            stored > 10,
            "the disk is full of something else: {stored} payloads had room in round {round}"
        );
        db.run("delete from t where id >= 10");
        let trashed: i64 = db.one("select rvacuum()", &[]);
        assert!(trashed >= i64::from(stored), "{trashed} of {stored}");
        db.run("select rvacuum()");
        let left = files(&store);
        assert_eq!(left, (4, 0), "LIVE has the two rows of each user, TRASH nothing: round {round}");
        db.execute(insert, &[&10, &payload]);
        db.run("delete from t where id = 10");
        db.run("select rvacuum()");
        assert_eq!(files(&store), (4, 1), "for the next round");
    }
    store.assert_repaired();
}

/// The directories of LIVE with these modes.
fn protect(store: &Path, mode: u32) {
    for path in StoreFiles::walk(store).into_values().flat_map(|files| files.live) {
        fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(mode)).unwrap();
    }
}

/// As on a disk that is so full that the directory of TRASH cannot grow: no file can be moved there.
#[test]
fn what_is_due_in_trash_goes_also_if_nothing_can_be_moved_there() {
    let cluster = cluster_with(&["rbytea.trash_retention = 0"]);
    let db = cluster.session();
    db.run("create table t (n int, b bytea, r rbytea)");
    db.fill("t", 1..=9);
    for (call, n, failures) in [("select rvacuum()", 1, 1), ("select rvacuum_purge()", 3, 2)] {
        db.run(&format!("delete from t where n = {n}"));
        assert_eq!(db.rvacuum(), 1);
        db.run(&format!("delete from t where n = {n} + 1"));
        let garbage = db.one::<i64>("select count(*) from rvacuum_plan() where action = 'trash'", &[]);
        assert_eq!(garbage, 1);
        protect(&cluster.store(), 0o500);
        assert_eq!(db.sqlstate(call).code(), "42501", "{call}");
        // Another process writes that down, and has a snapshot while it does.
        let recorded = "select count(*) from rbytea.rbytea_vacuum_history where error is not null";
        let writing =
            "select exists (select from pg_stat_activity where backend_type = 'rbytea vacuum history')";
        wait_until(PATIENCE, || db.one::<i64>(recorded, &[]) == failures && !db.one::<bool>(writing, &[]));
        protect(&cluster.store(), 0o700);
        assert!(cluster.trash().is_empty(), "{call}: only rm can make room on this disk");
        assert_eq!(db.rvacuum(), 1, "{call}: what could not be moved is moved later");
        assert_eq!(cluster.trash().len(), 1);
        assert_live_is(&cluster, &db, &[("r", "t")]);
        db.run("select rvacuum()");
    }
    assert_eq!(names(&cluster.live()).len(), 5);
    db.assert_stored("t", 5);
}

/// The disk stays full until they are gone: no run would ever end well.
#[test]
fn what_a_run_moved_before_it_failed_goes_although_later_runs_fail_too() {
    let cluster = cluster_with(&["rbytea.trash_retention = 0"]);
    let db = cluster.session();
    db.run("create table t (n int, b bytea, r rbytea)");
    for n in 1..=9 {
        // Each in a directory of its own.
        next_leaf(&db);
        db.fill("t", n..=n);
    }
    db.run("delete from t where n > 2");
    // The directories come in order: the last one that has garbage is where the moves end.
    let garbage = db.column::<String>("select uuid::text from rvacuum_plan() order by 1", &[]);
    let last = cluster.live().into_iter().find(|file| name(file) == garbage[6]).unwrap();
    let stuck = last.parent().unwrap();
    fs::set_permissions(stuck, PermissionsExt::from_mode(0o500)).unwrap();
    for failures in 1..=2 {
        assert_eq!(db.sqlstate("select rvacuum()").code(), "42501");
        let recorded = "select count(*) from rbytea.rbytea_vacuum_history where error is not null";
        wait_until(PATIENCE, || db.one::<i64>(recorded, &[]) == failures);
        if failures == 1 {
            assert!(!cluster.trash().is_empty(), "the test is about files that were moved before the error");
        }
    }
    assert!(cluster.trash().is_empty(), "they take their space for ever: {:?}", cluster.trash());
    fs::set_permissions(stuck, PermissionsExt::from_mode(0o700)).unwrap();
    db.run("select rvacuum()");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 2);
}
