//! Standbys with stores of their own, which the WAL fills.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use crate::evidence::{Found, Promise, proves};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::encryption::{ENCRYPTING, set_keys};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::session::Session;
use crate::support::shared_store::{primary, replayed};
use crate::support::standby::{rewind, standby_of};
use crate::support::store_files::StoreFiles;

const ALL: &[&str] = &["rbytea.wal_payload_limit = -1", "rbytea.vacuum_naptime = 1d"];

fn cluster(conf: &[&str]) -> (Cluster, Session) {
    let cluster = Cluster::with_extension_and(&[ALL, conf].concat());
    let db = cluster.session();
    db.run("create table t (n int primary key, r rbytea)");
    (cluster, db)
}

/// A directory of the server's user, beside the data directory.
fn directory(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.dir().join(name);
    fs::create_dir(&path).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        chown(&path, Some(uid), Some(gid)).unwrap();
    }
    path
}

/// The names of the files in LIVE and in TRASH, of all databases.
fn names(cluster: &Cluster) -> Vec<(u32, Vec<String>, Vec<String>)> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let sorted = |paths: Vec<PathBuf>| {
        let mut names: Vec<_> = paths.into_iter().map(name).collect();
        names.sort();
        names
    };
    StoreFiles::walk(&cluster.store())
        .into_iter()
        .map(|(database, files)| (database, sorted(files.live), sorted(files.trash)))
        .collect()
}

fn promote(db: &Session) {
    db.run("select pg_promote()");
    wait_until(PATIENCE, || db.text("select pg_is_in_recovery()") == "f");
}

/// A session that is terminated ends at once, in the middle of its moves or of its deletions: the standby knows what it had got done.
#[test]
fn what_a_terminated_vacuum_has_done_is_done_on_a_standby_too() {
    let (cluster, db) = cluster(&["rbytea.trash_retention = 0"]);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=210);
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();
    ledger.delete(&db, "t", 11..=210);
    let told = "select coalesce(min(replay_lsn) >= pg_current_wal_lsn(), false) from pg_stat_replication";
    for (statement, place) in [("select rvacuum()", 1), ("select rvacuum_purge()", 2)] {
        wait_until(PATIENCE, || db.one(told, &[]));
        let vacuum = cluster.session();
        let pid = vacuum.pid();
        // Pages that are in memory cost nothing.
        vacuum.run("set vacuum_cost_delay = 20; set vacuum_cost_limit = 1; set vacuum_cost_page_hit = 0");
        let count = || if place == 1 { cluster.live().len() } else { cluster.trash().len() };
        let before = count();
        let run = vacuum.start(statement);
        wait_until(PATIENCE, || count() < before - 5);
        db.run(&format!("select pg_terminate_backend({pid})"));
        assert!(run.finish().is_err());
        wait_until(PATIENCE, || {
            db.text(&format!("select count(*) from pg_stat_activity where pid = {pid}")) == "0"
        });
        assert!((20..before).contains(&count()), "{statement} was not in its middle");
        // What has been logged is sent when it is flushed, as by a commit that has something to say.
        db.run("select pg_logical_emit_message(true, 'flush', '')");
        replayed(&db, &reader);
        assert!(names(&standby) == names(&cluster), "{statement}: the standby has other files");
        db.run("select rvacuum()");
        replayed(&db, &reader);
    }
    ledger.assert_equal(&reader, "t");
}

/// Everything that can happen to payloads, and the promotion.
#[test]
fn a_standby_has_the_payloads_and_goes_on_as_primary() {
    let (cluster, db) = cluster(&[&["rbytea.trash_retention = 0"], ENCRYPTING].concat());
    set_keys(&cluster, &[1]);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();
    ledger.insert(&db, "t", 11..=30);
    db.run("set rbytea.qss_mode = on");
    ledger.update(&db, "t", 5..=9);
    db.run("reset rbytea.qss_mode");
    ledger.delete(&db, "t", 10..=12);
    replayed(&db, &reader);
    let mut found = ledger.compare(&reader, "t");
    // Some were there before the backup, the others came.
    assert_eq!(names(&standby), names(&cluster));

    // Three that were deleted, and four that were replaced; an empty one stays what it is.
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 7);
    replayed(&db, &reader);
    assert_eq!(names(&standby), names(&cluster), "TRASH as well");
    let told = "select coalesce(min(replay_lsn) >= pg_current_wal_lsn(), false) from pg_stat_replication";
    wait_until(PATIENCE, || db.one(told, &[]));
    db.one::<i64>("select rvacuum_purge()", &[]);
    replayed(&db, &reader);
    assert!(cluster.trash().is_empty());
    assert_eq!(names(&standby), names(&cluster), "and what has been purged is gone");
    db.run("create database copy template postgres strategy wal_log");
    replayed(&db, &reader);
    assert_eq!(names(&standby), names(&cluster));
    found = found.and(ledger.compare(&standby.session_in("copy"), "t"));
    db.run("drop database copy");
    db.one::<i64>("select rvacuum()", &[]);
    db.one::<i64>("select rvacuum_purge()", &[]);
    replayed(&db, &reader);
    assert_eq!(names(&standby), names(&cluster));
    found = found.and(ledger.compare(&reader, "t"));

    promote(&reader);
    // Nobody has to say whose store it is.
    ledger.update(&reader, "t", 22..=27);
    assert_eq!(reader.one::<i64>("select rvacuum()", &[]), 6);
    reader.one::<i64>("select rvacuum_purge()", &[]);
    found = found.and(ledger.compare(&reader, "t"));
    assert_eq!(reader.text("select count(*) from rbytea_check(digest => true)"), "0");
    proves(Promise::Replication, found);
}

