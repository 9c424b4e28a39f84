//! For crashes at a chosen place: how to kill, and what has to be true afterwards.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::disk::outlive_births;
use crate::support::processes::{Log, Process, signal};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with};

/// Which processes are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The process at work; the postmaster ends the others and recovers.
    Process,
    /// The postmaster and everything below it.
    Everything,
}

/// Both.
pub const WAYS: [Way; 2] = [Way::Process, Way::Everything];

/// A running server that deletes from TRASH at the first allowed moment, with the tables `t` and `u (n int primary key, b bytea,
/// r rbytea)`; checkpoints come when a test wants one.
pub fn cluster(conf: &[&str]) -> Cluster {
    let settings = [
        "rbytea.trash_retention = 0",
        "shared_buffers = 16MB",
        "checkpoint_timeout = 1d",
        "max_wal_size = 8GB",
    ];
    let cluster = cluster_with(&[&settings, conf].concat());
    cluster.session().run(
        "create table t (n int primary key, b bytea, r rbytea); create table u (n int primary key, b bytea, r rbytea)",
    );
    cluster
}

/// Kills the process with this id or everything, makes sure that it died by that, and returns when the server has recovered.
#[track_caller]
pub fn crash(cluster: &mut Cluster, way: Way, pid: i32) -> Session {
    match way {
        Way::Process => {
            let mut log = Log::from_now(cluster);
            let victim = Process::of(pid);
            signal(cluster, &victim, Signal::KILL);
            assert!(log.confirms(&victim), "the process had ended before");
            assert!(log.has("database system is ready to accept connections", PATIENCE));
        }
        Way::Everything => {
            let status = cluster.kill9();
            assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "the postmaster had ended before");
            cluster.start();
        }
    }
    cluster.connected()
}

/// Every row of `t` and `u` reads back, and the vacuum leaves their files and no other.
#[track_caller]
pub fn assert_sound(cluster: &Cluster, db: &Session, rows: [i64; 2]) {
    let stored = || {
        db.assert_stored("t", rows[0]);
        db.assert_stored("u", rows[1]);
    };
    stored();
    outlive_births(&cluster.store(), db);
    // What the first one moves, the second one may delete.
    db.run("select rvacuum()");
    stored();
    wait_until(PATIENCE, || {
        db.run("select rvacuum_purge()");
        cluster.trash().is_empty()
    });
    assert_live_is(cluster, db, &[("r", "t"), ("r", "u")]);
    let strays: Vec<_> = cluster.store_files().into_values().flat_map(|files| files.strays).collect();
    assert!(strays.is_empty(), "{strays:?}");
    stored();
    assert_eq!(
        db.one::<i64>("select coalesce(sum(lost), 0)::bigint from rbytea.rbytea_vacuum_history", &[]),
        0
    );
}
