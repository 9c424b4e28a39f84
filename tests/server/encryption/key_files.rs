//! A key file that cannot be used is a configuration error that names file and line; it never says what stands there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio_postgres::error::{DbError, SqlState};

use crate::support::broken_store::as_root;
use crate::support::cluster::Cluster;
use crate::support::encryption::{default_key_file, digits, encrypting, key_file, put, reload, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

const INSERT: &str = "insert into t values (9, payload(9), payload(9))";
const READ: &str = "select r::bytea from t where n = 1";
const RANGE: &str = "select substring(r from 2 for 2) from t where n = 1";
const SUM: &str = "select md5sum(r) from t where n = 1";
const KEYS: &str = "select * from rbytea_keys()";
const REENCRYPT: &str = "call rbytea_reencrypt('plain')";

/// A cluster with two encrypted rows in `t`, which alice may use, and a plain one in `plain`.
fn cluster() -> (Cluster, Session, Session) {
    let cluster = encrypting();
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run(
        "create table plain (n int, r rbytea); set rbytea.qss_mode = off; insert into plain values (1, 'x'); reset rbytea.qss_mode;
         create role alice login; grant all on t, plain to alice",
    );
    let alice = cluster.session_as("alice");
    (cluster, db, alice)
}

fn all_text(error: &DbError) -> String {
    format!("{error:?}")
}

/// No eight digits of this key, in a row, in any case.
#[track_caller]
fn assert_no_key_in(text: &str, what: &str) {
    let text = text.to_lowercase();
    for id in 1..=4 {
        let digits = digits(id);
        for at in 0..=digits.len() - 8 {
            assert!(!text.contains(&digits[at..at + 8]), "{what} has a part of key {id}:\n{text}");
        }
        let bytes: Vec<String> = (0..32)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap().to_string())
            .collect();
        assert!(!text.contains(&bytes[3..7].join(", ")), "{what} has bytes of key {id}:\n{text}");
    }
}

/// Whatever needs a key fails, with this said to the superuser and no path to others; nothing else does, and everything
/// works again after the repair.
#[track_caller]
fn assert_unusable(cluster: &Cluster, db: &Session, alice: &Session, said: &[&str]) {
    reload(cluster, &[db, alice]);
    let files = cluster.live();
    for sql in [INSERT, READ, RANGE, SUM, KEYS, REENCRYPT] {
        let error = db.error(sql);
        assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR, "{error:?} from {sql}");
        let text = all_text(&error);
        for part in said {
            assert!(text.contains(part), "{sql}: {part:?} is not in {text}");
        }
        assert_no_key_in(&text, "an error");
    }
    for sql in [INSERT, READ, RANGE, SUM] {
        let error = alice.error(sql);
        assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR, "{error:?} from {sql}");
        let text = all_text(&error);
        let path = default_key_file(cluster);
        for part in [path.to_str().unwrap(), cluster.data().to_str().unwrap(), "'keys'", "\"keys\""] {
            assert!(!text.contains(part), "{sql}: {part:?} is shown to ordinary users: {text}");
        }
        assert!(text.contains("rbytea.key_file"), "{sql}: whom to ask for what? {text}");
        assert_no_key_in(&text, "an error");
    }
    assert_eq!(cluster.live(), files, "a failure for want of a key leaves files");
    for session in [db, alice] {
        assert_eq!(session.text("select r from plain"), "\\x78", "a plain payload needs no key");
        assert_eq!(
            session.text("select len(r), len_full(r), qss_mode(r), r = b::rbytea, length(md5store(r)) from t where n = 1"),
            "1000|1008|1|t|32",
            "what is in the row, and the file as it is, need no key"
        );
        assert_eq!(
            session.execute("update t set n = n where n = 1", &[]),
            1,
            "a row can be updated without its key"
        );
    }
    db.run("begin; set local rbytea.qss_mode = off; insert into plain values (2, 'y'); rollback");
}

