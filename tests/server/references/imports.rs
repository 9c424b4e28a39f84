//! rbytea_import(): what it takes, and what it refuses.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use tokio_postgres::error::SqlState;

use crate::references::files::{file, literal, own_directory};
use crate::support::broken_store::{as_root, root_command};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::{encrypting, file_of};
use crate::support::injector::{Injection, Rule};
use crate::support::processes::{Process, signal};
use crate::support::twin_tables::Twins;
use crate::support::twins::noise;

/// Around what is kept in memory, 256 KiB, and what is copied at once.
const SIZES: [usize; 9] = [0, 1, 78, 262_143, 262_144, 262_145, 524_288, 1_048_577, 3_000_001];

#[test]
fn files_of_every_size_are_imported_and_exported_as_they_are() {
    for cluster in [Cluster::with_extension(), encrypting()] {
        let db = cluster.session();
        db.run("create table f (n int primary key, r rbytea)");
        let dir = own_directory(&cluster, "Dateien, ünïcödé '%n");
        for (n, len) in SIZES.into_iter().enumerate() {
            let (from, to) = (dir.join(format!("in {n} – ß")), dir.join(format!("out {n} – ß")));
            let bytes = noise(len, 5 + n as u64);
            file(&cluster, &from, &bytes);
            db.run(&format!("insert into f values ({n}, rbytea_import({}))", literal(&from)));
            let export = format!("select rbytea_export(r, {}) from f where n = {n}", literal(&to));
            assert_eq!(db.text(&export), len.to_string());
            assert!(fs::read(&to).unwrap() == bytes, "{len} bytes are not what they were");
            // What is stored belongs to the store, whatever becomes of the file.
            fs::write(&from, b"changed").unwrap();
            fs::write(&to, b"changed").unwrap();
            assert_eq!(
                db.text(&format!(
                    "select sha256sum(r) = encode(sha256('\\x{}'), 'hex') from f where n = {n}",
                    hex(&bytes)
                )),
                "t"
            );
        }
        assert_eq!(db.text("select count(*), count(uuid(r)) from f"), format!("{0}|{0}", SIZES.len()));
        assert_eq!(db.rvacuum(), 0);
        assert_eq!(db.text("select problem from rbytea_check(digest => true)"), "");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The payload that is imported where keys are set is encrypted.
#[test]
fn an_imported_file_is_encrypted_where_payloads_are() {
    let cluster = encrypting();
    let db = cluster.session();
    let path = own_directory(&cluster, "dir").join("file");
    let bytes = noise(300_000, 3);
    file(&cluster, &path, &bytes);
    db.run(&format!("insert into t values (1, null, rbytea_import({}))", literal(&path)));
    let stored = file_of(&cluster, &db.text("select uuid(r) from t"));
    assert!(!crate::support::encryption::shows(&stored, &bytes[..4096]));
    assert_eq!(
        db.text("select sha256sum(r) from t"),
        crate::support::encryption::checksum("sha256sum", &path)
    );
}

#[test]
fn the_functions_are_for_those_who_read_and_write_files_of_the_server() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let dir = own_directory(&cluster, "dir");
    file(&cluster, &dir.join("file"), b"bytes");
    db.run("create role mallory login; create role reader login in role pg_read_server_files; create role writer login in role pg_write_server_files");
    let import = format!("select convert_from(rbytea_import({}), 'utf8')", literal(&dir.join("file")));
    let export = format!("select rbytea_export('exported', {})", literal(&dir.join("exported")));
    for (role, imports, exports) in
        [("mallory", false, false), ("reader", true, false), ("writer", false, true)]
    {
        let user = cluster.session_as(role);
        for (sql, may, result) in [(&import, imports, "bytes"), (&export, exports, "8")] {
            if may {
                assert_eq!(user.text(sql), result, "{role}");
            } else {
                assert_eq!(user.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{role}: {sql}");
            }
        }
    }
    assert_eq!(fs::read(dir.join("exported")).unwrap(), b"exported");
}

#[test]
fn what_is_no_readable_file_is_refused_at_once() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let dir = own_directory(&cluster, "dir");
    let path = |name: &str| dir.join(name);
    file(&cluster, &path("file"), b"bytes");
    as_root("mkfifo", &["-m", "666", path("fifo").to_str().unwrap()]);
    symlink("/dev/zero", path("to a device")).unwrap();
    symlink(path("fifo"), path("to a fifo")).unwrap();
    symlink(path("nowhere"), path("to nothing")).unwrap();
    symlink(path("loop"), path("loop")).unwrap();
    as_root("sh", &["-c", "umask 077; echo secret >\"$1\"", "sh", path("root's").to_str().unwrap()]);
    let root_s = root_command("stat").args(["-c", "%u"]).arg(path("root's")).output().unwrap();
    let foreign = String::from_utf8_lossy(&root_s.stdout).trim() == "0";
    for (path, code) in [
        (path("missing"), SqlState::UNDEFINED_FILE),
        (path("file").join("below"), SqlState::UNDEFINED_FILE),
        (path("to nothing"), SqlState::UNDEFINED_FILE),
        ("".into(), SqlState::UNDEFINED_FILE),
        (path("loop"), SqlState::IO_ERROR),
        (path(&"long".repeat(100)), SqlState::IO_ERROR),
        (dir.clone(), SqlState::WRONG_OBJECT_TYPE),
        (path("fifo"), SqlState::WRONG_OBJECT_TYPE),
        (path("to a fifo"), SqlState::WRONG_OBJECT_TYPE),
        (path("to a device"), SqlState::WRONG_OBJECT_TYPE),
        ("/dev/null".into(), SqlState::WRONG_OBJECT_TYPE),
        (path("root's"), if foreign { SqlState::INSUFFICIENT_PRIVILEGE } else { SqlState::UNDEFINED_FILE }),
    ] {
        let error = db.error(&format!("select rbytea_import({})", literal(&path)));
        assert_eq!(error.code(), &code, "{}: {error:?}", path.display());
    }
    assert!(cluster.live().is_empty());
    // A link is followed, as by COPY; a relative path starts at the data directory.
    symlink(path("file"), path("to a file")).unwrap();
    assert_eq!(db.text(&format!("select len(rbytea_import({}))", literal(&path("to a file")))), "5");
    assert_eq!(db.text("select convert_from(rbytea_import('PG_VERSION'), 'utf8') like '1%'"), "t");
    // A file that says that it has no bytes, and has some.
    assert_eq!(db.text("select convert_from(rbytea_import('/proc/version'), 'utf8') like 'Linux%'"), "t");
    db.run("begin read only");
    assert_eq!(db.sqlstate("select rbytea_import('PG_VERSION')"), SqlState::READ_ONLY_SQL_TRANSACTION);
    db.run("rollback");
}

/// The reader is stopped behind its first call while the file changes.
#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_refused() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table f (r rbytea)");
    let path = own_directory(&cluster, "dir").join("file");
    for (from, to) in [(3 << 20, 2 << 20), (3 << 20, 4 << 20), (100_000, 120_000)] {
        file(&cluster, &path, &noise(from, 1));
        let pid = db.pid();
        let output = cluster.dir().join(format!("trace{to}"));
        let rule =
            Rule { call: "read", when: "1", action: "signal=SIGSTOP", paths: std::slice::from_ref(&path) };
        let injection = Injection::into(pid, rule, &output);
        let running = db.start(&format!("insert into f values (rbytea_import({}))", literal(&path)));
        let stopped = || fs::read_to_string(&output).is_ok_and(|trace| trace.contains("stopped by SIGSTOP"));
        wait_until(PATIENCE, stopped);
        File::options().write(true).open(&path).unwrap().set_len(to).unwrap();
        signal(&cluster, &Process::of(pid), Signal::CONT);
        let failed = running.finish().unwrap_err();
        injection.end();
        assert_eq!(failed.code(), Some(&SqlState::OBJECT_IN_USE), "{from} to {to}: {failed:?}");
        assert_eq!(db.text("select count(*) from f"), "0");
        db.rvacuum();
        assert!(cluster.live().is_empty(), "garbage is left for ever");
    }
}
