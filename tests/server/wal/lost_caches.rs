//! Power failures: the server is killed and what the store's file system had only in memory is lost. Recovery writes it again.

use std::fs;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::keepers::{await_keepers, has_keepers};
use crate::support::processes::Log;
use crate::support::shared_store::replayed;
use crate::support::standby::standby_of;
use crate::support::volumes::{Kind, Volume};

/// How often the power fails in one test.
fn failures() -> i32 {
    std::env::var("RBYTEA_CRASHES").map_or(6, |crashes| crashes.parse().unwrap())
}

/// Kills a server, takes its store's file system away with everything that was not on the device, and brings both back.
fn fail(cluster: &mut Cluster, volume: &Volume) {
    cluster.kill9();
    volume.shut_down();
    volume.unmount();
    volume.mount();
}

fn on_a_volume(conf: &[&str]) -> BrokenStore {
    let store = BrokenStore::on_ext4(conf);
    store.superuser.run("create table p (n int primary key, r rbytea)");
    await_keepers(&store.superuser);
    store
}

/// Payloads of the ledger whose files are not there.
fn missing(store: &BrokenStore, uuids: &[String]) -> usize {
    let files = crate::support::store_files::StoreFiles::walk(&store.root);
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
        store.volume().shut_down();
        store.volume().unmount();
        store.volume().mount();
        lost_caches += missing(&store, &uuids);
        store.cluster.start();
        found = found.and(ledger.compare(&store.cluster.session(), "p"));
    }
    assert!(lost_caches > 0, "nothing was in the page cache alone, so nothing was tried");
    proves(Promise::Durable, found);
}

/// The same on a standby with a store of its own, whose restartpoints rely on the primary's keepers.
#[test]
fn a_power_failure_of_a_standby_loses_no_payload() {
    let store = on_a_volume(&["rbytea.wal_payload_limit = -1"]);
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
    for round in 0..failures() {
        let first = round * 100;
        ledger.insert(&db, "p", first..=first + 20);
        db.run("checkpoint");
        ledger.insert(&db, "p", first + 30..=first + 40);
        let reader = standby.session();
        replayed(&db, &reader);
        if round % 2 == 0 {
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
