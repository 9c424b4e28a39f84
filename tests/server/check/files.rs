//! rbytea_check() finds what is wrong in the store, whether a row is concerned or not: garbage, births that are to come,
//! foreign names, directories of dropped databases, another cluster's OWNER. And nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::check::healthy::{
    Healthy, check, finds, finds_nothing, finds_with, give, healthy, other_database, put_back, remove, save,
    set_mode, while_damaged,
};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{cluster_with_table, name};

/// Each file of `after` that was not there before, as a finding.
fn garbage(cluster: &Cluster, before: &[PathBuf]) -> Vec<String> {
    let files = cluster.live().into_iter().filter(|file| !before.contains(file));
    files.map(|file| unreferenced(cluster, &file)).collect()
}

fn unreferenced(cluster: &Cluster, file: &Path) -> String {
    format!("unreferenced||{}|{}", name(file), file.strip_prefix(cluster.store()).unwrap().display())
}

#[test]
fn files_that_no_row_needs_are_found_whatever_made_them_garbage() {
    let cluster = cluster_with_table();
    let mut db = cluster.session();
    db.run("insert into t select n, payload(n), payload(n) from generate_series(1, 10) n");
    finds_nothing(&db);
    let kept = cluster.live();

    db.run("begin; insert into t select n, null, payload(n) from generate_series(11, 13) n; rollback");
    let rolled_back = garbage(&cluster, &kept);
    assert_eq!(rolled_back.len(), 3);
    finds(&db, &rolled_back);
    db.run("begin; insert into t values (14, null, payload(14)); prepare transaction 'p'");
    finds(&db, &rolled_back);
    db.run("rollback prepared 'p'");
    finds(&db, &garbage(&cluster, &kept));
    db.run("create table dropped as select n, rbytea_store(b) as r from t; drop table dropped");
    db.run(
        "create table emptied (n int, r rbytea); insert into emptied select n, b from t; truncate emptied",
    );
    db.run("insert into t values (15, null, payload(15)); delete from t where n = 15");
    db.run("insert into t values (1, null, payload(16)) on conflict do nothing");
    db.run("select rbytea_store('no row keeps this')");
    let all = garbage(&cluster, &kept);
    assert!(all.len() > 3 + 1 + 10 + 10 + 1, "{all:#?}");
    finds(&db, &all);
    finds_with(&db, "'t'", &[]);
    let unacknowledged = cluster.session();
    unacknowledged.run("begin; insert into t select n, null, payload(n) from generate_series(20, 22) n");
    finds(&db, &all);
    let mut cluster = cluster;
    cluster.kill9();
    cluster.start();
    db = cluster.session();
    let all = garbage(&cluster, &kept);
    // The crash may have taken all trace of the transaction, so that its id comes once more.
    let found = check(&db, "").into_iter().map(|line| line.replace("future transaction", "unreferenced"));
    assert_eq!(found.collect::<BTreeSet<_>>(), all.iter().cloned().collect());
    for _ in 0..3 {
        db.run("select pg_current_xact_id()");
    }
    finds(&db, &all);
    proves_by_assertions(Promise::DamageIsNoticed, all.len() as u64);
    assert_eq!(
        db.one::<i64>("select rvacuum()", &[]),
        all.len() as i64,
        "what is unreferenced is what the vacuum takes"
    );
    finds_nothing(&db);
}

/// The vacuum calls them unreferenced, too. A NOTICE warns that a temporary table may need them.
#[test]
fn a_file_that_only_another_sessions_temporary_table_needs_comes_with_a_notice() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    db.run("insert into t select n, payload(n), payload(n) from generate_series(1, 2) n");
    other.run("create temp table own as select r from t where n = 1");
    finds_nothing(&db);
    assert!(db.notices().is_empty());
    let file = cluster
        .live()
        .into_iter()
        .find(|file| name(file) == db.one::<String>("select uuid(r)::text from t where n = 1", &[]));
    db.run("delete from t where n = 1");
    finds_with(&db, "", &[unreferenced(&cluster, &file.unwrap())]);
    let notices = db.notices();
    assert!(
        notices.len() == 1 && notices[0].message().contains("temporary tables of other sessions"),
        "{notices:?}"
    );
    finds_nothing(&other);
    drop(other);
    wait_until(PATIENCE, || check(&db, "").len() == 1 && db.notices().is_empty());
}

