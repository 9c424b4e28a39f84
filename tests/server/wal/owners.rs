//! Whose store it is that recovery finds.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::{BrokenStore, as_root, text};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::keepers::await_keepers;
use crate::support::shared_store::replayed;
use crate::support::standby::standby_of;

const ALL: &[&str] =
    &["rbytea.wal_payload_limit = -1", "rbytea.vacuum_naptime = 1d", "rbytea.trash_retention = 0"];

/// A directory of the server's user.
fn directory(cluster: &Cluster, path: &Path) {
    fs::create_dir(path).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// The data directory is lost, and the store has lost its power: what no commit has synced is in the WAL alone, and the restored server, which is not
/// the store's owner, brings it back.
#[test]
fn a_restored_server_completes_the_store_that_the_lost_one_has_left() {
    let mut store = BrokenStore::on_ext4(&[]);
    let db = store.cluster.session();
    db.run("create table p (n int primary key, r rbytea)");
    await_keepers(&db);
    let mut restored = Cluster::stopped_with(&[]);
    fs::remove_dir_all(restored.data()).unwrap();
    let backup = store
        .cluster
        .server_command(store.cluster.tool("pg_basebackup"))
        .args(["-U", "postgres", "-c", "fast", "-X", "none", "-p", &store.cluster.port().to_string(), "-h"])
        .arg(store.cluster.dir())
        .arg("-D")
        .arg(restored.data())
        .output()
        .unwrap();
    assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
    let mut ledger = Ledger::default();
    ledger.insert(&db, "p", 1..=20);
    drop(db);
    store.cluster.kill9();
    store.volume().lose_power();
    let empty = fs::read_to_string(store.root.join("OWNER")).unwrap();
    for line in [
        format!("port = {}", restored.port()),
        format!("unix_socket_directories = '{}'", restored.dir().display()),
        format!("restore_command = 'cp {}/pg_wal/%f %p'", store.cluster.data().display()),
    ] {
        restored.set_conf(&line);
    }
    fs::write(restored.data().join("recovery.signal"), "").unwrap();
    restored.start();
    let db = restored.session();
    wait_until(PATIENCE, || db.text("select pg_is_in_recovery()") == "f");
    let found = ledger.compare(&db, "p");
    assert_eq!(fs::read_to_string(store.root.join("OWNER")).unwrap(), empty, "the store has its owner still");
    db.run("select rbytea_adopt_store(); checkpoint");
    proves(Promise::Backups, found.and(ledger.compare(&db, "p")));
    drop((db, restored));
}

/// A bind mount, until it is dropped.
struct Bind(PathBuf);

impl Bind {
    fn of(directory: &Path, at: &Path) -> Self {
        as_root("mount", &["--bind", text(directory), text(at)]);
        Self(at.to_owned())
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        as_root("umount", &["--lazy", text(&self.0)]);
    }
}

/// As the volumes of containers are mounted: the file system is the data directory's, and yet two servers have the same store.
#[test]
fn a_bind_mount_in_the_data_directory_is_outside_of_it() {
    let mut cluster = Cluster::stopped_with(ALL);
    let volume = cluster.dir().join("volume");
    directory(&cluster, &volume);
    directory(&cluster, &cluster.store());
    let bind = Bind::of(&volume, &cluster.store());
    cluster.start();
    let db = cluster.session();
    db.run("create extension rbytea; create table t (n int primary key, r rbytea)");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let mut standby = standby_of(&cluster, &[]);
    standby.stop(Shutdown::Fast);
    fs::remove_dir_all(standby.store()).unwrap();
    directory(&standby, &standby.store());
    let of_standby = Bind::of(&volume, &standby.store());
    let owner = fs::read(volume.join("OWNER")).unwrap();
    standby.start();
    let reader = standby.session();
    ledger.insert(&db, "t", 11..=20);
    ledger.delete(&db, "t", 1..=3);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 3);
    replayed(&db, &reader);
    assert_eq!(fs::read(volume.join("OWNER")).unwrap(), owner);
    assert!(standby.log().contains("recovery leaves the payload store alone, as another server owns it"));
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 0, "the primary's vacuum goes on");
    proves(Promise::OneOwner, ledger.compare(&db, "t").and(ledger.compare(&reader, "t")));
    drop((db, reader, standby, of_standby, bind));
    drop(cluster);
}

/// In the data directory, too: it may be the place where its file system is to be mounted.
#[test]
fn recovery_begins_no_store_where_one_is_missing() {
    let cluster = Cluster::with_extension_and(ALL);
    let db = cluster.session();
    db.run("create table t (n int primary key, r rbytea)");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let mut standby = standby_of(&cluster, &[]);
    standby.stop(Shutdown::Fast);
    let aside = standby.dir().join("aside");
    fs::rename(standby.store(), &aside).unwrap();
    directory(&standby, &standby.store());
    ledger.insert(&db, "t", 11..=20);
    if standby.try_start().is_ok() {
        let end = "shutting down due to startup process failure";
        wait_until(PATIENCE, || standby.log().contains(end));
        standby.kill9();
    }
    assert!(standby.log().contains("is not the store that this cluster has written to"), "{}", standby.log());
    assert_eq!(fs::read_dir(standby.store()).unwrap().count(), 0);
    fs::remove_dir(standby.store()).unwrap();
    fs::rename(&aside, standby.store()).unwrap();
    standby.start();
    let reader = standby.session();
    replayed(&db, &reader);
    proves(Promise::Replication, ledger.compare(&reader, "t"));
}

/// What has been dropped and purged is dropped once more after a crash; the database that has its OID now stays.
#[test]
fn a_database_keeps_its_payloads_when_the_drop_of_another_one_of_its_oid_is_replayed() {
    let mut cluster = Cluster::with_extension_and(ALL);
    let db = cluster.session();
    let (mut found, mut ledger) = (Found::default(), Ledger::default());
    for name in ["first", "second"] {
        db.run(&format!("create database {name} oid 20000"));
        let new = cluster.session_in(name);
        new.run("create extension rbytea; create table t (n int primary key, r rbytea)");
        ledger = Ledger::default();
        new.run("set rbytea.wal_payload_limit = 0");
        ledger.insert(&new, "t", 1..=5);
        new.run("reset rbytea.wal_payload_limit");
        ledger.insert(&new, "t", 6..=10);
        drop(new);
        if name == "first" {
            db.run("drop database first");
            for _ in 0..2 {
                db.one::<i64>("select rvacuum()", &[]);
                db.one::<i64>("select rvacuum_purge()", &[]);
            }
            assert!(!cluster.store().join("20000").exists());
        }
    }
    drop(db);
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let second = cluster.session_in("second");
    found = found.and(ledger.compare(&second, "t"));
    second.one::<i64>("select rvacuum()", &[]);
    proves(Promise::Durable, found.and(ledger.compare(&second, "t")));
}
