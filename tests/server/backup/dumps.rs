//! Dumps of whole clusters and of what `dump_formats.rs` has not: composite values, hash partitions, payloads that are in the
//! row. Rows are compared by digests that the test keeps; the source is gone when they are.

use std::process::Output;

use crate::backup::contents::{DATABASES, Kept, contents, digests, fill, lost, rows, stores_again, wrong};
use crate::backup::payloads::{self, TABLE, assert_whole, payload};
use crate::backup::restored::text;
use crate::backup::traffic::Traffic;
use crate::evidence::{Found, Promise, proves, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

#[track_caller]
fn assert_silent(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
}

/// A cluster with both databases, and their rows.
fn source() -> (Cluster, Kept) {
    let cluster = Cluster::running();
    fill(&cluster);
    let kept = contents(&cluster);
    (cluster, kept)
}

/// Compares, and stores more.
fn judge(target: &Cluster, kept: &Kept) -> Found {
    let now = contents(target);
    let mut found = Found { cases: rows(kept), lost: lost(kept, &now), ..Found::default() };
    for database in DATABASES {
        stores_again(&target.session_in(database), database);
    }
    // Whatever the restore has written twice is garbage, and nothing else.
    found.leaked = wrong(target);
    found.lost += lost(kept, &contents(target)) + lost(&now, kept);
    found
}

#[test]
fn pg_dumpall_brings_back_every_database() {
    let (source, kept) = source();
    source.session().run(
        "alter role alice set rbytea.external_threshold = '77kB';
         alter database original set rbytea.verify = off",
    );
    let dump = source.run_tool("pg_dumpall", &[], b"");
    assert_silent(&dump);
    drop(source);
    let target = Cluster::running();
    let restored = target.run_tool("psql", &["-X", "-q", "-o", "/dev/null"], &dump.stdout);
    let errors = String::from_utf8_lossy(&restored.stderr).into_owned();
    let unexpected: Vec<&str> =
        errors.lines().filter(|line| !line.contains("role \"postgres\" already exists")).collect();
    assert!(restored.status.success() && unexpected.is_empty(), "{unexpected:?}");
    proves(Promise::Backups, judge(&target, &kept));
    let settings = "select setconfig::text from pg_db_role_setting order by 1";
    assert_eq!(
        target.session().text(settings),
        "{rbytea.external_threshold=77kB}\n{rbytea.verify=off}",
        "settings of roles and databases are in the dump"
    );
}

/// The schema first; then nothing but rows, in each of the forms that they can have in a dump.
#[test]
fn data_alone_restores_in_every_form() {
    let (source, kept) = source();
    let forms: [&[&str]; 3] = [
        &["--data-only", "--inserts"],
        &["--data-only", "--column-inserts", "--rows-per-insert=3"],
        &["--section=data", "--load-via-partition-root", "--on-conflict-do-nothing", "--inserts"],
    ];
    let dump = |database: &str, options: &[&str]| source.pg_dump(&[&["-d", database], options].concat());
    let dumps: Vec<_> = DATABASES
        .iter()
        .map(|database| {
            let data: Vec<_> = forms.iter().map(|form| dump(database, form)).collect();
            (
                database,
                dump(database, &["--section=pre-data"]),
                data,
                dump(database, &["--section=post-data"]),
            )
        })
        .collect();
    drop(source);
    let target = Cluster::running();
    target.session().run("create role alice login");
    let mut all = Found::default();
    for form in 0..forms.len() {
        for (database, pre, data, post) in &dumps {
            target.session_in("template1").run(&format!("drop database if exists {database}"));
            target.session_in("template1").run(&format!("create database {database} template template0"));
            for part in [pre, &data[form], post] {
                assert_silent(&target.try_psql(&["-d", database, "-o", "/dev/null"], part));
            }
        }
        // The view in the dump's data is a materialized one, which --data-only leaves out.
        target.session_in("original").run("refresh materialized view kept");
        let now = contents(&target);
        all.cases += rows(&kept);
        all.lost += lost(&kept, &now) + lost(&now, &kept);
        all.leaked += wrong(&target);
    }
    proves(Promise::Backups, all);
}

/// She owns the database; the extension was created there for her.
#[test]
fn an_owner_who_is_no_superuser_restores_a_whole_database() {
    let (source, kept) = source();
    let archive = source.dir().join("archive");
    source.pg_dump(&["-d", "postgres", "-Fd", "-j4", "-f", text(&archive)]);
    let target = Cluster::running();
    target.session().run("create role alice login");
    target.session().run("create database hers owner alice");
    target.session_in("hers").run("create extension rbytea");
    let restore = |options: &[&str]| {
        let arguments = [&["-U", "alice", "-d", "hers", "--no-owner"], options, &[text(&archive)]].concat();
        target.run_tool("pg_restore", &arguments, b"")
    };
    let with_comments = restore(&["--section=pre-data", "--exit-on-error"]);
    let error = String::from_utf8_lossy(&with_comments.stderr).into_owned();
    assert!(error.contains("must be owner of extension rbytea"), "then --no-comments is not needed: {error}");
    assert_silent(&restore(&["-j4", "--no-comments"]));
    let hers = target.session_in("hers");
    let mut kept = kept;
    kept.retain(|relation, _| relation.starts_with("postgres: "));
    let now = digests(&hers, "postgres");
    let found = Found { cases: rows(&kept), lost: lost(&kept, &now) + lost(&now, &kept), ..Found::default() };
    stores_again(&hers, "postgres");
    let theirs =
        "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
          and pg_get_userbyid(relowner) <> 'alice' and relname <> 'rbytea_vacuum_history'";
    assert_eq!(hers.text(theirs), "0", "the tables are hers");
    proves(Promise::Backups, found);
}

/// The threshold is the reader's: what is in the row in the source is in a file in the target, and the other way round.
#[test]
fn payloads_in_the_row_restore_under_any_threshold() {
    let source = Cluster::with_extension();
    let db = source.session();
    db.run(TABLE);
    db.run("set rbytea.external_threshold = '1kB'");
    for n in 0..16 {
        db.execute("insert into p values ($1, $2)", &[&n, &payload(n)]);
    }
    let inline = |db: &Session| {
        db.text(
            "select count(*) filter (where uuid(r) is null), count(*) filter (where len(r) < 1024) from p",
        )
    };
    assert_eq!(inline(&db), "6|6", "the test is about payloads of both kinds");
    let dump = source.pg_dump(&["-Fc"]);
    drop(source);
    let mut cases = 0;
    for (threshold, expected) in [("0", "0|6"), ("1kB", "6|6"), ("1GB", "16|6")] {
        let target = Cluster::running_with(&[&format!("rbytea.external_threshold = '{threshold}'")]);
        target.pg_restore(&["-d", "postgres", "-j2", &write(&target, &dump)], b"");
        let db = target.session();
        assert_eq!(inline(&db), expected, "threshold {threshold}");
        cases += assert_whole(&db, 0..16);
        assert_eq!(db.rvacuum(), 0);
    }
    proves_by_assertions(Promise::Backups, cases);
}

/// A dump reads what its snapshot sees, in several sessions, while rows are deleted and files deleted from TRASH.
#[test]
fn a_dump_of_a_busy_cluster_has_every_payload_of_its_snapshot() {
    let source = Cluster::with_extension_and(&["rbytea.trash_retention = 0"]);
    source.session().run(TABLE);
    let traffic = Traffic::default();
    traffic.fill(&source.session(), 60);
    let mut all = Found::default();
    for round in 0..2 {
        let archive = source.dir().join(format!("archive{round}"));
        let before = traffic.during(&source, || {
            let before = traffic.committed();
            source.pg_dump(&["-Fd", "-j4", "-f", text(&archive)]);
            before
        });
        let needed = traffic.spared(before);
        assert!(needed.len() > 5 && traffic.moved() > 0, "the test is about a cluster that is busy");
        let target = Cluster::running();
        target.pg_restore(&["-d", "postgres", "-j4", text(&archive)], b"");
        let found = payloads::judge(&target.session(), needed);
        all.cases += found.cases;
        all.lost += found.lost;
        all.dangling += found.dangling;
    }
    proves(Promise::Backups, all);
}

/// A parallel restore wants a file.
fn write(cluster: &Cluster, dump: &[u8]) -> String {
    let path = cluster.dir().join("dump");
    std::fs::write(&path, dump).unwrap();
    text(&path).to_owned()
}
