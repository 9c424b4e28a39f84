//! SIGKILL while payloads are written, after that and before the commit, while the commit makes them durable, and while a
//! table is encrypted.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;

use futures_util::SinkExt;
use rustix::process::Signal;
use tempfile::TempDir;

use super::ways::{WAYS, Way, assert_sound, cluster, crash};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::set_keys;
use crate::support::processes::{Process, hold, signal};
use crate::support::session::block_on;
use crate::support::twin_tables::Twins;

fn proven(kills: u64) {
    for promise in [Promise::Durable, Promise::Collected] {
        proves_by_assertions(promise, kills);
    }
}

#[test]
fn payloads_of_a_transaction_that_had_not_committed_are_garbage() {
    let mut cluster = cluster(&[]);
    cluster.session().fill("t", 1..=3);
    for way in WAYS {
        let db = cluster.session();
        db.run("begin");
        db.fill("t", 10..=40);
        db.run("update t set b = payload(-n), r = payload(-n) where n <= 2; delete from t where n = 3; savepoint s");
        db.run("insert into u select * from t; release s");
        let pid = db.pid();
        let files = cluster.live().len();
        let db = crash(&mut cluster, way, pid);
        assert_eq!(cluster.live().len(), files, "a crash deletes nothing");
        assert_sound(&cluster, &db, [3, 0]);
    }
    proven(2);
}

#[test]
fn a_copy_that_is_killed_in_its_middle_leaves_garbage() {
    let mut cluster = cluster(&[]);
    cluster.session().fill("t", 1..=3);
    for way in WAYS {
        let db = cluster.session();
        let pid = db.pid();
        let sink = block_on(db.client().copy_in::<_, bytes::Bytes>("copy t (n, r) from stdin")).unwrap();
        let mut sink = Box::pin(sink);
        let lines: String = (100..200).map(|n| format!("{n}\t\\\\x{}\n", "ab".repeat(n))).collect();
        block_on(async {
            sink.send(bytes::Bytes::from(lines)).await.unwrap();
            sink.flush().await.unwrap();
        });
        wait_until(PATIENCE, || cluster.live().len() > 50);
        let db = crash(&mut cluster, way, pid);
        assert_sound(&cluster, &db, [3, 0]);
    }
    proven(2);
}

#[test]
fn half_a_file_is_garbage() {
    const LEN: u64 = 100 << 20;
    let mut cluster = cluster(&[]);
    cluster.session().fill("t", 1..=3);
    let mut kills = 0;
    for way in WAYS {
        let db = cluster.session();
        let pid = db.pid();
        let grown =
            || cluster.live().iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).max();
        let running = loop {
            let running = db.start(&format!("insert into t select 4, null, repeat('x', {LEN})::bytea"));
            wait_until(PATIENCE, || grown() > Some(10_000));
            // It writes no further while the others are killed.
            hold(&cluster, &Process::of(pid));
            if grown() < Some(LEN) {
                break running;
            }
            signal(&cluster, &Process::of(pid), Signal::CONT);
            running.finish().unwrap();
            db.run("delete from t where n = 4; select rvacuum_purge()");
        };
        let db = crash(&mut cluster, way, pid);
        assert!(running.finish().is_err());
        let longest = cluster.live().iter().map(|file| fs::metadata(file).unwrap().len()).max().unwrap();
        assert!(longest < LEN, "the whole file was written");
        assert_sound(&cluster, &db, [3, 0]);
        kills += 1;
    }
    proven(kills);
}

/// A store on a disk, where an fsync takes its time; in memory where there is none.
fn store_on_disk(conf: &[&str]) -> (Cluster, TempDir) {
    let cluster = cluster(conf);
    let disk = tempfile::Builder::new().prefix("rbytea-store-").tempdir_in("/tmp").unwrap();
    let owner = fs::metadata(cluster.data()).unwrap();
    let (uid, gid) =
        (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    chown(disk.path(), Some(uid), Some(gid)).unwrap();
    symlink(disk.path(), cluster.store()).unwrap();
    (cluster, disk)
}

/// Whether a process is in one of the calls that wait for a disk.
fn syncs(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs].map(Some).contains(&number)
}

#[test]
fn a_commit_that_is_killed_while_it_syncs_is_whole_or_nothing() {
    let (mut cluster, _disk) = store_on_disk(&[]);
    let (mut kills, mut synced, mut next) = (0, 0, 1);
    // Few files are synced one by one, many with the whole file system.
    let ends = ["commit", "prepare transaction 'p'"];
    let cases: Vec<_> = WAYS
        .iter()
        .flat_map(|way| ends.map(|end| (*way, end)))
        .flat_map(|case| [(case, 5), (case, 400)])
        .collect();
    // A busy machine may be too late for all of them.
    const ROUNDS: usize = 10;
    for (n, ((way, end), rows)) in cases.iter().cycle().take(ROUNDS * cases.len()).copied().enumerate() {
        if n >= cases.len() && synced > 0 {
            break;
        }
        let db = cluster.session();
        let pid = db.pid();
        let before: i64 = db.one("select count(*) from t", &[]);
        db.run("begin");
        db.run(&format!("insert into t select n, p, p from (select n, payload(n, {}) p from generate_series({next}, {}) n) s", 400_000 / rows, next + rows - 1));
        next += rows;
        let running = db.start(end);
        while !running.is_finished() && !syncs(pid) {}
        // What it was waiting for ends, and it goes no further.
        hold(&cluster, &Process::of(pid));
        synced += u64::from(!running.is_finished());
        let db = crash(&mut cluster, way, pid);
        kills += 1;
        let outcome = running.finish();
        let prepared: Vec<String> = db.column("select gid from pg_prepared_xacts", &[]);
        for gid in &prepared {
            db.run(&format!("commit prepared '{gid}'"));
        }
        let after: i64 = db.one("select count(*) from t", &[]);
        let whole = after == before + i64::from(rows);
        assert!(whole || after == before, "{} of {rows} rows", after - before);
        assert!(whole || outcome.is_err(), "what was acknowledged is gone");
        assert_eq!(whole && end != "commit", !prepared.is_empty());
        assert_sound(&cluster, &db, [after, 0]);
    }
    assert!(synced > 0, "none of them was killed before it had ended");
    proven(kills);
}

