//! Power failures: the server is killed and what the store's file system had only in memory is lost. Recovery writes it again.

use std::fs;

use rustix::process::Signal;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::keepers::{await_keepers, has_keepers};
use crate::support::processes::{Log, children, hold, signal};
use crate::support::shared_store::replayed;
use crate::support::standby::standby_of;
use crate::support::store_files::StoreFiles;
use crate::support::volumes::{Kind, Volume};

/// How often the power fails in one test.
fn failures() -> i32 {
    std::env::var("RBYTEA_CRASHES").map_or(6, |crashes| crashes.parse().unwrap())
}

/// Kills a server, takes its store's file system away with everything that was not on the device, and brings both back.
fn fail(cluster: &mut Cluster, volume: &Volume) {
    cluster.kill9();
    volume.lose_power();
}

fn on_a_volume(conf: &[&str]) -> BrokenStore {
    let store = BrokenStore::on_ext4(conf);
    store.superuser.run("create table p (n int primary key, r rbytea)");
    await_keepers(&store.superuser);
    store
}

/// Payloads of the ledger whose files are not there.
fn missing(store: &BrokenStore, uuids: &[String]) -> usize {
    let files = StoreFiles::walk(&store.root);
    let there: Vec<String> = files
        .into_values()
        .flat_map(|files| files.live.into_iter().chain(files.trash))
        .filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0))
        .map(|path| path.file_name().unwrap().to_str().unwrap()[17..].to_owned())
        .collect();
    uuids.iter().filter(|uuid| !there.contains(uuid)).count()
}

/// Rows come, change and go, checkpoints happen or do not, and the power fails.
#[test]
fn a_power_failure_loses_no_committed_payload() {
    let mut store = on_a_volume(&["rbytea.wal_payload_limit = -1", "rbytea.trash_retention = 0"]);
    let (mut ledger, mut found, mut lost_caches) = (Ledger::default(), Found::default(), 0);
    for round in 0..failures() {
        let db = store.cluster.session();
        wait_until(PATIENCE, || has_keepers(&db));
        let first = round * 100;
        ledger.insert(&db, "p", first..=first + 20);
        if round % 2 == 0 {
            db.run("checkpoint");
        }
        ledger.update(&db, "p", first..=first + 5);
        ledger.delete(&db, "p", first + 6..=first + 8);
        if round % 3 == 0 {
            db.one::<i64>("select rvacuum()", &[]);
            db.one::<i64>("select rvacuum_purge()", &[]);
        }
        ledger.insert(&db, "p", first + 30..=first + 40);
        db.run("begin; insert into p values (1000000, 'not committed')");
        let uuids = db.column("select uuid(r)::text from p where n <> 1000000 and uuid(r) is not null", &[]);
        drop(db);
        let BrokenStore { cluster, .. } = &mut store;
        cluster.kill9();
        store.volume().lose_power();
        lost_caches += missing(&store, &uuids);
        store.cluster.start();
        found = found.and(ledger.compare(&store.cluster.session(), "p"));
    }
    assert!(lost_caches > 0, "nothing was in the page cache alone, so nothing was tried");
    proves(Promise::Durable, found);
}

/// The same on a standby with a store of its own, which makes restartpoints of the primary's checkpoints, also of those behind a crash.
#[test]
fn a_power_failure_of_a_standby_loses_no_payload() {
    let mut store = on_a_volume(&["rbytea.wal_payload_limit = -1"]);
    let db = store.cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "p", 1..=20);
    let root = store.cluster.dir().join("standby");
    fs::create_dir(&root).unwrap();
    let volume = Volume::mounted(Kind::Ext4, &root, 256 << 20, None);
    if let Some((uid, gid)) = store.cluster.installation().server_user {
        std::os::unix::fs::chown(&root, Some(uid), Some(gid)).unwrap();
    }
    // What is there already comes by itself: all of it is in the WAL behind the backup's beginning, or has to be copied.
    let path = format!("rbytea.filesystem_storage_path = '{}'", root.display());
    let mut standby = standby_of(&store.cluster, &[&path]);
    db.run("delete from p");
    ledger = Ledger::default();
    let mut found = Found::default();
    drop(db);
    for round in 0..failures() {
        let first = round * 100;
        let mut db = store.cluster.session();
        ledger.insert(&db, "p", first..=first + 20);
        db.run("checkpoint");
        ledger.insert(&db, "p", first + 30..=first + 40);
        if round % 3 == 1 {
            // Recovery ends with a checkpoint that no keeper has had a hand in.
            drop(db);
            store.cluster.kill9();
            store.cluster.start();
            db = store.cluster.session();
            wait_until(PATIENCE, || db.text("select count(*) from pg_stat_replication") == "1");
        }
        let reader = standby.session();
        replayed(&db, &reader);
        if round % 3 < 2 {
            reader.run("checkpoint");
        }
        drop(reader);
        fail(&mut standby, &volume);
        standby.start();
        let reader = standby.session();
        replayed(&db, &reader);
        found = found.and(ledger.compare(&reader, "p"));
    }
    // And on its own.
    let reader = standby.session();
    reader.run("select pg_promote()");
    wait_until(PATIENCE, || reader.text("select pg_is_in_recovery()") == "f");
    ledger.insert(&reader, "p", 10_000..=10_010);
    drop(reader);
    fail(&mut standby, &volume);
    standby.start();
    found = found.and(ledger.compare(&standby.session(), "p"));
    proves(Promise::Durable, found);
    drop(standby);
}

