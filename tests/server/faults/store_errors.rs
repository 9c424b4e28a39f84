//! What is wrong with the root of the store, or with its file system, is said once and clearly, with its SQLSTATE and what to do; it costs the transaction and
//! nothing else, and when it is repaired the same sessions go on.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tokio_postgres::error::SqlState;

use crate::support::broken_store::{BrokenStore, INSERT, as_root, assert_names, text};
use crate::support::payload::Payload;
use crate::support::twins::noise;

const READ: &str = "select v from t where id = 1";
const RANGE: &str = "select substring(v from 2 for 2) from t where id = 1";
const SUM: &str = "select sha256sum(v) from t where id = 1";

#[test]
fn a_missing_root() {
    let store = BrokenStore::whole();
    let away = store.cluster.dir().join("away");
    fs::rename(&store.root, &away).unwrap();
    for sql in [INSERT, READ, RANGE, SUM, "select rbytea_store('x')"] {
        let error = store.assert_error(sql, &SqlState::CONFIG_FILE_ERROR);
        assert_names(&error, &[text(&store.root), "does not exist", "Create the directory", "mounted"]);
    }
    assert!(!store.root.exists(), "a root that is not mounted must not be created");
    fs::rename(&away, &store.root).unwrap();
    store.assert_repaired();
}

#[test]
fn a_root_that_is_no_directory() {
    let store = BrokenStore::whole();
    let away = store.cluster.dir().join("away");
    fs::rename(&store.root, &away).unwrap();
    fs::write(&store.root, "").unwrap();
    for sql in [INSERT, READ] {
        let error = store.assert_error(sql, &SqlState::CONFIG_FILE_ERROR);
        assert_names(
            &error,
            &[text(&store.root), "is not a directory", "must be a directory that the server's user owns"],
        );
    }
    fs::remove_file(&store.root).unwrap();

    // A link to a directory is as good as a directory, until it leads nowhere.
    symlink(&away, &store.root).unwrap();
    store.assert_repaired();
    fs::remove_file(&store.root).unwrap();
    symlink("nowhere", &store.root).unwrap();
    assert_names(&store.assert_error(READ, &SqlState::CONFIG_FILE_ERROR), &["does not exist"]);
    fs::remove_file(&store.root).unwrap();
    fs::rename(&away, &store.root).unwrap();
    store.assert_repaired();
}

#[test]
fn a_root_of_another_user() {
    let store = BrokenStore::whole();
    let me = fs::metadata(&store.root).unwrap();
    as_root("chown", &["65534", text(&store.root)]);
    for mode in [0o700, 0o777] {
        as_root("chmod", &[&format!("{mode:o}"), text(&store.root)]);
        for sql in [INSERT, READ] {
            let error = store.assert_error(sql, &SqlState::CONFIG_FILE_ERROR);
            assert_names(
                &error,
                &[
                    text(&store.root),
                    "wrong ownership",
                    "user 65534",
                    "must be a directory that the server's user owns",
                ],
            );
        }
    }
    as_root("chmod", &["700", text(&store.root)]);
    as_root("chown", &[&me.uid().to_string(), text(&store.root)]);
    store.assert_repaired();
}

#[test]
fn a_root_without_the_right_to_write() {
    let store = BrokenStore::whole();
    let database =
        fs::read_dir(&store.root).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap().path();
    fs::set_permissions(&database, Permissions::from_mode(0o500)).unwrap();
    for shard in fs::read_dir(&database).unwrap() {
        let shard = shard.unwrap().path();
        fs::set_permissions(&shard, Permissions::from_mode(0o500)).unwrap();
        for leaf in fs::read_dir(&shard).unwrap() {
            fs::set_permissions(leaf.unwrap().path(), Permissions::from_mode(0o500)).unwrap();
        }
    }
    let error = store.assert_error(INSERT, &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_names(&error, &["could not create", "Permission denied", "server's user needs to own"]);
    for session in store.sessions() {
        assert_eq!(
            session.text("select convert_from(v, 'utf8') from t where id = 1"),
            "first",
            "what is there can be read"
        );
    }
    as_root("chmod", &["-R", "u+rwX", text(&store.root)]);
    store.assert_repaired();
}

#[test]
fn a_read_only_file_system() {
    let store = BrokenStore::on_small_file_system(1 << 20);
    store.remount("ro");
    let error = store.assert_error(INSERT, &SqlState::IO_ERROR);
    assert_names(&error, &["could not create", "Read-only file system", "Remount"]);
    for session in store.sessions() {
        assert_eq!(
            session.text("select convert_from(v, 'utf8') from t where id = 1"),
            "first",
            "what is there can be read"
        );
    }
    store.remount("rw");
    store.assert_repaired();
}

#[test]
fn a_full_file_system() {
    let store = BrokenStore::on_small_file_system(1 << 20);
    let error = store.assert_error(
        "insert into t select 4, convert_to(repeat('x', 2000000), 'utf8')",
        &SqlState::DISK_FULL,
    );
    assert_names(&error, &["could not write file", "No space left on device", "Free space"]);
    for session in store.sessions() {
        session.execute("insert into t values (5, $1)", &[&Payload(noise(400_000, 5))]);
        assert_eq!(
            session.text("select length(v) from t where id = 5 and md5(v) = md5(v::bytea)"),
            "400000",
            "the payload that did not fit still takes its space"
        );
        assert_eq!(
            session.sqlstate("insert into t select 6, v || v || v from t where id = 5"),
            SqlState::DISK_FULL
        );
        session.run("delete from t where id = 5");
    }
    store.remount("size=8m");
    store.assert_repaired();
}

/// I1: a store that fails between the statement and its commit fails the commit.
#[test]
fn a_store_that_goes_away_before_the_commit() {
    let store = BrokenStore::whole();
    let away = store.cluster.dir().join("away");
    for session in store.sessions() {
        session.run("begin; insert into t values (3, 'third')");
        fs::rename(&store.root, &away).unwrap();
        fs::create_dir(&store.root).unwrap();
        store.own();
        let outcome = session.try_run("commit");
        fs::remove_dir_all(&store.root).unwrap();
        fs::rename(&away, &store.root).unwrap();
        let readable = session.text("select count(*), count(*) filter (where sha256sum(v) = encode(sha256('third'), 'hex')) from t where id = 3");
        match outcome {
            Ok(()) => assert_eq!(readable, "1|1", "a committed row has lost its payload"),
            Err(_) => assert_eq!(readable, "0|0", "a failed commit has left a row"),
        }
        session.run("delete from t where id = 3");
    }
    store.assert_repaired();
}
