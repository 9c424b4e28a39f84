//! Dumps by reference into a second cluster, out of a copy of the first one's store.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::{
    LENGTHS, NOT_LOGGED, accept, assert_restored, bytes_below, contents, database, directory, dump, fill,
    links, problems, reference, restore, restoring, source_with,
};
use crate::support::broken_store::as_root;
use crate::support::cluster::{Cluster, Shutdown};
use crate::support::encryption::{ENCRYPTING, default_key_file, digits, put, set_keys};
use crate::support::session::Session;

/// A copy of the store's directory of this database, made with these options of cp(1).
fn copied(cluster: &Cluster, db: &Session, options: &str) -> PathBuf {
    let from = directory(cluster, db);
    let to = cluster.dir().join(format!("copy{options}"));
    let copy = Command::new("cp").arg(options).args([&from, &to]).status().unwrap();
    assert!(copy.success());
    to
}

fn payload_files(directory: &Path) -> Vec<PathBuf> {
    bytes_below(directory).into_iter().map(|(path, _)| path).collect()
}

/// Changes the modes of a copy's files, so that they cannot be those of a store.
fn change_modes(directory: &Path) {
    for file in payload_files(directory) {
        fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
    }
}

#[test]
fn a_new_cluster_has_every_payload_out_of_a_copy_by_links_or_by_bytes() {
    let (source, db) = source_with(&[NOT_LOGGED]);
    let kept = contents(&db);
    let before = bytes_below(&directory(&source, &db));
    let path = dump(&source, "archive", &["-Fc"]);
    let linked = copied(&source, &db, "-al");
    let bytes = copied(&source, &db, "-a");
    change_modes(&bytes);
    let of_the_copy = bytes_below(&bytes);

    let mut target = Cluster::stranger_with(&[NOT_LOGGED]);
    for (name, from, mode, nlink) in [("links", &linked, "verify", 3), ("bytes", &bytes, "on", 1)] {
        target.session().run(&format!("create database {name}"));
        restore(&target, &restoring(mode, Some(from)), name, &path, &["--single-transaction"]);
        let copy = target.session_in(name);
        assert_restored(&copy, &kept);
        let files = target.files_of(&copy).live;
        assert_eq!(files.len(), LENGTHS.len());
        for file in &files {
            assert_eq!(links(file).0, nlink, "{name}: {}", file.display());
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600, "{name}: a mode that no store has");
        }
    }
    assert_eq!(bytes_below(&directory(&source, &db)), before, "the source is not what it was");
    assert_eq!(bytes_below(&bytes), of_the_copy, "the copy is not what it was");
    drop((db, source));
    target.stop(Shutdown::Immediate);
    target.start();
    for name in ["links", "bytes"] {
        let copy = target.session_in(name);
        assert_restored(&copy, &kept);
        for sql in [
            "update t set r = r::bytea || 'x'",
            "delete from t where n < 3",
            "select rvacuum()",
            "vacuum full t",
        ] {
            copy.run(sql);
        }
        assert_eq!(problems(&copy), "");
    }
    proves_by_assertions(Promise::Backups, 4 * LENGTHS.len() as u64);
}

/// What the fresh cluster calls the future is the source's past.
#[test]
fn births_that_the_new_cluster_has_not_reached_are_no_obstacle() {
    let source = Cluster::running_with(&[NOT_LOGGED]);
    source
        .session()
        .run("do $$ begin for i in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$");
    let db = database(&source, "source");
    fill(&db);
    let kept = contents(&db);
    let path = dump(&source, "plain.sql", &[]);
    let target = Cluster::running_with(&[NOT_LOGGED]);
    let copy = database(&target, "copy");
    let birth =
        |file: &Path| u64::from_str_radix(&file.file_name().unwrap().to_str().unwrap()[..16], 16).unwrap();
    let oldest = source.files_of(&db).live.iter().map(|file| birth(file)).min().unwrap();
    let now = copy.one::<String>("select pg_current_xact_id()::text", &[]).parse::<u64>().unwrap();
    assert!(now + 100 < oldest, "the test is about a cluster that is behind");
    restore(&target, &restoring("on", Some(&directory(&source, &db))), "copy", &path, &[]);
    assert_restored(&copy, &kept);
    for file in target.files_of(&copy).live {
        assert!(
            birth(&file) > now && birth(&file) < oldest,
            "no transaction of this cluster has stored {}",
            file.display()
        );
    }
}