/// A row that can be seen has its payload.
#[test]
fn with_remote_apply_a_payload_can_be_read_when_its_commit_returns() {
    let (cluster, db) = cluster(&[]);
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();
    db.run("alter system set synchronous_standby_names = '*'");
    db.run("alter system set synchronous_commit = 'remote_apply'");
    cluster.reload();
    wait_until(PATIENCE, || {
        db.text("select count(*) from pg_stat_replication where sync_state = 'sync'") == "1"
    });
    let mut ledger = Ledger::default();
    for n in 1..=40 {
        ledger.insert(&db, "t", n..=n);
        ledger.assert_equal(&reader, "t");
    }
    db.run("alter system reset synchronous_standby_names");
    cluster.reload();
}

#[test]
fn a_standby_of_a_standby_has_the_payloads() {
    let (cluster, db) = cluster(&[]);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let mut middle = standby_of(&cluster, &[]);
    let between = middle.session();
    replayed(&db, &between);
    let last = standby_of(&middle, &[]);
    let reader = last.session();
    ledger.update(&db, "t", 1..=5);
    ledger.insert(&db, "t", 11..=20);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 5);
    replayed(&db, &between);
    replayed(&db, &reader);
    let mut found = ledger.compare(&between, "t").and(ledger.compare(&reader, "t"));
    assert_eq!(names(&last), names(&cluster));
    // The first one's end.
    let mut cluster = cluster;
    drop(db);
    cluster.stop(Shutdown::Immediate);
    promote(&between);
    ledger.insert(&between, "t", 30..=40);
    between.one::<i64>("select rvacuum()", &[]);
    replayed(&between, &reader);
    found = found.and(ledger.compare(&reader, "t"));
    drop((between, reader));
    middle.stop(Shutdown::Fast);
    proves(Promise::Replication, found);
}

/// One after the other becomes the primary, and the old one its standby by pg_rewind.
#[test]
fn promotions_back_and_forth_lose_nothing() {
    let (mut old, db) = cluster(&["wal_log_hints = on", "wal_keep_size = 1GB"]);
    let mut ledger = Ledger::default();
    let mut found = Found::default();
    ledger.insert(&db, "t", 1..=20);
    db.run("select pg_create_physical_replication_slot('other')");
    drop(db);
    let mut new = standby_of(&old, &[]);
    let rounds = std::env::var("RBYTEA_PROMOTIONS").map_or(3, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        let (db, reader) = (old.session(), new.session());
        let first = round * 100;
        ledger.insert(&db, "t", first..=first + 10);
        ledger.update(&db, "t", first..=first + 3);
        ledger.delete(&db, "t", first + 4..=first + 5);
        if round % 2 == 0 {
            db.one::<i64>("select rvacuum()", &[]);
        }
        replayed(&db, &reader);
        // What the old one writes behind the promotion is lost, as it is with every table.
        promote(&reader);
        db.run("insert into t values (-1, 'on the old timeline')");
        found = found.and(ledger.compare(&reader, "t"));
        drop(db);
        old.stop(if round % 2 == 0 { Shutdown::Fast } else { Shutdown::Immediate });
        ledger.insert(&reader, "t", first + 20..=first + 25);
        reader.one::<i64>("select rvacuum()", &[]);
        reader.run("checkpoint");
        rewind(&mut old, &new);
        old.start();
        let back = old.session();
        ledger.insert(&reader, "t", first + 30..=first + 35);
        replayed(&reader, &back);
        found = found.and(ledger.compare(&back, "t"));
        drop((reader, back));
        std::mem::swap(&mut old, &mut new);
    }
    assert_eq!(old.session().text("select count(*) from rbytea_check(digest => true)"), "0");
    proves(Promise::Replication, found);
}

