//! Recovery to a moment before payloads were deleted: TRASH still has them, and the vacuum brings them back. The WAL is
//! archived; the database goes back to a restore point, the store stays as it is now.

use std::fs;
use std::path::{Path, PathBuf};

use crate::backup::payloads::{TABLE, assert_whole, judge, store};
use crate::backup::restored::{adopt, base_backup, copy_into, leaked, own_dir, restored, store_at};
use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::session::Session;

/// A running cluster that archives its WAL, with the table `p` and a base backup of it.
struct Archived {
    cluster: Cluster,
    store: PathBuf,
    archive: PathBuf,
    backup: PathBuf,
}

impl Archived {
    /// With rows 1 to 12 before the base backup.
    fn new(outside: bool) -> Self {
        let mut cluster = Cluster::stopped_with(&["archive_mode = on"]);
        let archive = own_dir(&cluster, "archive");
        cluster.set_conf(&format!("archive_command = 'cp %p {}/%f'", archive.display()));
        let mut place = cluster.store();
        if outside {
            place = own_dir(&cluster, "store");
            cluster.set_conf(&store_at(&place));
        }
        cluster.start();
        let db = cluster.session();
        db.run("create extension rbytea");
        db.run(TABLE);
        store(&db, 1..=12);
        let backup = cluster.dir().join("backup");
        base_backup(&cluster, &backup, &[]);
        Self { cluster, store: place, archive, backup }
    }

    /// Names this moment and waits until the archive has it.
    fn restore_point(&self, name: &str) {
        let db = self.cluster.session();
        db.execute("select pg_create_restore_point($1)", &[&name]);
        let file: String = db.one("select pg_walfile_name(pg_switch_wal())", &[]);
        wait_until(PATIENCE, || self.archive.join(&file).exists());
    }

    /// A running cluster of the base backup that has gone forward to this moment, and a session. It has the store of the old
    /// one, which does not run any more.
    fn recovered(&self, point: &str) -> (Cluster, Session) {
        let mut cluster = restored(
            &self.backup,
            &[
                &format!("restore_command = 'cp {}/%f %p'", self.archive.display()),
                &format!("recovery_target_name = '{point}'"),
                "recovery_target_action = promote",
            ],
        );
        if self.store == self.cluster.store() {
            fs::remove_dir_all(cluster.store()).unwrap();
            fs::rename(&self.store, cluster.store()).unwrap();
        } else {
            cluster.set_conf(&store_at(&self.store));
        }
        fs::write(cluster.data().join("recovery.signal"), "").unwrap();
        cluster.start();
        let db = cluster.session();
        wait_until(PATIENCE, || !db.one::<bool>("select pg_is_in_recovery()", &[]));
        (cluster, db)
    }
}

/// Files in LIVE and in TRASH.
fn files(store: &Path) -> (usize, usize) {
    let all = crate::support::store_files::StoreFiles::walk(store);
    (all.values().map(|files| files.live.len()).sum(), all.values().map(|files| files.trash.len()).sum())
}

/// Deletes in every way, vacuums, recovers to before it, reads, adopts, vacuums; then the vacuum has put everything back, and
/// the lost future leaves nothing behind for ever.
fn back_to_before_deletions(outside: bool) -> Found {
    let mut archived = Archived::new(outside);
    let db = archived.cluster.session();
    store(&db, 13..=20);
    archived.restore_point("before");
    db.run("delete from p where n <= 6; update p set r = 'other' where n = 7");
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 7);
    db.run("truncate p");
    store(&db, 101..=104);
    db.run("select rvacuum()");
    assert_eq!(files(&archived.store), (4, 21), "the test is about payloads in TRASH");
    archived.cluster.stop(Shutdown::Fast);

    // A store in the data directory goes from the old one to the new one.
    let (cluster, db) = archived.recovered("before");
    let place = if outside { archived.store.clone() } else { cluster.store() };
    let mut found = judge(&db, 1..=20);
    adopt(&db);
    db.run("select rvacuum()");
    assert_eq!(
        db.text("select max(restored) from rbytea.rbytea_vacuum_history"),
        "20",
        "rows of the restored database read their payloads from TRASH for ever"
    );
    found.leaked = leaked(&db, &place);
    assert_eq!(db.text("select problem, path from rbytea_check(digest => true)"), "");
    let vacuumed = judge(&db, 1..=20);
    (found.lost, found.dangling) = (found.lost + vacuumed.lost, found.dangling + vacuumed.dangling);
    // What the recovered cluster throws away goes as it always does, the files of the lost future with it.
    db.run("delete from p where n = 20");
    db.run("select rvacuum()");
    for _ in 0..2 {
        db.run("select rvacuum_purge()");
    }
    assert_eq!(files(&place), (19, 0), "the lost future has left files behind");
    assert_whole(&db, 1..=19);
    found
}

#[test]
fn recovery_to_before_a_deletion_finds_the_payloads_in_trash() {
    proves(Promise::Backups, back_to_before_deletions(true));
}

#[test]
fn recovery_to_before_a_deletion_with_the_store_of_the_old_data_directory_loses_nothing() {
    proves(Promise::Backups, back_to_before_deletions(false));
}