#[test]
fn files_of_transactions_that_are_to_come_are_found() {
    let healthy = healthy();
    let (db, database) = (&healthy.db, healthy.database());
    let next: i64 = db.one("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint", &[]);
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let mut expected = Vec::new();
    for birth in [next as u64 + 1000, (next as u64 | 0xffff) + 1, 1 << 32, u64::MAX] {
        let path = format!("{database}/{:012x}/00/{birth:016x}-{uuid}", birth >> 16);
        make(&healthy, &path);
        expected.push(format!("future transaction||{uuid}|{path}"));
    }
    finds(db, &expected);
    // In TRASH nothing is judged by its birth.
    make(&healthy, &format!("{database}/TRASH/{:016x}-{uuid}", u64::MAX));
    finds(db, &expected);
    proves_by_assertions(Promise::DamageIsNoticed, expected.len() as u64);
    remove(&healthy.path(&format!("{database}/{:012x}", u64::MAX >> 16)));
    // The first one becomes a transaction that might be going on, as far as those that are can tell.
    while db.one::<i64>("select pg_current_xact_id()::text::bigint", &[]) < next + 1001 {}
    let found = check(db, "");
    assert_eq!(found, expected[1..3]);
}

/// A file as the store would make it.
fn make(healthy: &Healthy, path: &str) {
    let path = healthy.path(path);
    for dir in [path.parent().unwrap().parent().unwrap(), path.parent().unwrap()] {
        if !dir.exists() {
            fs::create_dir(dir).unwrap();
            fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
            give(&healthy.cluster, dir);
        }
    }
    fs::write(&path, b"x").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    give(&healthy.cluster, &path);
}

#[test]
fn foreign_names_and_kinds_are_found_at_every_level() {
    let healthy = healthy();
    let (db, database) = (&healthy.db, healthy.database());
    let (_, file) = healthy.payload(("plain", "uuid(r)"));
    let dirs: Vec<_> =
        Path::new(&file).ancestors().skip(1).map(|dir| healthy.path(dir.to_str().unwrap())).collect();
    let trash = healthy.path(&format!("{database}/TRASH"));
    let mut expected = Vec::new();
    for dir in dirs.iter().chain([&trash]) {
        let shown = |name: &str| {
            let below = dir.strip_prefix(healthy.cluster.store()).unwrap().join(name);
            format!("foreign name|||{}", below.display())
        };
        for name in ["notes.txt", ".hidden", "два", "a|b"] {
            fs::write(dir.join(name), b"theirs").unwrap();
            expected.push(shown(name));
        }
        fs::write(dir.join("two\nlines\tand a tab"), b"").unwrap();
        expected.push(shown(r"two\x0alines\x09and a tab"));
        fs::write(dir.join(OsStr::from_bytes(b"latin-\xe9")), b"").unwrap();
        expected.push(shown(r"latin-\xe9"));
        fs::create_dir(dir.join("directory")).unwrap();
        fs::write(dir.join("directory/inside"), b"is not looked at").unwrap();
        expected.push(shown("directory"));
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        expected.push(shown("link"));
    }
    finds(db, &expected);
    finds_with(db, "'plain', true", &[]);
    proves_by_assertions(Promise::DamageIsNoticed, expected.len() as u64);
}

/// The primary of a standby, a copy of a data directory, a file that was edited by hand.
#[test]
fn an_owner_that_is_another_cluster_or_damaged_is_found() {
    let healthy = healthy();
    let (db, owner) = (&healthy.db, healthy.path("OWNER"));
    let text = fs::read_to_string(&owner).unwrap();
    let wrong = ["wrong owner|||OWNER".to_owned()];
    let edits: [(&str, String); 6] = [
        ("another cluster", text.replace("\"system_identifier\":\"", "\"system_identifier\":\"1")),
        ("another timeline", text.replace("\"timeline\":1", "\"timeline\":2")),
        ("another data directory", text.replace("\"inode\":\"", "\"inode\":\"1")),
        ("another format", text.replace("\"format\":1", "\"format\":2")),
        ("half of it", text[..text.len() / 2].to_owned()),
        ("nothing", String::new()),
    ];
    for (what, edit) in &edits {
        assert_ne!(*edit, text, "{what}");
        while_damaged(&owner, |owner| fs::write(owner, edit).unwrap(), || finds(db, &wrong));
    }
    let saved = save(&owner);
    remove(&owner);
    fs::create_dir(&owner).unwrap();
    finds(db, &["foreign name|||OWNER".into(), "unreadable|||OWNER".into()]);
    put_back(&saved, &owner);
    finds_nothing(db);
    proves_by_assertions(Promise::DamageIsNoticed, edits.len() as u64 + 1);
}