#[track_caller]
fn assert_repaired(cluster: &Cluster, db: &Session, alice: &Session) {
    set_keys(cluster, &[1]);
    reload(cluster, &[db, alice]);
    for session in [db, alice] {
        session.run(INSERT);
        session.assert_stored("t", 3);
        session.run("delete from t where n = 9");
    }
    assert_no_key_in(&cluster.log(), "the log");
}

#[test]
fn a_line_that_is_wrong_is_named_by_its_number() {
    let (cluster, db, alice) = cluster();
    let [first, second] = [digits(1), digits(2)];
    let file = default_key_file(&cluster);
    let name = format!("key file \\\"{}\\\"", file.display());
    let cases: [(String, &str, &str); 16] = [
        (format!("1 {first}\n2 {}\n", &second[..63]), "line 2", "too short"),
        (format!("1 {first}\n\n# comment\n2 {second}0\n"), "line 4", "too long"),
        (format!("1 {first}\n2\n"), "line 2", "missing key"),
        (format!("1 {first}\n1 {second}\n"), "line 2", "duplicate key id"),
        (format!("1 {first}\n2 {second}\n3 {first}\n"), "line 3", "duplicate key"),
        (format!("1 {first}\r\n2 {second}\r\nx {first}\r\n"), "line 3", "invalid key id"),
        (format!("{first}\n"), "line 1", "invalid key id"),
        (format!("{first} 1\n"), "line 1", "invalid key id"),
        (format!("0 {first}\n"), "line 1", "invalid key id"),
        (format!("-1 {first}\n"), "line 1", "invalid key id"),
        (format!("65536 {first}\n"), "line 1", "invalid key id"),
        (format!("1 {first} {second}\n"), "line 1", "unexpected text"),
        (format!("1 {first}\n2 {}zz\n", &second[..62]), "line 2", "not hexadecimal"),
        (format!("1 {first}\n2 {}é\n", &second[..62]), "line 2", "not hexadecimal"),
        (format!("1 {first}\n2 {}\n", "0".repeat(64)), "line 2", "zero"),
        (format!("1 {first}\0\n"), "line 1", "not hexadecimal"),
    ];
    for (text, line, reason) in cases {
        put(&cluster, &file, &text, 0o600);
        assert_unusable(&cluster, &db, &alice, &[&name, line, reason]);
    }
    for text in ["", "\n\n", "# nothing yet\n"] {
        put(&cluster, &file, text, 0o600);
        assert_unusable(&cluster, &db, &alice, &[&name, "contains no key", "Add a line"]);
    }
    put(&cluster, &file, &"#\n".repeat(600_000), 0o600);
    assert_unusable(&cluster, &db, &alice, &[&name, "is too large", "1048576"]);
    assert_repaired(&cluster, &db, &alice);
}

#[test]
fn a_file_that_others_could_read_or_that_is_none_is_refused() {
    let (cluster, db, alice) = cluster();
    let file = default_key_file(&cluster);
    let name = format!("key file \\\"{}\\\"", file.display());
    for mode in [0o640, 0o604, 0o644, 0o620, 0o660, 0o601] {
        put(&cluster, &file, &key_file(&[1]), mode);
        assert_unusable(
            &cluster,
            &db,
            &alice,
            &[&name, "has group or world access", "u=rw (0600)", "chmod 0600"],
        );
    }
    fs::remove_file(&file).unwrap();
    assert_unusable(&cluster, &db, &alice, &["could not open", &name, "No such file or directory"]);
    fs::create_dir(&file).unwrap();
    as_root("chmod", &["755", file.to_str().unwrap()]);
    assert_unusable(&cluster, &db, &alice, &[&name, "is not a regular file"]);
    fs::remove_dir(&file).unwrap();
    as_root("mkfifo", &["-m", "600", file.to_str().unwrap()]);
    let (uid, gid) = cluster.installation().server_user.unwrap_or_default();
    if uid > 0 {
        as_root("chown", &[&format!("{uid}:{gid}"), file.to_str().unwrap()]);
    }
    assert_unusable(&cluster, &db, &alice, &[&name, "is not a regular file"]);
    fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    assert_unusable(&cluster, &db, &alice, &["could not open", &name, "No such file or directory"]);
    fs::remove_file(&file).unwrap();

    put(&cluster, &file, &key_file(&[1]), 0o600);
    as_root("chown", &["65534:65534", file.to_str().unwrap()]);
    assert_unusable(&cluster, &db, &alice, &["could not open", &name, "Permission denied"]);
    as_root("chmod", &["666", file.to_str().unwrap()]);
    assert_unusable(&cluster, &db, &alice, &[&name, "must be owned by the database user or root", "chown"]);
    as_root("chown", &["0:65534", file.to_str().unwrap()]);
    assert_unusable(&cluster, &db, &alice, &[&name, "has group or world access"]);
    assert_repaired(&cluster, &db, &alice);
}