/// A file system that cannot be synced any more: the server stops instead of going on without what it has promised, and recovers
/// when the file system is back.
#[test]
fn a_sync_that_fails_stops_the_server_until_the_file_system_is_back() {
    let mut store = on_a_volume(&["restart_after_crash = off"]);
    let mut ledger = Ledger::default();
    ledger.insert(&store.superuser, "p", 1..=20);
    let mut log = Log::from_now(&store.cluster);
    store.volume().shut_down();
    let running = store.cluster.session().start("checkpoint");
    assert!(log.has("PANIC:  could not fsync", PATIENCE), "{}", log.text());
    assert!(running.finish().is_err());
    store.cluster.kill9();
    let refused = store.cluster.try_start().unwrap_err();
    assert!(refused.contains("FATAL:  could not"), "{refused}");
    store.volume().unmount();
    store.volume().mount();
    store.cluster.start();
    proves(Promise::Durable, ledger.compare(&store.cluster.session(), "p"));
}

/// What was deleted and what took its room are both replayed: the one must not stand in the other's way.
#[test]
fn recovery_needs_no_more_room_than_the_store_has() {
    let mut store = on_a_volume(&["rbytea.wal_payload_limit = -1", "rbytea.trash_retention = 0"]);
    let size = 4 << 20;
    // A third of it, twice.
    let rows = store.volume().free().0 as usize * 6 / 10 / size;
    let db = store.cluster.session();
    db.run("create table q (n int primary key, r rbytea); checkpoint");
    let insert = |from: usize| {
        db.run(&format!(
            "insert into q select n, rbytea(repeat(md5(n::text), {})::bytea) from generate_series({from}, {}) n",
            size / 32,
            from + rows - 1
        ));
    };
    insert(0);
    db.run("delete from q");
    wait_until(PATIENCE, || {
        db.one::<i64>("select rvacuum()", &[]);
        db.one::<i64>("select rvacuum_purge()", &[]);
        store.volume().free().0 as usize > rows * size
    });
    insert(1000);
    let sum = "select count(*), sum(len(r)), md5(string_agg(md5sum(r), '' order by n)) from q";
    let before = db.text(sum);
    drop(db);
    store.cluster.kill9();
    store.cluster.start();
    assert_eq!(store.cluster.session().text(sum), before);
    // And where there is none for what is needed, it says so, and goes on when there is.
    let db = store.cluster.session();
    db.run("delete from q; checkpoint");
    wait_until(PATIENCE, || {
        db.one::<i64>("select rvacuum()", &[]);
        db.one::<i64>("select rvacuum_purge()", &[]);
        store.volume().free().0 as usize > rows * size
    });
    db.run("checkpoint");
    db.run(&format!(
        "insert into q select n, rbytea(repeat(md5(n::text), {})::bytea) from generate_series(1, 8) n",
        size / 32
    ));
    let before = db.text(sum);
    drop(db);
    store.cluster.kill9();
    store.volume().lose_power();
    let ballast = store.root.join("ballast");
    let _ = fs::write(&ballast, vec![1; store.volume().free().0 as usize - (8 << 20)]);
    let refused = store.cluster.try_start().unwrap_err();
    assert!(refused.contains("the payload store has no room for"), "{refused}");
    fs::remove_file(&ballast).unwrap();
    store.cluster.start();
    assert_eq!(store.cluster.session().text(sum), before);
}