/// A store outside of the data directory: the standby says where its own is.
#[test]
fn a_standby_may_have_its_store_at_another_path() {
    let (cluster, root) = primary(ALL);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let own = directory(&cluster, "own");
    let copied = std::process::Command::new("cp").args(["-a", "-T"]).arg(&root).arg(&own).status().unwrap();
    assert!(copied.success());
    // Its OWNER names the primary's data directory, so it could be the primary's own.
    let path = format!("rbytea.filesystem_storage_path = '{}'", own.display());
    let mut standby = standby_of(&cluster, &[&path]);
    let reader = standby.session();
    ledger.insert(&db, "t", 11..=15);
    replayed(&db, &reader);
    assert_eq!(ledger.compare(&reader, "t").dangling, 5);
    assert!(standby.log().contains("recovery leaves the payload store alone, as another server owns it"));
    drop(reader);
    standby.set_conf("rbytea.recovery_store = own");
    standby.restart();
    let reader = standby.session();
    ledger.insert(&db, "t", 16..=20);
    ledger.update(&db, "t", 11..=15);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 4);
    replayed(&db, &reader);
    let mut found = ledger.compare(&reader, "t");
    promote(&reader);
    ledger.update(&reader, "t", 1..=3);
    assert_eq!(reader.one::<i64>("select rvacuum()", &[]), 3);
    found = found.and(ledger.compare(&reader, "t"));
    proves(Promise::Replication, found);
}

/// The root is there and empty although the cluster has written to it: not mounted, or new? Recovery stops and asks.
#[test]
fn recovery_asks_whose_an_empty_store_is() {
    let (cluster, root) = primary(ALL);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let mut standby = standby_of(&cluster, &[]);
    drop(db);
    standby.stop(Shutdown::Fast);
    let mut cluster = cluster;
    let db = cluster.session();
    ledger.insert(&db, "t", 11..=20);
    drop(db);
    // The primary's is unmounted, so to say.
    let aside = root.with_extension("aside");
    let answers = [("auto", false), ("shared", true), ("own", true)];
    for (answer, starts) in answers {
        fs::rename(&root, &aside).unwrap();
        directory(&cluster, "store");
        standby.set_conf(&format!("rbytea.recovery_store = {answer}"));
        let db = cluster.session();
        let started = standby.try_start();
        if starts {
            started.unwrap();
            let reader = standby.session();
            replayed(&db, &reader);
            drop(reader);
            standby.stop(Shutdown::Fast);
            assert_eq!(root.join("OWNER").exists(), answer == "own");
        } else {
            // It has taken connections, maybe, before it came to a payload.
            if started.is_ok() {
                wait_until(PATIENCE, || {
                    standby.log().contains("shutting down due to startup process failure")
                });
                standby.kill9();
            }
            let log = standby.log();
            assert!(log.contains("is not the store that this cluster has written to"), "{log}");
            assert!(log.contains("set \"rbytea.recovery_store\" to \"own\""), "{log}");
        }
        fs::remove_dir_all(&root).unwrap();
        fs::rename(&aside, &root).unwrap();
    }
    cluster.restart();
    proves(Promise::Replication, ledger.compare(&cluster.session(), "t"));
}

/// PostgreSQL's own error, and what to do.
#[test]
fn a_standby_without_the_library_stops_and_says_why() {
    let (cluster, db) = cluster(&[]);
    let mut standby = standby_of(&cluster, &["shared_preload_libraries = ''"]);
    db.run("insert into t values (1, 'payload')");
    let message = "resource manager with ID 186 not registered";
    wait_until(PATIENCE, || standby.log().contains(message));
    assert!(standby.log().contains("shared_preload_libraries"), "{}", standby.log());
    standby.kill9();
    standby.set_conf("shared_preload_libraries = 'rbytea'");
    standby.start();
    let reader = standby.session();
    replayed(&db, &reader);
    assert_eq!(reader.text("select convert_from(r, 'utf8') from t"), "payload");
}

/// Queries on the standby that are older than a purge: replay waits for them, or cancels them; with feedback nothing is purged.
#[test]
fn a_purge_on_a_standby_is_a_conflict_with_those_who_may_see_the_row() {
    let (cluster, db) = cluster(&["rbytea.trash_retention = 0"]);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let standby =
        standby_of(&cluster, &["max_standby_streaming_delay = 100ms", "wal_receiver_status_interval = 1s"]);
    let (reader, other) = (standby.session(), standby.session());
    replayed(&db, &other);
    reader.run("begin isolation level repeatable read; select count(*) from t");
    let seen = ledger.clone();
    ledger.delete(&db, "t", 1..=5);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 5);
    replayed(&db, &other);
    let before = seen.compare(&reader, "t");
    assert_eq!((before.lost, before.dangling), (0, 0), "in TRASH they can be read");
    let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
    let told = "select coalesce(min(replay_lsn) >= $1::text::pg_lsn, false) from pg_stat_replication";
    wait_until(PATIENCE, || db.one(told, &[&now]));
    db.one::<i64>("select rvacuum_purge()", &[]);
    replayed(&db, &other);
    assert!(standby.trash().is_empty());
    assert!(reader.try_run("select r from t where n = 1").is_err());
    assert!(standby.log().contains("conflict with recovery"), "{}", standby.log());
    proves(Promise::Replication, before.and(ledger.compare(&other, "t")));
}
