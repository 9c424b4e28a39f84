//! A visit that fails says why, in the log and in the history, has moved nothing, and keeps no other database waiting.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::access_method::OtherAccessMethod;
use crate::support::background::{Background, Watching, cluster_with, create_database};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::Twins;

const BOTH: &[&str] = &["rbytea.databases_for_vacuuming = 'other, postgres'"];

/// Two databases with four rows each; sessions in `postgres` and `other`.
fn two_databases() -> (Cluster, Session, Session) {
    let cluster = cluster_with(BOTH);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    for db in [&db, &other] {
        db.fill("t", 1..=4);
    }
    cluster.await_visit("postgres");
    (cluster, db, other)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The error of the last run that failed, as soon as there is one.
fn await_failure(db: &Session) -> String {
    wait_until(PATIENCE, || db.one("select last_error is not null from rbytea.rbytea_stat", &[]));
    db.one("select last_error from rbytea.rbytea_stat", &[])
}

#[test]
fn a_directory_that_cannot_be_read_fails_the_visit_and_moves_nothing() {
    let (cluster, db, other) = two_databases();
    let leaf = cluster.files_of(&other).live[3].parent().unwrap().to_owned();
    chmod(&leaf, 0o000);
    other.run_and_tell("delete from t where n <= 2");
    db.run_and_tell("delete from t where n <= 2");

    let error = await_failure(&other);
    assert!(error.contains("Permission denied") || error.contains("permission denied"), "{error}");
    let row = "select origin, xid is null, moved_at is null, trashed from rbytea.rbytea_vacuum_history where error is not null limit 1";
    assert_eq!(other.text(row), "background|t|t|0");
    wait_until(PATIENCE, || cluster.files_of(&db).live.len() == 2);
    chmod(&leaf, 0o700);
    let files = cluster.files_of(&other);
    assert!(
        files.live.len() == 4 || files.live.len() == 2,
        "a visit that failed has moved part of the garbage"
    );
    let first: String = error.lines().next().unwrap().split(';').next().unwrap().to_owned();
    assert!(cluster.log().contains(&first), "the log does not say {first}");

    wait_until(PATIENCE, || cluster.files_of(&other).live.len() == 2);
    other.assert_stored("t", 2);
    db.assert_stored("t", 2);
    let last = "select last_success > last_failure from rbytea.rbytea_stat";
    wait_until(PATIENCE, || other.one(last, &[]));
}

#[test]
fn a_file_in_a_directory_s_place_fails_nothing_or_says_so() {
    let (cluster, db, other) = two_databases();
    let kept = other.uuids("r", "t where n = 4").remove(0);
    let leaf = cluster.files_of(&other).find(&kept).unwrap().parent().unwrap().to_owned();
    let aside = cluster.dir().join("aside");
    fs::rename(&leaf, &aside).unwrap();
    fs::write(&leaf, "a file").unwrap();
    db.run_and_tell("delete from t where n <= 2");
    other.run_and_tell("delete from t where n <= 2");
    wait_until(PATIENCE, || cluster.files_of(&db).live.len() == 2);
    cluster.await_visit("other");
    fs::remove_file(&leaf).unwrap();
    fs::rename(&aside, &leaf).unwrap();
    let told = cluster.logged("neither in the store nor in TRASH") > 0
        || other.one("select last_error is not null from rbytea.rbytea_stat", &[]);
    assert!(told, "no message tells of payloads that cannot be read");
    other.assert_stored("t", 2);
    db.run("select 1");
}

#[test]
fn a_store_that_is_not_there_fails_the_visit() {
    let (cluster, db, other) = two_databases();
    let elsewhere = cluster.dir().join("elsewhere");
    let gone = cluster.data().join("gone");
    cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", gone.display()));
    cluster.reload();
    // A worker that has begun goes by the old setting.
    cluster.await_visit("postgres");
    db.run_and_tell("delete from t where n <= 2");
    let error = await_failure(&db);
    assert!(error.contains("gone"), "{error}");
    let row = "select origin, finished - started < interval '1 min' from rbytea.rbytea_vacuum_history
                where error is not null order by id desc limit 1";
    assert_eq!(db.text(row), "background|t", "who failed, and when");
    assert!(!gone.exists(), "a store that is not mounted must not be made");
    assert!(cluster.trash().is_empty());

    fs::rename(cluster.store(), &elsewhere).unwrap();
    cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", elsewhere.display()));
    cluster.reload();
    wait_until(PATIENCE, || {
        StoreFiles::walk(&elsewhere).values().map(|files| files.live.len()).sum::<usize>() == 6
    });
    cluster.session().assert_stored("t", 2);
    cluster.session_in("other").assert_stored("t", 4);
    drop(other);
}

#[test]
fn a_table_that_cannot_be_read_fails_the_visit_and_moves_nothing() {
    let (cluster, db, other) = two_databases();
    let method = OtherAccessMethod::compile(cluster.installation());
    method.create_table(&other, "odd");
    other.run_and_tell("delete from t where n = 1");
    db.run_and_tell("delete from t where n = 1");
    let error = await_failure(&other);
    assert!(error.contains("public.odd"), "{error}");
    wait_until(PATIENCE, || cluster.files_of(&db).live.len() == 3);
    assert_eq!(cluster.files_of(&other).live.len(), 4);
    other.run("drop table odd");
    wait_until(PATIENCE, || cluster.files_of(&other).live.len() == 3);
    db.assert_stored("t", 3);
    other.assert_stored("t", 3);
}

#[test]
fn a_store_of_another_cluster_is_said_once_and_left_alone() {
    let (cluster, db, other) = two_databases();
    let owner = cluster.store().join("OWNER");
    let mine = fs::read_to_string(&owner).unwrap();
    let mut theirs: serde_json::Value = serde_json::from_str(&mine).unwrap();
    theirs["timeline"] = 7.into();
    fs::write(&owner, theirs.to_string()).unwrap();
    db.run_and_tell("delete from t where n <= 2");
    let said = "The payload store belongs to another cluster";
    wait_until(PATIENCE, || cluster.logged(said) == 2);
    for _ in 0..2 {
        cluster.await_visit("postgres");
    }
    assert_eq!(cluster.logged(said), 2, "once for each database");
    assert!(cluster.trash().is_empty() && cluster.live().len() == 8);

    db.run("select rbytea_adopt_store()");
    wait_until(PATIENCE, || cluster.live().len() == 6);
    other.assert_stored("t", 4);
}

#[test]
fn an_owner_that_cannot_be_read_fails_the_visit() {
    let (cluster, db, _other) = two_databases();
    let owner = cluster.store().join("OWNER");
    let mine = fs::read_to_string(&owner).unwrap();
    fs::write(&owner, "not JSON").unwrap();
    db.run_and_tell("delete from t where n <= 2");
    let error = await_failure(&db);
    assert!(error.contains("OWNER"), "{error}");
    assert!(cluster.trash().is_empty());
    fs::write(&owner, mine).unwrap();
    wait_until(PATIENCE, || cluster.live().len() == 6);
    db.assert_stored("t", 2);
}

#[test]
fn a_trash_that_takes_nothing_fails_the_visit_and_loses_nothing() {
    let (cluster, db, other) = two_databases();
    other.run_and_tell("delete from t where n = 1");
    wait_until(PATIENCE, || cluster.files_of(&other).live.len() == 3);
    cluster.await_visit("other");
    wait_until(PATIENCE, || cluster.files_of(&other).trash.is_empty());
    let trash = cluster.files_of(&other).live[0].ancestors().nth(3).unwrap().join("TRASH");
    chmod(&trash, 0o500);
    other.run_and_tell("delete from t where n = 2");
    db.run_and_tell("delete from t where n = 2");
    let error = await_failure(&other);
    assert!(error.contains("could not rename file"), "{error}");
    wait_until(PATIENCE, || cluster.files_of(&db).live.len() == 3);
    other.assert_stored("t", 2);
    assert_eq!(cluster.files_of(&other).live.len(), 3);
    chmod(&trash, 0o700);
    wait_until(PATIENCE, || cluster.files_of(&other).live.len() == 2);
    wait_until(PATIENCE, || cluster.files_of(&other).trash.is_empty());
    other.assert_stored("t", 2);
}
