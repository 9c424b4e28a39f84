//! rbytea_export(): the file has all bytes of the payload or is what it was, and nothing else is left.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokio_postgres::error::SqlState;

use crate::references::files::{file, literal, names_in, own_directory};
use crate::support::broken_store::as_root;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::file_of;
use crate::support::injector::{Injection, Rule};
use crate::support::processes::{Process, signal};
use crate::support::session::Session;
use crate::support::volumes::{Kind, Volume};

const LEN: usize = 1_200_000;

/// A cluster with a payload of [`LEN`] bytes in `t`, and a directory of the server's user.
fn with_payload() -> (Cluster, Session, PathBuf) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(&format!(
        "create table t (r rbytea); insert into t values (repeat('exported', {})::bytea)",
        LEN / 8
    ));
    let dir = own_directory(&cluster, "dir");
    (cluster, db, dir)
}

fn export(path: &Path) -> String {
    format!("select rbytea_export(r, {}) from t", literal(path))
}

#[test]
fn an_export_over_a_file_replaces_all_of_it_and_gives_it_the_mode_of_copy() {
    let (cluster, db, dir) = with_payload();
    let path = dir.join("file");
    file(&cluster, &path, &[b'x'; 2 * LEN]);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let reader = File::open(&path).unwrap();
    assert_eq!(db.text(&export(&path)), LEN.to_string());
    assert_eq!(fs::read(&path).unwrap(), b"exported".repeat(LEN / 8));
    assert_eq!(
        reader.metadata().unwrap().len(),
        2 * LEN as u64,
        "who has the old file open reads it to its end"
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    let link = dir.join("link");
    symlink("elsewhere", &link).unwrap();
    db.text(&export(&link));
    assert!(fs::symlink_metadata(&link).unwrap().is_file(), "a link is replaced, not what it leads to");
    assert_eq!(names_in(&dir), ["file", "link"]);
    assert_eq!(db.text("select rbytea_export(null, null) is null"), "t");
    assert_eq!(db.text(&format!("select rbytea_export('', {})", literal(&dir.join("empty")))), "0");
    assert_eq!(fs::read(dir.join("empty")).unwrap(), b"");
}

#[test]
fn names_of_every_length_are_exported_to() {
    let (_cluster, db, dir) = with_payload();
    for len in [200, 214, 215, 255] {
        let path = dir.join("n".repeat(len));
        assert_eq!(db.text(&export(&path)), LEN.to_string(), "a name of {len} bytes");
    }
    assert_eq!(db.sqlstate(&export(&dir.join("n".repeat(256)))), SqlState::IO_ERROR);
    assert_eq!(names_in(&dir).len(), 4);
}

#[test]
fn what_is_no_place_for_a_file_is_refused() {
    let (cluster, db, dir) = with_payload();
    let path = |name: &str| dir.join(name);
    file(&cluster, &path("file"), b"bytes");
    as_root("mkfifo", &["-m", "666", path("fifo").to_str().unwrap()]);
    fs::create_dir(path("directory")).unwrap();
    symlink(path("directory"), path("to a directory")).unwrap();
    as_root("sh", &["-c", "mkdir -m 755 \"$1\"", "sh", path("root's").to_str().unwrap()]);
    let before = names_in(&dir);
    for (path, code) in [
        ("relative".into(), SqlState::INVALID_NAME),
        ("".into(), SqlState::INVALID_NAME),
        ("../relative".into(), SqlState::INVALID_NAME),
        (path("missing").join("file"), SqlState::UNDEFINED_FILE),
        (path("file").join("below"), SqlState::UNDEFINED_FILE),
        (path("root's").join("file"), SqlState::INSUFFICIENT_PRIVILEGE),
        (path("directory"), SqlState::WRONG_OBJECT_TYPE),
        (path("to a directory"), SqlState::WRONG_OBJECT_TYPE),
        (path("fifo"), SqlState::WRONG_OBJECT_TYPE),
        ("/dev/null".into(), SqlState::WRONG_OBJECT_TYPE),
        ("/".into(), SqlState::WRONG_OBJECT_TYPE),
    ] {
        let error = db.error(&export(&path));
        assert_eq!(error.code(), &code, "{}: {error:?}", path.display());
    }
    assert_eq!(names_in(&dir), before);
}

#[test]
fn an_export_that_fails_leaves_the_old_file_and_no_other_one() {
    let (cluster, db, dir) = with_payload();
    let path = dir.join("file");
    file(&cluster, &path, b"the old one");
    let stored = file_of(&cluster, &db.text("select uuid(r) from t"));
    let bytes = fs::read(&stored).unwrap();
    let mut damaged = bytes.clone();
    damaged[LEN - 1] ^= 1;
    for (what, content, code) in [
        ("one bit", Some(&damaged[..]), SqlState::DATA_CORRUPTED),
        ("cut", Some(&bytes[..LEN - 1]), SqlState::DATA_CORRUPTED),
        ("gone", None, SqlState::UNDEFINED_FILE),
    ] {
        match content {
            Some(content) => fs::write(&stored, content).unwrap(),
            None => fs::remove_file(&stored).unwrap(),
        }
        assert_eq!(db.sqlstate(&export(&path)), code, "{what}");
        assert_eq!(db.sqlstate(&export(&dir.join("new"))), code, "{what}");
        assert_eq!(fs::read(&path).unwrap(), b"the old one", "{what}");
        assert_eq!(names_in(&dir), ["file"], "{what}");
    }
}

#[test]
fn an_export_to_a_full_file_system_leaves_the_old_file() {
    let (cluster, db, _) = with_payload();
    let dir = own_directory(&cluster, "full");
    let volume = Volume::mounted(Kind::Tmpfs, &dir, 1 << 20, None);
    as_root("chmod", &["777", dir.to_str().unwrap()]);
    let path = dir.join("file");
    fs::write(&path, b"the old one").unwrap();
    assert_eq!(db.sqlstate(&export(&path)), SqlState::DISK_FULL);
    assert_eq!(fs::read(&path).unwrap(), b"the old one");
    assert_eq!(names_in(&dir), ["file"]);
    drop(volume);
}

/// The writer is stopped behind one of its calls when the request comes.
#[test]
fn an_export_that_is_cancelled_or_terminated_leaves_the_old_file_and_no_other_one() {
    let (cluster, watcher, dir) = with_payload();
    let path = dir.join("file");
    file(&cluster, &path, b"the old one");
    let stored = file_of(&cluster, &watcher.text("select uuid(r) from t"));
    for (how, code) in
        [("pg_cancel_backend", SqlState::QUERY_CANCELED), ("pg_terminate_backend", SqlState::ADMIN_SHUTDOWN)]
    {
        let db = cluster.session();
        let pid = db.pid();
        let output = cluster.dir().join(how);
        let rule = Rule {
            call: "pread64",
            when: "2",
            action: "signal=SIGSTOP",
            paths: std::slice::from_ref(&stored),
        };
        let injection = Injection::into(pid, rule, &output);
        let running = db.start(&export(&path));
        let stopped = || fs::read_to_string(&output).is_ok_and(|trace| trace.contains("stopped by SIGSTOP"));
        wait_until(PATIENCE, stopped);
        assert_eq!(names_in(&dir).len(), 2, "the test is about an export that has begun");
        watcher.one::<bool>(&format!("select {how}($1)"), &[&pid]);
        signal(&cluster, &Process::of(pid), Signal::CONT);
        assert_eq!(running.finish().unwrap_err().code(), Some(&code), "{how}");
        injection.end();
        drop(db);
        wait_until(PATIENCE, || {
            watcher.one(
                "select not exists (select from pg_stat_activity where pid = $1 and state = 'active')",
                &[&pid],
            )
        });
        assert_eq!(fs::read(&path).unwrap(), b"the old one", "{how}");
        assert_eq!(names_in(&dir), ["file"], "{how}");
    }
}
