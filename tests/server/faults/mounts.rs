//! The file system of the store goes away and comes back while sessions work. What lies beneath a mount point is not the
//! store, even if it is a directory that the server's user owns: a payload that is written there is lost when the file system
//! comes back, and a vacuum that looks there sees no payload at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tokio_postgres::error::SqlState;

use crate::evidence::{Found, Promise, proves};
use crate::support::background::Watching;
use crate::support::broken_store::{BrokenStore, INSERT};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::judge::acknowledged;
use crate::support::store_files::StoreFiles;
use crate::support::volumes::Kind;

fn store() -> (BrokenStore, BTreeSet<i32>) {
    let store = BrokenStore::on(Kind::Ext4, 8 << 20, None);
    let db = &store.superuser;
    acknowledged::prepare(db);
    db.run("insert into twins select n, payload(n), payload(n) from generate_series(1, 20) n");
    db.run("delete from twins where n > 10");
    (store, (1..=10).collect())
}

fn payloads(root: &Path) -> usize {
    StoreFiles::walk(root).into_values().map(|files| files.live.len() + files.trash.len()).sum()
}

/// Everything as it was, in the sessions that saw the fault.
fn assert_back(store: &BrokenStore, kept: &BTreeSet<i32>) -> Found {
    let found = acknowledged::judge(&store.superuser, &store.root, kept);
    store.assert_repaired();
    found
}

#[test]
fn nothing_is_written_into_the_mount_point_of_a_store_that_is_not_mounted() {
    let (store, kept) = store();
    store.volume().unmount();
    let mut acknowledged = Vec::new();
    let fresh = store.cluster.session();
    for (who, session) in [store.sessions()[0], store.sessions()[1], &fresh].into_iter().enumerate() {
        let prepare = format!("begin; insert into t values (3, 'third'); prepare transaction 'p{who}'");
        for sql in [INSERT, "select rbytea_store('x')", &prepare] {
            match session.try_run(sql) {
                Ok(()) => acknowledged.push(sql.to_owned()),
                Err(error) => {
                    assert_eq!(error.code(), Some(&SqlState::CONFIG_FILE_ERROR), "{sql}: {error:?}")
                }
            }
            let _ = session.try_run("rollback");
        }
    }
    let misplaced = payloads(&store.root);
    store.volume().mount();
    assert_eq!(acknowledged, Vec::<String>::new(), "acknowledged, and {misplaced} payloads are gone now");
    assert_eq!(misplaced, 0, "payloads in the mount point's directory, which the mounted file system hides");
    proves(Promise::ErrorsLoseNothing, Found { cases: 9, ..assert_back(&store, &kept) });
}

#[test]
fn reads_of_a_store_that_is_not_mounted_say_so() {
    let (store, kept) = store();
    store.volume().unmount();
    for sql in ["select v from t where id = 1", "select sha256sum(v) from t where id = 1"] {
        for session in store.sessions() {
            let error = session.error(sql);
            assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR, "{sql}: {error:?}");
        }
    }
    store.volume().mount();
    proves(Promise::ErrorsLoseNothing, Found { cases: 4, ..assert_back(&store, &kept) });
}

