//! Why the database comes first and the store second, and the store twice. RBYTEA_BACKUP_ROUNDS makes the campaign under load
//! longer than its three rounds.

use std::path::{Path, PathBuf};

use crate::backup::payloads::{TABLE, assert_whole, judge, store};
use crate::backup::restored::{adopt, base_backup, copy_into, leaked, own_dir, restored, rsync, store_at};
use crate::backup::traffic::Traffic;
use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::cluster::{Cluster, Shutdown};
use crate::support::session::Session;

/// A running cluster with the table `p` and a store outside of the data directory.
fn cluster() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::stopped_with(&[]);
    let store = own_dir(&cluster, "store");
    cluster.set_conf(&store_at(&store));
    cluster.start();
    cluster.session().run("create extension rbytea");
    cluster.session().run(TABLE);
    (cluster, store)
}

/// A running cluster of this backup and this copy of the store.
fn start(backup: &Path, copy: &Path) -> (Cluster, Session) {
    let mut cluster = restored(backup, &[&store_at(copy)]);
    cluster.start();
    let session = cluster.session();
    (cluster, session)
}

/// Each round's copy is brought up to date from the last one's: what has gone is deleted by the first pass, never by the
/// second, which is there for what was moved during the first.
#[test]
fn the_database_first_and_the_store_second_lose_nothing_under_load() {
    let rounds = std::env::var("RBYTEA_BACKUP_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let (source, live) = cluster();
    let traffic = Traffic::default();
    traffic.fill(&source.session(), 60);
    let copy = own_dir(&source, "copy");
    let mut found = Found::default();
    for round in 0..rounds {
        let backup = source.dir().join(format!("backup{round}"));
        let moved = traffic.moved();
        let before = traffic.during(&source, || {
            let before = traffic.committed();
            base_backup(&source, &backup, &[]);
            rsync(&live, &copy, &["--delete"]);
            rsync(&live, &copy, &[]);
            before
        });
        let needed = traffic.spared(before);
        assert!(
            needed.len() > 10 && traffic.moved() > moved,
            "the test is about payloads that stay and files that move"
        );
        // The next round goes on with the copy as it is now.
        let theirs = own_dir(&source, &format!("theirs{round}"));
        copy_into(&copy, &theirs);
        let (_target, db) = start(&backup, &theirs);
        let seen = judge(&db, needed.iter().copied());
        adopt(&db);
        found.leaked += leaked(&db, &theirs);
        let vacuumed = judge(&db, needed);
        found.cases += seen.cases;
        found.lost += seen.lost + vacuumed.lost;
        found.dangling += seen.dangling + vacuumed.dangling;
    }
    proves(Promise::Backups, found);
}

/// What the order is for: a payload that is stored between the two is in the database and not in the store.
#[test]
fn the_store_first_and_the_database_second_would_lose_payloads() {
    let (source, live) = cluster();
    let db = source.session();
    store(&db, 1..=3);
    let (copy, backup) = (own_dir(&source, "copy"), source.dir().join("backup"));
    copy_into(&live, &copy);
    copy_into(&live, &copy);
    store(&db, 4..=5);
    base_backup(&source, &backup, &[]);
    let (_target, restored) = start(&backup, &copy);
    let found = judge(&restored, 1..=5);
    assert_eq!((found.dangling, found.lost), (2, 0), "the order does not matter after all");

    // The other way round it is nothing but two files too many.
    copy_into(&live, &copy);
    proves_by_assertions(Promise::Backups, assert_whole(&restored, 1..=5));
    adopt(&restored);
    assert_eq!(leaked(&restored, &copy), 0);
}

/// A copy that has read TRASH already when the vacuum moves a file there, and reaches the file's place later, finds it
/// nowhere. It is in TRASH from then on, where the second pass finds it.
#[test]
fn a_second_pass_finds_what_the_vacuum_moved_behind_the_back_of_the_first() {
    let (source, live) = cluster();
    let db = source.session();
    store(&db, 1..=8);
    db.run("delete from p where n = 8");
    db.run("select rvacuum()");
    let (copy, backup) = (own_dir(&source, "copy"), source.dir().join("backup"));
    base_backup(&source, &backup, &[]);
    let database: u32 = db.one("select oid from pg_database where datname = 'postgres'", &[]);
    let trash = format!("{database}/TRASH/");
    // One pass, in the order of a directory that lists TRASH first, met by the vacuum in the middle.
    rsync(
        &live,
        &copy,
        &["--include", &format!("/{database}"), "--include", &format!("/{trash}***"), "--exclude", "*"],
    );
    db.run("delete from p where n <= 3");
    db.run("select rvacuum()");
    rsync(&live, &copy, &["--exclude", &format!("/{trash}")]);
    let (target, restored) = start(&backup, &copy);
    assert_eq!(judge(&restored, 1..=7).dangling, 3, "the first pass alone: what the vacuum moved is nowhere");
    drop(target);

    rsync(&live, &copy, &[]);
    let (_target, restored) = start(&backup, &copy);
    let read = assert_whole(&restored, 1..=7);
    adopt(&restored);
    assert_eq!(leaked(&restored, &copy), 0);
    assert_whole(&restored, 1..=7);
    proves_by_assertions(Promise::Backups, read);
}

/// A restored cluster whose store has not been restored yet must not begin a new one in its place.
#[test]
fn a_restored_cluster_waits_for_its_store() {
    let (mut source, live) = cluster();
    store(&source.session(), 1..=4);
    let (aside, backup) = (source.dir().join("aside"), source.dir().join("backup"));
    base_backup(&source, &backup, &[]);
    source.stop(Shutdown::Fast);
    std::fs::rename(&live, &aside).unwrap();
    own_dir(&source, "store");

    let (_target, db) = start(&backup, &live);
    assert!(db.try_run("select r from p").is_err(), "the test is about a store that is not there");
    assert!(
        db.try_run("insert into p values (5, 'into the void')").is_err(),
        "it was stored where no store is"
    );
    assert!(db.try_run("select rvacuum()").is_err());
    std::fs::remove_dir(&live).unwrap();
    std::fs::rename(&aside, &live).unwrap();
    let read = assert_whole(&db, 1..=4);
    adopt(&db);
    store(&db, 5..=5);
    assert_eq!(leaked(&db, &live), 0);
    assert_whole(&db, 1..=5);
    proves_by_assertions(Promise::Backups, read);
}
