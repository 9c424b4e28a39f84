//! SIGKILL at every stage of an upload, of the backend and of the whole server: committed rows have their bytes, and the vacuum collects
//! everything else.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use super::client::{MIB, Uploads, live};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::judge::disk::outlive_births;
use crate::support::processes::{Log, Process, signal};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with};
use crate::support::twins::noise;

const STAGES: [&str; 7] =
    ["begun", "appended small", "appended large", "finished", "inserted", "prepared", "committed"];

/// Takes an upload, and a short one beside it, up to this stage.
fn up_to(db: &Session, stage: &str, n: i32, payload: &[u8]) {
    let at = STAGES.iter().position(|name| *name == stage).unwrap();
    db.run("begin; create temp table finished (n int, v rbytea) on commit drop");
    let (upload, small) = (db.begin(), db.begin());
    if at >= 1 {
        db.append(upload, &payload[..1000]);
        db.append(small, b"small");
    }
    if at >= 2 {
        for chunk in payload[1000..].chunks(400_000) {
            db.append(upload, chunk);
        }
    }
    if at == 3 {
        db.execute(
            "insert into finished values (1, rbytea_finish($1)), (2, rbytea_finish($2))",
            &[&upload, &small],
        );
    }
    if at >= 4 {
        db.run("drop table finished");
        db.insert(n, upload);
        db.insert(n + 1, small);
    }
}

#[test]
fn a_kill_at_any_stage_loses_nothing_and_leaves_garbage_alone() {
    let payload = noise(2 * MIB + 5, 1);
    let mut kills = 0;
    for conf in [&[][..], &["rbytea.wal_payload_limit = -1"]] {
        let mut cluster = cluster_with(conf);
        cluster.session().run("create table t (n int primary key, r rbytea)");
        let mut rows = Vec::new();
        for everything in [false, true] {
            for stage in STAGES {
                let db = cluster.session();
                let n = kills * 10;
                if stage == "prepared" {
                    // No temporary table goes with it.
                    db.run("begin");
                    let upload = db.begin();
                    db.append(upload, &payload);
                    db.insert(n, upload);
                    db.run("prepare transaction 'p'");
                } else {
                    up_to(&db, stage, n, &payload);
                }
                if stage == "committed" {
                    db.run("commit");
                    rows.extend([(n, payload.clone()), (n + 1, b"small".to_vec())]);
                }
                let db = crash(&mut cluster, everything, db.pid());
                kills += 1;
                if stage == "prepared" {
                    assert_eq!(db.text("select gid from pg_prepared_xacts"), "p");
                    db.run("select rvacuum()");
                    db.run("commit prepared 'p'");
                    rows.push((n, payload.clone()));
                }
                assert_eq!(db.one::<i64>("select count(*) from t", &[]), rows.len() as i64, "{stage}");
            }
        }
        let db = cluster.session();
        for (n, payload) in &rows {
            db.assert_row(*n, payload);
        }
        outlive_births(&cluster.store(), &db);
        db.run("select rvacuum()");
        assert_live_is(&cluster, &db, &[("r", "t")]);
        assert_eq!(live(&cluster).1, 4 * payload.len() as u64 + 10);
        db.assert_healthy(rows.len() as i64);
        assert!(db.rvacuum() == 0);
    }
    proves_by_assertions(Promise::Durable, kills as u64);
    proves_by_assertions(Promise::Collected, kills as u64);
}

/// Kills the backend or the whole server; a session of the recovered one.
fn crash(cluster: &mut Cluster, everything: bool, pid: i32) -> Session {
    if everything {
        assert_eq!(cluster.kill9().signal(), Some(Signal::KILL.as_raw()));
        cluster.start();
    } else {
        let mut log = Log::from_now(cluster);
        signal(cluster, &Process::of(pid), Signal::KILL);
        assert!(log.confirms(&Process::of(pid)), "the process had ended before");
        assert!(log.has("database system is ready to accept connections", PATIENCE));
    }
    cluster.connected()
}