/// I10: a mount point is not an empty store, whose payloads are all missing.
#[test]
fn the_vacuum_takes_no_mount_point_for_an_empty_store() {
    let (store, kept) = store();
    let db = &store.superuser;
    store.cluster.set_conf("rbytea.trash_retention = 0");
    store.cluster.reload();
    let before = payloads(&store.root);
    let history = "select count(*) from rbytea.rbytea_vacuum_history where error is null";
    let runs: i64 = db.one(history, &[]);
    store.volume().unmount();
    let outcomes: Vec<(&str, Option<SqlState>)> =
        ["select rvacuum()", "select rvacuum_purge()", "select * from rvacuum_plan()"]
            .map(|sql| (sql, db.try_run(sql).err().and_then(|error| error.code().cloned())))
            .into();
    let beneath: Vec<_> =
        fs::read_dir(&store.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    store.volume().mount();
    assert_eq!(payloads(&store.root), before, "the vacuum has moved or deleted what it could not see");
    assert_eq!(beneath, Vec::<std::ffi::OsString>::new(), "something was made in the mount point");
    for (sql, code) in outcomes {
        assert_eq!(code, Some(SqlState::CONFIG_FILE_ERROR), "{sql}");
    }
    assert_eq!(db.one::<i64>(history, &[]), runs, "a run that saw nothing counts as a good one");
    proves(Promise::ErrorsLoseNothing, Found { cases: 3, ..assert_back(&store, &kept) });
}

#[test]
fn the_background_vacuum_takes_no_mount_point_for_an_empty_store() {
    let (store, kept) = store();
    let db = &store.superuser;
    let before = payloads(&store.root);
    store.volume().unmount();
    store.cluster.set_conf("rbytea.vacuum_naptime = '1s'");
    store.cluster.set_conf("rbytea.trash_retention = 0");
    store.cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    store.cluster.reload();
    wait_until(PATIENCE, || db.one("select exists (select from rbytea.rbytea_vacuum_history)", &[]));
    let outcome = db.text("select distinct error is null from rbytea.rbytea_vacuum_history");
    // The background vacuum moves nothing while the test looks at the store.
    store.cluster.set_conf("rbytea.databases_for_vacuuming = ''");
    store.cluster.reload();
    wait_until(PATIENCE, || db.worker().is_none());
    store.volume().mount();
    assert_eq!(outcome, "f", "a visit that saw nothing counts as a good one");
    assert_eq!(payloads(&store.root), before);
    store.cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    store.cluster.reload();
    // When the store is back the next visit does what the failed ones could not do.
    let referenced = kept.len() + 4;
    wait_until(PATIENCE, || payloads(&store.root) == referenced);
    proves(Promise::ErrorsLoseNothing, Found { cases: 1, ..assert_back(&store, &kept) });
}

/// A transaction that has begun to write goes on where it began.
#[test]
fn a_transaction_that_has_the_store_open_when_it_goes_away_loses_nothing() {
    let (store, mut kept) = store();
    let mut cases = 0;
    for (n, end) in [(100, "commit"), (110, "prepare transaction 'p'"), (120, "rollback")] {
        let db = &store.superuser;
        let insert = |n: i32| format!("insert into twins values ({n}, payload({n}), payload({n}))");
        db.run(&format!("begin; {}", insert(n)));
        store.volume().unmount();
        let second = db.try_run(&insert(n + 1)).is_ok();
        let ended = db.try_run(end);
        let acknowledged = second && ended.is_ok() && end != "rollback";
        store.volume().mount();
        let _ = db.try_run("rollback");
        if acknowledged {
            kept.extend([n, n + 1]);
            if end.starts_with("prepare") {
                db.run("commit prepared 'p'");
            }
        }
        cases += 1;
    }
    proves(Promise::ErrorsLoseNothing, Found { cases, ..assert_back(&store, &kept) });
}

/// A file system that cannot write its journal any more shuts down. What is in memory only never reaches the disk then: a commit that took it
/// for durable would lose it with the next mount.
#[test]
fn a_file_system_that_shuts_down_before_the_commit_fails_it() {
    let (store, kept) = store();
    // What is in the WAL survives; see wal::lost_caches.
    crate::support::keepers::without_keepers(&store.cluster);
    let db = &store.cluster.session();
    let mut cases = 0;
    // One by one, and all with one syncfs.
    for rows in [2, 20] {
        for end in ["commit", "prepare transaction 'p'"] {
            cases += 1;
            let first = 1000 * cases;
            db.run(&format!(
                "begin; insert into twins select n, payload(n), payload(n) from generate_series({first}, {}) n",
                first + rows - 1
            ));
            store.volume().shut_down();
            let ended = db.try_run(end);
            let _ = db.try_run("rollback");
            store.volume().unmount();
            store.let_go();
            store.volume().mount();
            let error = ended.expect_err("a commit took what cannot be written for durable");
            assert_eq!(error.code(), Some(&SqlState::IO_ERROR), "{error:?}");
        }
    }
    proves(Promise::ErrorsLoseNothing, Found { cases: cases as u64, ..assert_back(&store, &kept) });
}

/// The root is renamed: descriptors of it are as good as before, its name is not.
#[test]
fn a_root_that_is_renamed_away_and_back_loses_nothing() {
    let store = BrokenStore::whole();
    let db = &store.superuser;
    acknowledged::prepare(db);
    db.run("insert into twins select n, payload(n), payload(n) from generate_series(1, 10) n");
    let mut kept: BTreeSet<i32> = (1..=10).collect();
    let away = store.cluster.dir().join("away");
    for (n, end) in [(100, "commit"), (110, "prepare transaction 'p'"), (120, "rollback")] {
        let insert = |n: i32| format!("insert into twins values ({n}, payload({n}), payload({n}))");
        db.run(&format!("begin; {}", insert(n)));
        fs::rename(&store.root, &away).unwrap();
        let second = db.try_run(&insert(n + 1)).is_ok();
        let ended = db.try_run(end);
        let elsewhere = store.user.sqlstate(INSERT);
        fs::rename(&away, &store.root).unwrap();
        assert_eq!(elsewhere, SqlState::CONFIG_FILE_ERROR);
        let _ = db.try_run("rollback");
        if second && ended.is_ok() && end != "rollback" {
            kept.extend([n, n + 1]);
            if end.starts_with("prepare") {
                db.run("commit prepared 'p'");
            }
        }
    }
    let found = acknowledged::judge(db, &store.root, &kept);
    store.assert_repaired();
    proves(Promise::ErrorsLoseNothing, Found { cases: 3, ..found });
}

#[test]
fn a_directory_of_a_database_that_is_away_for_a_time_is_missed_and_nothing_is_lost() {
    let (store, kept) = store();
    let db = &store.superuser;
    let oid: u32 = db.one("select oid from pg_database where datname = current_database()", &[]);
    let (directory, away) = (store.root.join(oid.to_string()), store.root.join("away"));
    fs::rename(&directory, &away).unwrap();
    assert_eq!(db.sqlstate("select r from twins where n = 1"), SqlState::UNDEFINED_FILE);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 0);
    let warned =
        db.notices().iter().any(|notice| notice.message().contains("neither in the store nor in TRASH"));
    assert!(warned, "no WARNING tells that the payloads are missing");
    if directory.exists() {
        // Whatever the run has made there.
        fs::remove_dir_all(&directory).unwrap();
    }
    fs::rename(&away, &directory).unwrap();
    proves(Promise::ErrorsLoseNothing, Found { cases: 2, ..assert_back(&store, &kept) });
}