/// What has been deleted from TRASH is gone; the vacuum says so, and an older copy of the store brings it back.
#[test]
fn recovery_to_before_a_purge_needs_an_older_copy_of_the_store() {
    let mut archived = Archived::new(true);
    let db = archived.cluster.session();
    archived.restore_point("before");
    let older = archived.cluster.dir().join("older");
    copy_into(&archived.store, &older);
    db.run("delete from p where n <= 3");
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 3);
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 3);
    archived.cluster.stop(Shutdown::Fast);

    let (_cluster, db) = archived.recovered("before");
    let found = judge(&db, 1..=12);
    assert_eq!((found.cases, found.lost, found.dangling), (12, 0, 3), "undefined_file for what was purged");
    adopt(&db);
    db.notices();
    db.run("select rvacuum()");
    let warnings: Vec<String> = db.notices().iter().map(|notice| notice.message().to_owned()).collect();
    assert!(
        warnings.iter().any(|text| text.starts_with("3 payloads that rows refer to are neither")),
        "no WARNING tells of the lost payloads: {warnings:?}"
    );
    assert_eq!(
        db.text("select lost from rbytea.rbytea_vacuum_history where error is null order by id desc limit 1"),
        "3"
    );

    // OWNER stays the one of today.
    let owner = fs::read(archived.store.join("OWNER")).unwrap();
    crate::backup::restored::system(
        "rsync",
        &[
            "-a",
            "--ignore-existing",
            &format!("{}/", older.display()),
            &format!("{}/", archived.store.display()),
        ],
    );
    assert_eq!(fs::read(archived.store.join("OWNER")).unwrap(), owner);
    db.notices();
    db.run("select rvacuum()");
    assert!(db.notices().is_empty(), "a warning of payloads that are there");
    let read = assert_whole(&db, 1..=12);
    assert_eq!(leaked(&db, &archived.store), 0);
    proves_by_assertions(Promise::Backups, read);
}

/// The directory of a dropped database has another name, by which no read finds it; its files are given back by hand. Recovery has
/// written what the WAL has.
#[test]
fn recovery_to_before_a_database_was_dropped_needs_its_directory_back() {
    let mut archived = Archived::new(true);
    let db = archived.cluster.session();
    db.run("create database second");
    let second = archived.cluster.session_in("second");
    second.run("create extension rbytea");
    second.run(TABLE);
    store(&second, 1..=5);
    drop(second);
    let oid: u32 = db.one("select oid from pg_database where datname = 'second'", &[]);
    archived.restore_point("before");
    db.run("drop database second");
    db.run("select rvacuum()");
    archived.cluster.stop(Shutdown::Fast);
    assert!(
        !archived.store.join(oid.to_string()).exists(),
        "the test is about a directory that was put aside"
    );

    let (cluster, db) = archived.recovered("before");
    let second = cluster.session_in("second");
    assert_eq!(judge(&second, 1..=5).dangling, 1);
    let entries = fs::read_dir(&archived.store).unwrap().map(|entry| entry.unwrap());
    let aside = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().starts_with(&format!("{oid}-"));
    let dropped = entries.into_iter().find(aside).unwrap().path();
    let [from, to] =
        [dropped, archived.store.join(oid.to_string())].map(|path| format!("{}/", path.display()));
    crate::backup::restored::system("rsync", &["-a", "--remove-source-files", &from, &to]);
    let read = assert_whole(&second, 1..=5);
    adopt(&db);
    db.run("select rvacuum()");
    assert_eq!(leaked(&second, &archived.store), 0);
    second.run("delete from p where n = 1");
    assert_eq!(second.one::<i64>("select rvacuum()", &[]), 1);
    assert_whole(&second, 2..=5);
    assert_whole(&db, 1..=12);
    proves_by_assertions(Promise::Backups, read);
}

/// The lost future may have had a database of an OID that is given again.
#[test]
fn a_database_that_gets_the_oid_of_one_of_the_lost_future_has_its_own_payloads() {
    let mut archived = Archived::new(true);
    let db = archived.cluster.session();
    archived.restore_point("before");
    db.run("create database future oid = 70000");
    let future = archived.cluster.session_in("future");
    future.run("create extension rbytea");
    future.run(TABLE);
    store(&future, 1..=6);
    future.run("delete from p where n <= 2");
    future.run("select rvacuum()");
    drop(future);
    archived.cluster.stop(Shutdown::Fast);

    let (cluster, db) = archived.recovered("before");
    adopt(&db);
    db.run("create database again oid = 70000");
    let session = cluster.session_in("again");
    session.run("create extension rbytea");
    session.run(TABLE);
    store(&session, 1..=5);
    drop(session);
    db.run("create database copy template again oid = 70001");
    let mut found = Found::default();
    for name in ["again", "copy"] {
        let session = cluster.session_in(name);
        let before = judge(&session, 1..=5);
        found.leaked += leaked(&session, &archived.store);
        let after = judge(&session, 1..=5);
        found.cases += before.cases;
        found.lost += before.lost + after.lost;
        found.dangling += before.dangling + after.dangling;
    }
    assert_whole(&db, 1..=12);
    proves(Promise::Backups, found);
}