/// What was put by hand where it would be is not taken for a payload of a transaction that is yet to come.
#[test]
fn files_of_the_future_in_the_own_store_get_a_birth_of_this_cluster() {
    let source = Cluster::running_with(&[]);
    source
        .session()
        .run("do $$ begin for i in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$");
    let db = database(&source, "source");
    db.run(
        "create table t (n int, r rbytea); insert into t values (1, repeat('of the future', 9000)::bytea)",
    );
    let text = reference(&db, "r from t");
    let target = Cluster::running_with(&[]);
    let copy = database(&target, "copy");
    copy.run("create table t (n int, r rbytea); insert into t values (0, 'claims the store')");
    let own = directory(&target, &copy);
    as_root("cp", &["-a", &format!("{}/.", directory(&source, &db).display()), own.to_str().unwrap()]);
    accept(&copy, "on", None);
    let sql = format!("insert into t values (1, '{text}')");
    assert_eq!(copy.sqlstate(&sql), SqlState::UNDEFINED_FILE);
    accept(&copy, "verify", Some(&own));
    copy.run(&sql);
    assert_eq!(copy.text("select sha256sum(r) from t where n = 1"), db.text("select sha256sum(r) from t"));
    copy.run("select rvacuum()");
    assert_eq!(copy.text("select problem from rbytea_check(target => 't', digest => true)"), "");
}

/// A cluster that has key 1, which its payloads are encrypted with, and the dump of its database.
fn encrypted_source() -> (Cluster, Session, String) {
    let mut source = Cluster::stopped_with(&[ENCRYPTING, &[NOT_LOGGED]].concat());
    set_keys(&source, &[1]);
    source.start();
    let db = database(&source, "source");
    fill(&db);
    let path = dump(&source, "archive", &["-Fc"]);
    (source, db, path)
}

fn encrypted_target(key_file: &str) -> Cluster {
    let mut target = Cluster::stopped_with(&[ENCRYPTING, &[NOT_LOGGED]].concat());
    put(&target, &default_key_file(&target), key_file, 0o600);
    target.start();
    target
}

#[test]
fn encrypted_payloads_are_restored_with_their_key_and_stay_encrypted() {
    let (source, db, path) = encrypted_source();
    let (kept, from) = (contents(&db), directory(&source, &db));
    let before = bytes_below(&from);
    // A newer key does not matter.
    let target = encrypted_target(&format!("1 {}\n2 {}\n", digits(1), digits(2)));
    let copy = database(&target, "copy");
    restore(&target, &restoring("verify", Some(&from)), "copy", &path, &["-j2"]);
    assert_restored(&copy, &kept);
    assert_eq!(
        copy.text("select distinct qss_mode(r) from t where uuid(r) is not null"),
        db.text("select distinct qss_mode(r) from t where uuid(r) is not null")
    );
    assert_eq!(bytes_below(&from), before);
    proves_by_assertions(Promise::Backups, LENGTHS.len() as u64);
}

#[test]
fn encrypted_payloads_are_refused_without_their_key_and_with_another_one_of_its_number() {
    let (source, db, _) = encrypted_source();
    let from = directory(&source, &db);
    let text = reference(&db, "r from t where n = 4");
    let sql = format!("insert into t values (1, '{text}')");
    for (keys, mode, code) in [
        (format!("2 {}\n", digits(2)), "on", SqlState::CONFIG_FILE_ERROR),
        (format!("1 {}\n", digits(9)), "verify", SqlState::DATA_CORRUPTED),
    ] {
        let target = encrypted_target(&keys);
        let copy = database(&target, "copy");
        copy.run("create table t (n int, r rbytea)");
        accept(&copy, mode, Some(&from));
        assert_eq!(copy.sqlstate(&sql), code, "{mode}");
        assert_eq!(copy.text("select count(*) from t"), "0");
    }
}