#[test]
fn re_encryption_that_is_killed_goes_on_where_it_was() {
    let mut cluster = cluster(&["rbytea.key_file = 'keys'"]);
    set_keys(&cluster, &[1, 2]);
    let rows = 600;
    cluster.session().fill("t", 1..=rows);
    let mut kills = 0;
    for (way, encrypts) in
        [(Way::Process, true), (Way::Everything, true), (Way::Process, false), (Way::Everything, false)]
    {
        let (db, watcher, lock) = (cluster.session(), cluster.session(), cluster.session());
        let pid = db.pid();
        // A row far from the end, so that it is not through even if the one that has the lock dies before it.
        let to_do = i64::from(!encrypts);
        lock.run(&format!(
            "begin; select from t where ctid =
             (select ctid from t where qss_mode(r) = {to_do} order by ctid offset 60 limit 1) for update"
        ));
        let done = format!("select count(*) from t where qss_mode(r) = {}", i64::from(encrypts));
        let before: i64 = db.one(&done, &[]);
        db.run(&format!("set rbytea.qss_mode = {encrypts}"));
        let running = db.start("call rbytea_reencrypt('t', 3)");
        wait_until(PATIENCE, || watcher.one::<i64>(&done, &[]) >= before + 6);
        let db = crash(&mut cluster, way, pid);
        kills += 1;
        assert!(running.finish().is_err(), "the call had ended before it was killed");
        let after: i64 = db.one(&done, &[]);
        assert!(after >= before + 6, "committed batches are gone");
        assert_sound(&cluster, &db, [rows.into(), 0]);
        if way == Way::Everything {
            db.run(&format!("set rbytea.qss_mode = {encrypts}"));
            db.run("call rbytea_reencrypt('t', 100)");
            assert_eq!(db.one::<i64>(&done, &[]), i64::from(rows));
            assert_sound(&cluster, &db, [rows.into(), 0]);
        }
    }
    proven(kills);
}

/// The births in the names of these files.
fn births(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| file.file_name().unwrap().to_string_lossy()[..16].to_owned()).collect()
}

/// A transaction that has left nothing in the WAL has not been: the next one gets its id.
#[test]
fn garbage_of_a_transaction_whose_id_is_given_out_again_is_garbage() {
    let mut cluster = cluster(&["wal_writer_delay = 10s"]);
    for way in WAYS {
        let db = cluster.session();
        db.run("truncate t, u");
        assert_sound(&cluster, &db, [0, 0]);
        db.run("begin");
        db.fill("t", 1..=3);
        let undone = births(&cluster.live());
        let pid = db.pid();
        let db = crash(&mut cluster, way, pid);
        // Until its id is used again its files are young.
        while db.one::<i64>("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint", &[])
            < i64::from_str_radix(&undone[0], 16).unwrap()
        {
            db.run("select pg_current_xact_id()");
        }
        db.fill("t", 11..=15);
        assert_eq!(births(&cluster.live()), vec![undone[0].clone(); 8], "the id was not given out again");
        assert_sound(&cluster, &db, [5, 0]);
    }
    proven(2);
}

/// A procedure stores what it had rolled back: the file comes back from TRASH.
#[test]
fn a_file_that_was_brought_back_stays_if_its_row_does() {
    let mut cluster = cluster(&[]);
    cluster.session().run(
        "create procedure remember() language plpgsql as $$ declare v rbytea; begin
             v := rbytea_store(payload(1)); rollback;
             perform pg_advisory_xact_lock(1); commit;
             insert into t values (1, payload(1), v);
             perform pg_advisory_xact_lock(2);
         end $$",
    );
    let mut kills = 0;
    for (way, commits) in
        [(Way::Process, false), (Way::Everything, false), (Way::Process, true), (Way::Everything, true)]
    {
        let (gate, db) = (cluster.session(), cluster.session());
        gate.run("truncate t, u");
        assert_sound(&cluster, &gate, [0, 0]);
        gate.run("select pg_advisory_lock(1), pg_advisory_lock(2)");
        let pid = db.pid();
        let running = db.start("call remember()");
        wait_until(PATIENCE, || gate.sees_waiting(pid));
        assert_eq!(gate.rvacuum(), 1);
        assert_eq!((cluster.live().len(), cluster.trash().len()), (0, 1));
        gate.run("select pg_advisory_unlock(1)");
        wait_until(PATIENCE, || cluster.live().len() == 1 && gate.sees_waiting(pid));
        if commits {
            gate.run("select pg_advisory_unlock(2)");
            wait_until(PATIENCE, || running.is_finished());
        }
        let db = crash(&mut cluster, way, pid);
        kills += 1;
        assert_eq!(running.finish().is_ok(), commits);
        assert_sound(&cluster, &db, [commits.into(), 0]);
    }
    proven(kills);
}