#[test]
fn root_may_own_the_file_and_share_it_with_the_servers_group() {
    let (cluster, db, alice) = cluster();
    let file = default_key_file(&cluster);
    let (_, gid) = cluster.installation().server_user.unwrap_or_default();
    as_root("chown", &[&format!("0:{gid}"), file.to_str().unwrap()]);
    as_root("chmod", &["640", file.to_str().unwrap()]);
    reload(&cluster, &[&db, &alice]);
    cluster.session().assert_stored("t", 2);
    as_root("chmod", &["660", file.to_str().unwrap()]);
    assert_unusable(&cluster, &db, &alice, &["has group or world access", "u=rw,g=r (0640)"]);
    assert_repaired(&cluster, &db, &alice);
}

#[test]
fn no_key_file_at_all() {
    let (cluster, db, alice) = cluster();
    cluster.set_conf("rbytea.key_file = ''");
    assert_unusable_unset(&cluster, &db, &alice);
    cluster.set_conf("rbytea.key_file = 'keys'");
    assert_repaired(&cluster, &db, &alice);
}

/// As [`assert_unusable`], but rbytea_keys() can say which keys are needed.
#[track_caller]
fn assert_unusable_unset(cluster: &Cluster, db: &Session, alice: &Session) {
    reload(cluster, &[db, alice]);
    for session in [db, alice] {
        for sql in [INSERT, READ, RANGE, SUM] {
            let error = session.error(sql);
            assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR, "{error:?} from {sql}");
            assert!(all_text(&error).contains("rbytea.key_file"), "{error:?}");
        }
        assert_eq!(session.text("select r from plain"), "\\x78", "a plain payload needs no key");
    }
    assert_eq!(db.text(KEYS), "1||2", "which keys are needed is known without a key file");
}

#[test]
fn the_file_may_be_named_in_any_way() {
    let (cluster, db, _) = cluster();
    let elsewhere = cluster.dir().join("else where");
    fs::create_dir(&elsewhere).unwrap();
    as_root("chmod", &["755", elsewhere.to_str().unwrap()]);
    let file = elsewhere.join("my 'keys'");
    put(&cluster, &file, &key_file(&[1]), 0o600);
    fs::remove_file(default_key_file(&cluster)).unwrap();
    let link = cluster.dir().join("link");
    symlink(&file, &link).unwrap();
    let quoted = |path: &Path| path.to_str().unwrap().replace('\'', "''");
    for named in [quoted(&file), quoted(&link), "../link".into(), quoted(&elsewhere.join("../link"))] {
        cluster.set_conf("rbytea.key_file = 'keys'");
        reload(&cluster, &[&db]);
        assert_eq!(db.sqlstate(READ), SqlState::CONFIG_FILE_ERROR);
        cluster.set_conf(&format!("rbytea.key_file = '{named}'"));
        reload(&cluster, &[&db]);
        for session in [&db, &cluster.session()] {
            session.assert_stored("t", 2);
        }
    }
    fs::remove_file(&link).unwrap();
    symlink("nowhere", &link).unwrap();
    db.assert_stored("t", 2);
    reload(&cluster, &[&db]);
    let error = db.error(READ);
    assert!(error.message().contains("else where/../link"), "{error:?}");
}
