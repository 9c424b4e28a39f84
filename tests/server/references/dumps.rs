//! Dumps by reference within a cluster, in every format: back into the database that they are of, and into another one.

use std::collections::BTreeSet;
use std::fs;

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::{
    LENGTHS, NOT_LOGGED, assert_restored, bytes_below, contents, database, directory, dump, links, restore,
    restoring, source_with,
};
use crate::support::cluster::{Cluster, SOON, Shutdown};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, names};

/// Every row's.
const PAYLOADS: u64 = 4 * LENGTHS.len() as u64 + 25;

/// What has no rows any more, and its files in TRASH.
fn emptied(cluster: &Cluster, db: &Session) -> BTreeSet<String> {
    let before = names(&cluster.files_of(db).live);
    db.run("truncate t, again, docs, within, parts, small");
    db.rvacuum();
    let files = cluster.files_of(db);
    assert!(files.live.is_empty() && names(&files.trash) == before, "the test is about files in TRASH");
    before
}

#[test]
fn rows_that_were_deleted_come_back_with_their_files_out_of_trash() {
    let (cluster, db) = source_with(&[]);
    let kept = contents(&db);
    let ways: [(&str, &[&str], &[&str]); 9] = [
        ("plain.sql", &["--data-only"], &[]),
        ("one.sql", &["--data-only"], &["--single-transaction"]),
        ("inserts.sql", &["--data-only", "--inserts"], &[]),
        ("columns.sql", &["--data-only", "--column-inserts", "--rows-per-insert=3"], &[]),
        ("custom", &["-Fc"], &["--data-only"]),
        ("clean", &["-Fc"], &["--clean", "--if-exists", "--single-transaction"]),
        ("directory", &["-Fd", "-j4"], &["--data-only", "-j4"]),
        ("clean_parallel", &["-Fd", "-j4"], &["--clean", "-j4"]),
        ("tar", &["-Ft"], &["--data-only", "--disable-triggers"]),
    ];
    for (name, dumping, restoring_) in ways {
        let path = dump(&cluster, name, dumping);
        let was = emptied(&cluster, &db);
        restore(&cluster, &restoring("on", None), "source", &path, restoring_);
        assert_restored(&db, &kept);
        let files = cluster.files_of(&db);
        assert_eq!(names(&files.live), was, "{name}: other files than those that were there");
    }
    proves_by_assertions(Promise::Backups, ways.len() as u64 * PAYLOADS);
}

#[test]
fn another_database_of_the_cluster_shares_the_files_and_keeps_them_when_the_source_is_dropped() {
    let (mut cluster, db) = source_with(&[NOT_LOGGED, "rbytea.trash_retention = 0"]);
    let (kept, from) = (contents(&db), directory(&cluster, &db));
    let before = bytes_below(&from);
    let path = dump(&cluster, "archive", &["-Fc"]);
    assert!(fs::metadata(&path).unwrap().len() < 100_000, "the dump has payloads");
    for (name, mode, args) in [("copy", "on", &["-j4"][..]), ("other", "verify", &["--single-transaction"])] {
        cluster.session().run(&format!("create database {name}"));
        restore(&cluster, &restoring(mode, Some(&from)), name, &path, args);
        assert_restored(&cluster.session_in(name), &kept);
    }
    assert_eq!(bytes_below(&from), before, "the source is not what it was");
    assert_restored(&db, &kept);
    // In one transaction each payload is taken once, whatever the number of its rows.
    let other = cluster.session_in("other");
    let files = cluster.files_of(&other).live;
    assert_eq!(files.len(), LENGTHS.len());
    let source = cluster.files_of(&db);
    for file in files {
        let uuid = file.file_name().unwrap().to_str().unwrap()[17..].to_owned();
        assert_eq!(links(&file).1, links(source.find(&uuid).unwrap()).1, "{uuid} takes its space twice");
    }
    drop((db, other));

    cluster.session().run("drop database source");
    cluster.session().run("create extension rbytea");
    let here = cluster.session();
    here.rvacuum();
    here.run("select rvacuum_purge()");
    drop(here);
    assert!(!from.exists(), "the test is about a source that is gone");
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    for name in ["copy", "other"] {
        assert_restored(&cluster.session_in(name), &kept);
    }
    proves_by_assertions(Promise::Backups, 4 * PAYLOADS);
}

/// The other way round: what becomes of the copy is nothing to the source.
#[test]
fn the_copy_s_vacuum_takes_nothing_from_the_source() {
    let (cluster, db) = source_with(&[NOT_LOGGED, "rbytea.trash_retention = 0"]);
    let (kept, from) = (contents(&db), directory(&cluster, &db));
    let path = dump(&cluster, "plain.sql", &[]);
    cluster.session().run("create database copy");
    restore(&cluster, &restoring("on", Some(&from)), "copy", &path, &[]);
    let copy = cluster.session_in("copy");
    copy.run("truncate t, again, docs, within, parts, small");
    copy.rvacuum();
    copy.run("select rvacuum_purge()");
    let files = cluster.files_of(&copy);
    assert!(files.live.is_empty() && files.trash.is_empty());
    assert_restored(&db, &kept);
}

#[test]
fn payloads_that_the_source_has_in_trash_are_restored_elsewhere() {
    let (cluster, db) = source_with(&[]);
    let (kept, from) = (contents(&db), directory(&cluster, &db));
    let path = dump(&cluster, "archive", &["-Fc"]);
    emptied(&cluster, &db);
    let before = bytes_below(&from);
    cluster.session().run("create database copy");
    restore(&cluster, &restoring("verify", Some(&from)), "copy", &path, &["-j2"]);
    assert_restored(&cluster.session_in("copy"), &kept);
    assert_eq!(bytes_below(&from), before);
}

/// The dump has no bytes of the payloads, and its time goes by its rows.
#[test]
fn thousands_of_rows_are_restored_without_reading_a_payload() {
    const ROWS: i64 = 2000;
    let cluster = Cluster::running_with(&[NOT_LOGGED]);
    let db = database(&cluster, "source");
    db.run(&format!(
        "create table many (n int primary key, r rbytea);
         insert into many select n, convert_to(repeat(n::text, 20), 'utf8') from generate_series(1, {ROWS}) n"
    ));
    let sums = "select md5(string_agg(n || md5sum(r), ',' order by n)), count(distinct uuid(r)) from many";
    let path = dump(&cluster, "many", &["-Fd", "-Z0"]);
    cluster.session().run("create database copy");
    let begun = std::time::Instant::now();
    restore(&cluster, &restoring("on", Some(&directory(&cluster, &db))), "copy", &path, &[]);
    assert!(begun.elapsed() < SOON, "{ROWS} links took {:?}", begun.elapsed());
    let copy = cluster.session_in("copy");
    assert_eq!(copy.text(sums), db.text(sums));
    let files = cluster.files_of(&copy).live;
    assert_eq!(files.len() as i64, ROWS);
    assert!(files.iter().all(|file| links(file).0 == 2), "files were copied");
    assert_eq!(copy.rvacuum(), 0);
}
