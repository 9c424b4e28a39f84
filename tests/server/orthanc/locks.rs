//! Several Orthancs on one database: with `Lock` one at a time writes, without it all do.

use std::thread;

use rbytea_orthanc_sdk::raw::ErrorCode;
use serde_json::json;

use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::twins::noise;

use super::bed::{cluster, configuration, core, uuid};
use super::core::Core;

#[test]
fn a_second_orthanc_does_not_start_while_the_first_one_holds_the_lock() {
    let cluster = cluster();
    let first = core(&cluster, json!({}));
    let impatient = configuration(&cluster, json!({ "MaximumConnectionRetries": 1 }));
    let log = Core::try_start(cluster.dir(), &impatient).err().expect("both have started");
    assert!(log.iter().any(|line| line.contains("another Orthanc holds the lock")), "{log:#?}");
    assert_eq!(first.create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    drop(first);
    assert_eq!(core(&cluster, json!({})).read(&uuid(1)).unwrap(), b"x");
}

#[test]
fn a_second_orthanc_waits_for_the_first_one_to_end() {
    let cluster = cluster();
    let first = core(&cluster, json!({}));
    thread::scope(|scope| {
        let second = scope.spawn(|| core(&cluster, json!({ "MaximumConnectionRetries": 100 })));
        let db = cluster.session();
        // The second one has been refused when it asks by whom.
        let asked = "select exists (select from pg_stat_activity
                      where application_name = 'Orthanc (rbytea storage)' and query like '%pg_locks%')";
        wait_until(PATIENCE, || db.one(asked, &[]));
        drop(first);
        assert_eq!(second.join().unwrap().create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    });
}

#[test]
fn orthancs_without_the_lock_share_the_files() {
    let cluster = cluster();
    let cores: Vec<Core> = (0..2).map(|_| core(&cluster, json!({ "Lock": false }))).collect();
    thread::scope(|scope| {
        for (n, core) in (0..).zip(&cores) {
            scope.spawn(move || {
                for number in 0..50 {
                    let uuid = uuid(n * 1000 + number);
                    assert_eq!(core.create(&uuid, &noise(10_000, u64::from(number))), ErrorCode::SUCCESS);
                }
            });
        }
    });
    for (n, other) in [(0, &cores[1]), (1, &cores[0])] {
        for number in 0..50 {
            assert_eq!(other.read(&uuid(n * 1000 + number)).unwrap(), noise(10_000, u64::from(number)));
        }
    }
}

/// The process of the server that holds the lock, and the number that tells locks of this storage apart.
const HOLDER: &str =
    "select pid from pg_locks where locktype = 'advisory' and classid = 1869771825 and granted";
const LOCK: &str = "select objid::bigint::int from pg_locks where locktype = 'advisory' and classid = 1869771825 and granted";

#[test]
fn a_lock_whose_session_is_terminated_is_taken_again() {
    let cluster = cluster();
    let core = core(&cluster, json!({}));
    let db = cluster.session();
    let holder: i32 = db.one(HOLDER, &[]);
    db.execute("select pg_terminate_backend($1, 60000)", &[&holder]);
    assert_eq!(core.create(&uuid(1), b"x"), ErrorCode::SUCCESS, "{:?}", core.log());
    wait_until(PATIENCE, || core.has_logged("the lock is held again"));
    assert_ne!(db.one::<i32>(HOLDER, &[]), holder);
    assert_eq!(core.metrics()["orthanc_rbytea_lock_held"], 1.0);
}

#[test]
fn who_has_lost_the_lock_writes_nothing_any_more() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create role orthanc login; grant create on schema public to orthanc");
    let first = core(&cluster, json!({ "Username": "orthanc", "MaximumConnectionRetries": 2 }));
    assert_eq!(first.create(&uuid(1), b"x"), ErrorCode::SUCCESS);
    // It cannot come back before another one is there.
    db.run("alter role orthanc nologin");
    let holder: i32 = db.one(HOLDER, &[]);
    let lock: i32 = db.one(LOCK, &[]);
    db.execute("select pg_terminate_backend($1, 60000)", &[&holder]);
    // What another Orthanc does when it takes the lock.
    let taker = cluster.session();
    assert!(taker.one::<bool>("select pg_try_advisory_lock(1869771825, $1)", &[&lock]));
    taker.run("update orthanc_files_state set epoch = epoch + 1");
    db.run("alter role orthanc login");
    for len in [100, 3_000_000] {
        assert_eq!(first.create(&uuid(2), &noise(len, 1)), ErrorCode::DATABASE_UNAVAILABLE);
    }
    assert_eq!(first.remove(&uuid(1)), ErrorCode::DATABASE_UNAVAILABLE);
    assert_eq!(first.read(&uuid(1)).unwrap(), b"x", "reading takes no lock");
    assert_eq!(db.text("select count(*) from orthanc_files"), "1");
    drop(taker);
    wait_until(PATIENCE, || first.has_logged("the lock is held again"));
    assert_eq!(first.create(&uuid(2), b"y"), ErrorCode::SUCCESS);
}

#[test]
fn what_was_begun_under_a_lost_lock_is_not_committed() {
    let cluster = cluster();
    // Whatever is the role's default, each statement sees what was committed before it.
    cluster.session().run("alter role postgres set default_transaction_isolation = 'repeatable read'");
    let first = core(&cluster, json!({ "MaximumConnectionRetries": 2 }));
    let db = cluster.session();
    // Writers wait behind this one, as they do for one who takes the lock.
    let lock: i32 = db.one(LOCK, &[]);
    db.run("begin");
    db.execute("select pg_advisory_xact_lock(1869771826, $1)", &[&lock]);
    thread::scope(|scope| {
        let writing = scope.spawn(|| first.create(&uuid(1), b"x"));
        let waits = "select exists (select from pg_locks where classid = 1869771826 and not granted)";
        let other = cluster.session();
        wait_until(PATIENCE, || other.one(waits, &[]));
        db.run("update orthanc_files_state set epoch = epoch + 1; commit");
        // It holds the lock of the session still, and takes it anew.
        assert_eq!(writing.join().unwrap(), ErrorCode::SUCCESS);
    });
    assert!(first.has_logged("another Orthanc has taken the lock of this storage meanwhile; trying again"));
    assert!(first.has_logged("the tables have another epoch"), "{:#?}", first.log());
    assert_eq!(first.read(&uuid(1)).unwrap(), b"x");
}