/// An INSERT that finds no room has logged what it had written, and gives the room back to others: neither recovery nor a standby needs room
/// for both.
#[test]
fn what_an_insert_without_room_has_logged_takes_no_room() {
    let mut store = on_a_volume(&["rbytea.wal_payload_limit = -1"]);
    let standby = standby_of(&store.cluster, &["rbytea.filesystem_storage_path = 'of_standby'"]);
    let db = store.cluster.session();
    db.run("create table q (n int primary key, r rbytea); checkpoint");
    let free = store.volume().free().0 as usize;
    let insert = |n: i32, bytes: usize| {
        format!("insert into q select {n}, rbytea(repeat(md5('{n}'), {})::bytea)", bytes / 32)
    };
    for n in 1..=2 {
        assert_eq!(db.sqlstate(&insert(n, free + free / 4)).code(), "53100");
        assert!(store.volume().free().0 as usize > free / 10 * 9, "it was not given back");
    }
    db.run(&insert(3, free / 3));
    let sum = "select count(*), min(md5sum(r)) from q";
    let before = db.text(sum);
    replayed(&db, &standby.session());
    assert_eq!(standby.session().text(sum), before);
    let files = StoreFiles::walk(&standby.data().join("of_standby")).into_values();
    let bytes: u64 = files.flat_map(|files| files.live).map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < free as u64 / 2, "a standby keeps {bytes} bytes of what was not stored");
    drop(db);
    let BrokenStore { cluster, .. } = &mut store;
    cluster.kill9();
    store.volume().lose_power();
    store.cluster.start();
    assert_eq!(store.cluster.session().text(sum), before);
}

/// The same for a payload that came while a checkpoint ran: recovery begins before it, and meets the checkpoint before the purge.
#[test]
fn recovery_needs_no_more_room_for_what_came_during_a_checkpoint() {
    let mut store = on_a_volume(&["rbytea.wal_payload_limit = -1", "rbytea.trash_retention = 0"]);
    let db = store.cluster.session();
    db.run("create table q (n int primary key, r rbytea)");
    let insert = format!(
        "insert into q select 1, rbytea(repeat(md5('1'), {})::bytea)",
        store.volume().free().0 as usize * 6 / 10 / 32
    );
    let mut log = Log::from_now(&store.cluster);
    // The checkpoint waits for them, as it waits for its buffers otherwise.
    let keepers: Vec<_> = children(&store.cluster)
        .into_iter()
        .filter(|child| child.title.starts_with("rbytea keeper"))
        .collect();
    keepers.iter().for_each(|keeper| hold(&store.cluster, keeper));
    let checkpoint = store.cluster.session().start("checkpoint");
    assert!(log.has("checkpoint starting", PATIENCE));
    let before: String = db.one("select pg_current_wal_lsn()::text", &[]);
    db.run(&insert);
    keepers.iter().for_each(|keeper| signal(&store.cluster, keeper, Signal::CONT));
    checkpoint.finish().unwrap();
    let redo = "select redo_lsn <= $1::text::pg_lsn from pg_control_checkpoint()";
    assert!(db.one::<bool>(redo, &[&before]), "the checkpoint began after the payload");
    db.run("delete from q");
    wait_until(PATIENCE, || {
        db.one::<i64>("select rvacuum()", &[]);
        db.one::<i64>("select rvacuum_purge()", &[]);
        StoreFiles::walk(&store.root).into_values().all(|files| files.trash.is_empty())
    });
    db.run(&insert);
    let sum = "select count(*), min(md5sum(r)) from q";
    let before = db.text(sum);
    drop(db);
    store.cluster.kill9();
    store.cluster.start();
    assert_eq!(store.cluster.session().text(sum), before);
}

/// The WAL has payloads for a store that is not there, and another directory is: a checkpoint would forget them.
#[test]
fn recovery_writes_to_the_store_that_the_payloads_were_written_to() {
    let mut store = on_a_volume(&[]);
    let mut ledger = Ledger::default();
    ledger.insert(&store.superuser, "p", 1..=20);
    let (cluster, root) = (&mut store.cluster, store.root.display());
    cluster.kill9();
    for path in ["rbytea", "elsewhere"] {
        cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{path}'"));
        if path == "elsewhere" {
            let made = cluster.data().join(path);
            fs::create_dir(&made).unwrap();
            if let Some((uid, gid)) = cluster.installation().server_user {
                std::os::unix::fs::chown(&made, Some(uid), Some(gid)).unwrap();
            }
        }
        let refused = cluster.try_start().unwrap_err();
        assert!(refused.contains("FATAL:  storage directory"), "{refused}");
    }
    cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{root}'"));
    cluster.start();
    proves(Promise::Durable, ledger.compare(&store.cluster.session(), "p"));
}
