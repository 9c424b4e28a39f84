//! What is acknowledged is there, whatever happens to connections, backends and the disk; what was not stored was said.

use std::sync::Mutex;
use std::thread;

use rbytea_orthanc_sdk::raw::ErrorCode;
use serde_json::json;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::twins::noise;
use crate::support::volumes::Kind;

use super::bed::{busy, cluster, cluster_with, core, uuid};
use super::core::Core;

/// Lengths of what is stored in turn: parameters and streams.
fn content(number: u32) -> Vec<u8> {
    noise(if number.is_multiple_of(3) { 2_500_000 } else { 60_000 }, u64::from(number))
}

/// Stores files from some threads while something happens; what was acknowledged, and how many files were not.
fn store_during(core: &Core, files: u32, happens: impl FnOnce(&dyn Fn() -> usize)) -> (Vec<u32>, usize) {
    const THREADS: u32 = 4;
    let stored = Mutex::new(Vec::new());
    let refused = Mutex::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stored, refused) = (&stored, &refused);
            scope.spawn(move || {
                for number in (thread..files).step_by(THREADS as usize) {
                    match core.create(&uuid(number), &content(number)) {
                        ErrorCode::SUCCESS => stored.lock().unwrap().push(number),
                        _ => *refused.lock().unwrap() += 1,
                    }
                }
            });
        }
        happens(&|| stored.lock().unwrap().len());
    });
    (stored.into_inner().unwrap(), refused.into_inner().unwrap())
}

/// That every file that was acknowledged is there, and that the check finds nothing.
#[track_caller]
fn judge(cluster: &Cluster, core: &Core, stored: &[u32]) {
    let mut lost = 0;
    for number in stored {
        if core.read(&uuid(*number)) != Ok(content(*number)) {
            lost += 1;
        }
    }
    let db = cluster.session();
    let dangling: i64 =
        db.one("select count(*) from rbytea_check(digest => true) where relation is not null", &[]);
    proves(
        Promise::Durable,
        Found { cases: stored.len() as u64, lost, dangling: dangling.unsigned_abs(), ..Found::default() },
    );
    assert_eq!((lost, dangling), (0, 0), "{:#?}", core.log());
}

#[test]
fn uploads_whose_backends_are_terminated_are_stored() {
    let cluster = cluster();
    let core = core(&cluster, json!({}));
    let db = cluster.session();
    let (stored, refused) = store_during(&core, 120, |_| {
        for _ in 0..8 {
            db.execute("select pg_terminate_backend($1)", &[&busy(&db)]);
        }
    });
    assert_eq!(refused, 0, "{:#?}", core.log());
    assert!(core.has_logged("trying again"));
    judge(&cluster, &core, &stored);
}

#[test]
fn uploads_outlive_a_server_that_is_killed_or_stopped_at_once() {
    for end in [Some(Shutdown::Immediate), Some(Shutdown::Fast), None] {
        let mut cluster = cluster();
        let core = core(&cluster, json!({ "MaximumConnectionRetries": 100 }));
        let (stored, refused) = store_during(&core, 90, |stored| {
            wait_until(PATIENCE, || stored() > 15);
            let _ = match end {
                Some(shutdown) => cluster.stop(shutdown),
                None => cluster.kill9(),
            };
            cluster.start();
        });
        assert_eq!(refused, 0, "{end:?}: {:#?}", core.log());
        judge(&cluster, &core, &stored);
    }
}

#[test]
fn a_backend_that_is_killed_restarts_the_server_and_loses_nothing() {
    let cluster = cluster();
    let core = core(&cluster, json!({ "MaximumConnectionRetries": 100 }));
    let (stored, refused) = store_during(&core, 90, |stored| {
        wait_until(PATIENCE, || stored() > 15);
        cluster.kill9_backend(busy(&cluster.session()));
    });
    assert_eq!(refused, 0, "{:#?}", core.log());
    drop(cluster.connected());
    judge(&cluster, &core, &stored);
}

#[test]
fn a_full_disk_is_told_to_orthanc() {
    let store = BrokenStore::on(Kind::Ext4, 64 << 20, None);
    let cluster = &store.cluster;
    let core = core(cluster, json!({}));
    let (mut stored, mut codes) = (Vec::new(), Vec::new());
    for number in 0..120 {
        match core.create(&uuid(number), &content(number)) {
            ErrorCode::SUCCESS => stored.push(number),
            code => codes.push(code),
        }
    }
    assert!(!codes.is_empty(), "the disk has room for everything");
    assert!(codes.iter().all(|code| *code == ErrorCode::FULL_STORAGE), "{codes:?}");
    judge(cluster, &core, &stored);
    for number in &stored {
        assert_eq!(core.remove(&uuid(*number)), ErrorCode::SUCCESS);
    }
}

#[test]
fn an_outage_that_outlasts_all_patience_is_told_to_orthanc() {
    let mut cluster = cluster_with(&[]);
    let core = core(&cluster, json!({ "MaximumConnectionRetries": 2 }));
    assert_eq!(core.create(&uuid(0), &content(0)), ErrorCode::SUCCESS);
    cluster.stop(Shutdown::Fast);
    assert_eq!(core.create(&uuid(1), &content(1)), ErrorCode::DATABASE_UNAVAILABLE);
    assert_eq!(core.read(&uuid(0)), Err(ErrorCode::DATABASE_UNAVAILABLE));
    assert!(core.has_logged(&format!("error: rbytea storage: could not store file {}", uuid(1))));
    cluster.start();
    assert_eq!(core.create(&uuid(1), &content(1)), ErrorCode::SUCCESS);
    judge(&cluster, &core, &[0, 1]);
}
