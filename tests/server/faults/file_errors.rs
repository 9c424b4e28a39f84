//! A payload file that is gone, or is not what was written, is an error of the rows that need it, of no others, and never
//! wrong bytes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use tokio_postgres::error::SqlState;

use crate::support::broken_store::{BrokenStore, assert_names};

const READ: &str = "select v from t where id = 1";
const RANGE: &str = "select substring(v from 2 for 2) from t where id = 1";
const SUM: &str = "select sha256sum(v) from t where id = 1";

#[test]
fn a_missing_file() {
    let store = BrokenStore::whole();
    for session in store.sessions() {
        fs::remove_file(store.file(session, "select uuid(v) from t where id = 1")).unwrap();
    }
    let uuid = store.superuser.text("select uuid(v) from t where id = 1");
    for sql in [
        READ,
        RANGE,
        SUM,
        "select md5store(v) from t",
        "insert into t select 3, v from t",
        "create table u as select v::bytea from t",
    ] {
        let error = store.assert_error(sql, &SqlState::UNDEFINED_FILE);
        assert_names(&error, &[&uuid, "is missing", "nor in TRASH", "Restore the file from a backup"]);
    }
    for session in store.sessions() {
        assert_eq!(
            session.text("select len(v), length(v), uuid(v) is not null from t where id = 1"),
            "5|5|t"
        );
        assert_eq!(
            session.text("select convert_from(v, 'utf8') from t where id = 2"),
            "second",
            "other rows are whole"
        );
        session.run("update t set v = 'first' where id = 1");
    }
    store.assert_repaired();
}

#[test]
fn a_file_that_is_shorter_or_longer() {
    let store = BrokenStore::whole();
    let files = store.sessions().map(|session| store.file(session, "select uuid(v) from t where id = 1"));
    for (content, len) in [("firs", "4 bytes"), ("", "0 bytes"), ("first!", "6 bytes")] {
        for file in &files {
            fs::write(file, content).unwrap();
        }
        for setting in ["checksum", "digest", "off"] {
            for session in store.sessions() {
                session.run(&format!("set rbytea.verify = {setting}"));
            }
            for sql in [READ, RANGE, SUM, "select sha256store(v) from t where id = 1"] {
                let error = store.assert_error(sql, &SqlState::DATA_CORRUPTED);
                assert_names(&error, &[len, "instead of 5", "Restore the file from a backup"]);
            }
        }
    }
    for file in &files {
        fs::write(file, "first").unwrap();
    }
    store.assert_repaired();
}

#[test]
fn a_file_with_other_bytes() {
    let store = BrokenStore::whole();
    let files = store.sessions().map(|session| store.file(session, "select uuid(v) from t where id = 1"));
    for file in &files {
        File::options().write(true).open(file).unwrap().write_all_at(b"t", 4).unwrap();
        File::options().write(true).open(file).unwrap().write_all_at(b"s", 3).unwrap();
        File::options().write(true).open(file).unwrap().write_all_at(b"F", 0).unwrap();
    }
    let uuid = store.superuser.text("select uuid(v) from t where id = 1");
    for (setting, by) in [("checksum", "checksum"), ("digest", "digest")] {
        for session in store.sessions() {
            session.run(&format!("set rbytea.verify = {setting}"));
        }
        for sql in [
            READ,
            "select v || '!' from t where id = 1",
            "select substring(v from 1) from t where id = 1",
            "select substring(v from -3 for 100) from t where id = 1",
        ] {
            let error = store.assert_error(sql, &SqlState::DATA_CORRUPTED);
            assert_names(&error, &[&uuid, by, "other bytes", "Restore the file from a backup"]);
        }
        for sql in [SUM, "select md5(v) from t where id = 1"] {
            let error = store.assert_error(sql, &SqlState::DATA_CORRUPTED);
            assert_names(&error, &[&uuid, "digest", "other bytes"]);
        }
    }
    for session in store.sessions() {
        session.run("set rbytea.verify = off");
        assert_eq!(
            session.text("select convert_from(v, 'utf8') from t where id = 1"),
            "First",
            "what is left can be had"
        );
    }
    for sql in [SUM, "select md5sum(v) from t where id = 1"] {
        store.assert_error(sql, &SqlState::DATA_CORRUPTED);
    }
    for session in store.sessions() {
        assert_eq!(
            session.text("select sha256store(v) = encode(sha256('First'), 'hex') from t where id = 1"),
            "t"
        );
        session.run("reset rbytea.verify");
    }
    for file in &files {
        fs::write(file, "first").unwrap();
    }
    store.assert_repaired();
}

#[test]
fn a_path_that_is_no_file_or_may_not_be_read() {
    let store = BrokenStore::whole();
    let files = store.sessions().map(|session| store.file(session, "select uuid(v) from t where id = 1"));
    for file in &files {
        fs::set_permissions(file, Permissions::from_mode(0o000)).unwrap();
    }
    assert_names(
        &store.assert_error(READ, &SqlState::INSUFFICIENT_PRIVILEGE),
        &["could not open file", "Permission denied", "server's user needs to own"],
    );
    for file in &files {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }
    assert_names(&store.assert_error(READ, &SqlState::IO_ERROR), &["could not open file", "directory"]);
    let password = store.cluster.dir().join("elsewhere");
    fs::write(&password, "first").unwrap();
    for file in &files {
        fs::remove_dir(file).unwrap();
        symlink(&password, file).unwrap();
    }
    assert_names(&store.assert_error(READ, &SqlState::IO_ERROR), &["could not open file"]);
    for file in &files {
        fs::remove_file(file).unwrap();
        fs::write(file, "first").unwrap();
        store.own();
        fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
    }
    store.assert_repaired();
}
