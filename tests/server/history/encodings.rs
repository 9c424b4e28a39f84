//! Errors of the vacuum in databases whose encoding is not UTF-8: the history's rows can be read, and so can everything else.

use std::fs;
use std::os::unix::fs::chown;

use crate::support::access_method::OtherAccessMethod;
use crate::support::background::Watching;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, Twins};

/// Encodings with words that they have letters for.
const ENCODINGS: &[(&str, &str)] = &[
    ("LATIN1", "Größe"),
    ("WIN1251", "Имя"),
    ("SQL_ASCII", "Größe Имя 数"),
    ("EUC_JP", "スト数"),
    ("UTF8", "Größe Имя 数"),
];

/// A database with the extension and a table of twins.
fn database(cluster: &Cluster, encoding: &str) -> Session {
    let create = format!("create database {encoding} encoding '{encoding}' locale 'C' template template0");
    cluster.session().run(&create);
    let db = cluster.session_in(&encoding.to_lowercase());
    db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    db.run(PAYLOAD_FUNCTION);
    db
}

/// The error of the newest run, once so many have failed, as the history and the view show it.
#[track_caller]
fn failure(db: &Session, count: i64) -> String {
    let failures = "select count(*) from rbytea.rbytea_vacuum_history where error is not null";
    wait_until(PATIENCE, || db.one::<i64>(failures, &[]) >= count);
    db.run("table rbytea.rbytea_vacuum_history; table rbytea.rbytea_stat");
    assert!(!db.copy_out("copy rbytea.rbytea_vacuum_history to stdout").is_empty());
    let newest =
        "select error from rbytea.rbytea_vacuum_history where error is not null order by id desc limit 1";
    let error = db.one::<String>(newest, &[]);
    assert_eq!(db.text("select last_error from rbytea.rbytea_stat"), error);
    error
}

/// Text as it is stored where the database has another encoding than UTF-8.
fn escaped(bytes: &[u8]) -> String {
    let shown = |&byte: &u8| match byte {
        0..=0x7f => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(shown).collect()
}

#[test]
fn a_table_s_name_in_an_error_can_be_read_in_every_encoding() {
    let cluster = Cluster::running();
    let other = OtherAccessMethod::compile(cluster.installation());
    for (encoding, word) in ENCODINGS {
        let db = database(&cluster, encoding);
        db.fill("t", 1..=2);
        db.run("delete from t where n = 1");
        other.create_table(&db, &format!("\"{word}\""));
        let raised = db.error("select rvacuum()");
        assert_eq!(raised.code().code(), "0A000", "{encoding}");
        let stored: Vec<u8> = db.one(&format!("select convert_to('{word}', '{encoding}')"), &[]);
        let shown = if *encoding == "UTF8" { (*word).to_owned() } else { escaped(&stored) };
        let told = failure(&db, 1);
        assert!(told.contains(&shown), "{encoding}: {told}");
        assert!(raised.message().contains(&shown), "{encoding}: {}", raised.message());

        db.run(&format!("drop table \"{word}\""));
        assert_eq!(db.rvacuum(), 1, "{encoding}");
        db.assert_stored("t", 1);
    }
}

/// The path of the store is a setting of the cluster: the same bytes for every database.
#[test]
fn a_path_in_an_error_can_be_read_in_every_encoding() {
    let mut cluster = Cluster::stopped_with(&["rbytea.vacuum_naptime = '1s'"]);
    let root = cluster.dir().join("Größe Имя 数");
    fs::create_dir(&root).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        chown(&root, Some(uid), Some(gid)).unwrap();
    }
    cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", root.display()));
    cluster.start();
    let all: Vec<(&str, Session)> =
        ENCODINGS.iter().map(|(encoding, _)| (*encoding, database(&cluster, encoding))).collect();
    for (_, db) in &all {
        db.fill("t", 1..=2);
    }
    let away = cluster.dir().join("away");
    fs::rename(&root, &away).unwrap();

    for (encoding, db) in &all {
        let raised = db.error("select rvacuum()");
        assert_eq!(raised.code().code(), "F0000", "{encoding}: {raised:?}");
        assert!(raised.message().starts_with("storage directory"), "{encoding}: {}", raised.message());
        let told = failure(db, 1);
        let shown = if *encoding == "UTF8" { "Größe".to_owned() } else { escaped("Größe".as_bytes()) };
        assert!(told.contains(&shown), "{encoding}: {told}");
    }
    let names: Vec<String> = all.iter().map(|(encoding, _)| encoding.to_lowercase()).collect();
    cluster.set_conf(&format!("rbytea.databases_for_vacuuming = '{}'", names.join(", ")));
    cluster.reload();
    for (encoding, db) in &all {
        let told = failure(db, 2);
        let shown =
            if *encoding == "UTF8" { root.to_str().unwrap().to_owned() } else { escaped("数".as_bytes()) };
        assert!(told.contains(&shown), "{encoding}: {told}");
    }
    fs::rename(&away, &root).unwrap();
    for (_, db) in &all {
        db.run_and_tell("delete from t where n = 1");
        let trashed = "select coalesce(sum(trashed), 0)::bigint from rbytea.rbytea_vacuum_history";
        wait_until(PATIENCE, || db.one::<i64>(trashed, &[]) == 1);
        db.assert_stored("t", 1);
    }
    assert!(!cluster.log().contains("was terminated by"), "the server has not lived on");
}