#[test]
fn directories_of_dropped_databases_are_found_until_the_vacuum_has_moved_them() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("insert into t values (1, payload(1), payload(1))");
    let oid = |name: &str| db.one::<String>("select oid::text from pg_database where datname = $1", &[&name]);
    let other = other_database(&cluster, "other");
    other_database(&cluster, "stays");
    let (dropped, stays) = (oid("other"), oid("stays"));
    finds_nothing(&db);
    finds_nothing(&other);
    drop(other);
    // An older snapshot does not see yet that the database is gone.
    let old = cluster.session();
    old.run("begin isolation level repeatable read; select 1");
    wait_until(PATIENCE, || db.try_run("drop database other").is_ok());
    finds_nothing(&db);
    old.run("commit");
    finds(&db, &[format!("unreferenced|||{dropped}")]);
    finds_with(&db, "'t'", &[]);
    db.run("select rvacuum()");
    finds_nothing(&db);
    assert!(cluster.store().join(stays).is_dir());
    // A directory of a database that never was.
    let unknown = cluster.store().join("4294967295");
    fs::create_dir(&unknown).unwrap();
    set_mode(&unknown, 0o700);
    give(&cluster, &unknown);
    finds(&db, &["unreferenced|||4294967295".into()]);
    proves_by_assertions(Promise::DamageIsNoticed, 2);
}

/// As CREATE DATABASE … TEMPLATE makes them, and as a crash may leave them.
#[test]
fn files_with_two_names_are_in_order() {
    let healthy = healthy();
    let db = &healthy.db;
    let template = other_database(&healthy.cluster, "template");
    drop(template);
    wait_until(PATIENCE, || db.try_run("create database clone template template").is_ok());
    let clone = healthy.cluster.session_in("clone");
    finds_nothing(&clone);
    let (_, file) = healthy.payload(("plain", "uuid(r)"));
    let trashed = format!("{}/TRASH/{}", healthy.database(), file.rsplit_once('/').unwrap().1);
    fs::hard_link(healthy.path(&file), healthy.path(&trashed)).unwrap();
    finds_nothing(db);
    // The clone has names of its own.
    let lost = clone.one::<String>("select uuid(r)::text from t where n = 1", &[]);
    let files = healthy.cluster.live().into_iter().filter(|file| name(file) == lost).collect::<Vec<_>>();
    assert_eq!(files.len(), 2);
    let clones: String = clone.one("select oid::text from pg_database where datname = 'clone'", &[]);
    let own = files.iter().find(|file| file.starts_with(healthy.path(&clones))).unwrap();
    fs::remove_file(own).unwrap();
    finds(
        &clone,
        &[format!("missing|t|{lost}|{}", own.strip_prefix(healthy.cluster.store()).unwrap().display())],
    );
    finds_nothing(db);
    finds_nothing(&healthy.cluster.session_in("template"));
}

/// What the vacuum refuses to judge, a check does not judge either; everything else it does.
#[test]
fn where_rows_may_be_overlooked_no_file_is_called_unreferenced() {
    let mut cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "insert into t select n, null, payload(n) from generate_series(1, 3) n; delete from t where n = 1",
    );
    let lost: String = db.one("select uuid(r)::text from t where n = 2", &[]);
    let file = cluster.live().into_iter().find(|file| name(file) == lost).unwrap();
    fs::remove_file(&file).unwrap();
    let lost = format!("missing|t|{lost}|{}", file.strip_prefix(cluster.store()).unwrap().display());
    let all = check(&db, "");
    assert!(
        all.len() == 2 && all[0] == lost && all[1].starts_with("unreferenced|") && db.notices().is_empty()
    );
    let told = |db: &Session| {
        finds_with(db, "", std::slice::from_ref(&lost));
        let warnings = db.notices();
        assert!(warnings.len() == 1 && warnings[0].message() == "unreferenced files were not looked for");
        assert!(warnings[0].detail().is_some());
    };
    for setting in ["zero_damaged_pages", "ignore_checksum_failure"] {
        db.run(&format!("set {setting} = on"));
        told(&db);
        db.run(&format!("reset {setting}"));
    }
    if db.one::<bool>("select exists (select from pg_settings where name = 'old_snapshot_threshold')", &[]) {
        drop(db);
        cluster.set_conf("old_snapshot_threshold = 1h");
        cluster.restart();
        told(&cluster.session());
    }
}
