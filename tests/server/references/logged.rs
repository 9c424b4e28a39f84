//! Restored payloads in the WAL: a standby with a store of its own has them, recovery brings them back, and neither writes into a file that
//! the source has, too.

use std::path::PathBuf;

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::{
    LENGTHS, LOGGED, accept, assert_restored, bytes_below, contents, directory, dump, links, restore,
    restoring, source_with,
};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};

use crate::support::shared_store::replayed;
use crate::support::standby::standby_of;

#[test]
fn a_standby_reads_what_its_primary_restores() {
    let (source, db) = source_with(&["rbytea.wal_payload_limit = 0"]);
    let (kept, from) = (contents(&db), directory(&source, &db));
    let before = bytes_below(&from);
    let path = dump(&source, "archive", &["-Fc"]);
    let primary = Cluster::with_extension_and(&[LOGGED]);

    let mut standby = standby_of(&primary, &[]);
    primary.session().run("create database copy");
    restore(&primary, &restoring("on", Some(&from)), "copy", &path, &["-j2"]);
    let copy = primary.session_in("copy");
    let files = primary.files_of(&copy).live;
    assert!(files.len() >= LENGTHS.len());
    assert!(files.iter().all(|file| links(file).0 == 1), "recovery would write into the source's files");
    replayed(&copy, &standby.session());
    let there = standby.session_in("copy");
    assert_eq!(contents(&there), kept);
    assert_eq!(there.text("select problem, path from rbytea_check(digest => true)"), "");
    assert_eq!(bytes_below(&from), before, "the source is not what it was");
    drop((source, db, copy, there));
    drop(primary);
    standby.stop(Shutdown::Immediate);
    standby.start();
    standby.session().run("select pg_promote()");
    let promoted = standby.session_in("copy");
    wait_until(PATIENCE, || !promoted.one::<bool>("select pg_is_in_recovery()", &[]));
    assert_restored(&promoted, &kept);
    proves_by_assertions(Promise::Replication, 2 * LENGTHS.len() as u64);
}

/// Before the commit, and after it, with a checkpoint on the way or without.
#[test]
fn a_crash_at_any_moment_of_a_restore_leaves_the_source_s_files_intact() {
    let (mut cluster, db) = source_with(&[LOGGED]);

    let from = directory(&cluster, &db);
    let kept = db.text("select string_agg(n || sum, ',' order by n) from t where r is not null");
    db.run("set rbytea.dump_references = on");
    let rows = db.text("select format('(%s, %L)', n, r) from t where r is not null").replace('\n', ", ");
    drop(db);
    cluster.session().run("create database copy");
    cluster.session_in("copy").run("create extension rbytea; create table t (n int, r rbytea)");
    // What the source's own recovery writes again is the same.
    let contents_only = |all: Vec<(PathBuf, String)>| {
        all.into_iter()
            .map(|(path, about)| (path, about.rsplit(' ').next().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let before = contents_only(bytes_below(&from));
    let insert = format!("insert into t values {rows}");
    for (sql, committed) in [
        (format!("begin; {insert}"), false),
        (format!("begin; {insert}; checkpoint"), false),
        (format!("begin; {insert}; commit"), true),
        (format!("begin; checkpoint; {insert}; commit; checkpoint"), true),
    ] {
        let copy = cluster.session_in("copy");
        accept(&copy, "on", Some(&from));
        copy.run("truncate t");
        for part in sql.split("; ") {
            copy.run(part);
        }
        cluster.stop(Shutdown::Immediate);
        drop(copy);
        cluster.start();
        let copy = cluster.session_in("copy");
        assert_eq!(
            contents_only(bytes_below(&from)),
            before,
            "{}: the source is not what it was",
            &sql[..30]
        );
        let found = copy.text("select string_agg(n || sha256sum(r), ',' order by n) from t");
        assert_eq!(found, if committed { kept.as_str() } else { "" }, "committed: {committed}");
        assert_eq!(copy.text("select relation, problem, path from rbytea_check('t', digest => true)"), "");
        assert_eq!(cluster.session_in("source").text("select problem from rbytea_check(digest => true)"), "");
    }
}
