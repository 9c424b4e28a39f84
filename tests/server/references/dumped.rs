//! A database whose payloads are known, dumps of it by reference, and what has to be true of a copy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twin_tables::Twins;
use crate::support::twins::noise;

/// The server logs no payloads, so that those of other databases are linked.
pub const NOT_LOGGED: &str = "rbytea.wal_payload_limit = 0";

/// Every payload is logged.
pub const LOGGED: &str = "rbytea.wal_payload_limit = -1";

const DUMPING: &str = "-c rbytea.dump_references=on";

const SCHEMA: &str = "
    create domain document as rbytea check (octet_length(value) < 10000000);
    create type labelled as (label text, r rbytea);
    create table t (n int primary key, sum text, r rbytea);
    create table again (n int primary key, r rbytea);
    create table docs (n int, d document not null);
    create table within (n int, rs rbytea[], l labelled, ls labelled[]);
    create table parts (n int, r rbytea) partition by range (n);
    create table parts_low partition of parts for values from (0) to (6);
    create table parts_rest partition of parts default;
    create view seen as select n, r from t;
    create table small (n int, r rbytea)";

/// Lengths around what matters: nothing, a reference's own, what is copied at once, what is logged by default.
pub const LENGTHS: [usize; 10] = [0, 1, 78, 79, 1000, 65_536, 65_537, 262_143, 262_144, 300_001];

/// Fills a database that has the extension. Nine rows' payloads are in files of their own in `t`, and again in the other tables by reference.
pub fn fill(db: &Session) {
    db.run(SCHEMA);
    for (n, len) in LENGTHS.into_iter().enumerate() {
        let n = n as i32;
        let payload = Payload(noise(len, 100 + n as u64));
        let sum = "insert into t select $1, encode(sha256($2::bytea), 'hex'), $2";
        db.execute(sum, &[&n, &payload]);
    }
    db.run(
        "insert into t values (100, null, null);
         insert into again select n, r from t where n < 3;
         insert into docs select n, r from t where r is not null;
         insert into within select n, array[r, null, r], row('of ' || n, r)::labelled, array[row('first', r)::labelled] from t where n < 5;
         insert into parts select n, r from t;
         set rbytea.external_threshold = 64;
         insert into small select i, sha256(int4send(i)) from generate_series(1, 5) i;
         reset rbytea.external_threshold",
    );
}

/// The digests of all payloads, row by row.
pub fn contents(db: &Session) -> String {
    db.text(
        "select 't', n, sha256sum(r), uuid(r) is null from t
         union all select 'again', n, sha256sum(r), uuid(r) is null from again
         union all select 'docs', n, sha256sum(d), uuid(d) is null from docs
         union all select 'rs', n, sha256sum(r), uuid(r) is null from within, unnest(rs) r
         union all select 'l', n, sha256sum((l).r), uuid((l).r) is null from within
         union all select 'ls', n, sha256sum((ls[1]).r), uuid((ls[1]).r) is null from within
         union all select 'parts', n, sha256sum(r), uuid(r) is null from parts
         union all select 'small', n, sha256sum(r), uuid(r) is null from small
         order by 1, 2, 3",
    )
}

/// A cluster with such a database `source`, and a session in it.
pub fn source_with(conf: &[&str]) -> (Cluster, Session) {
    let cluster = Cluster::running_with(conf);
    let db = database(&cluster, "source");
    fill(&db);
    (cluster, db)
}

/// A new database with the extension.
pub fn database(cluster: &Cluster, name: &str) -> Session {
    cluster.session().run(&format!("create database {name}"));
    let db = cluster.session_in(name);
    db.run("create extension rbytea");
    db
}

/// Where the payloads of the session's database are.
pub fn directory(cluster: &Cluster, db: &Session) -> PathBuf {
    cluster.store().join(db.database().to_string())
}

/// Runs a client program with these settings in its sessions.
pub fn run(cluster: &Cluster, program: &str, settings: &str, args: &[&str]) -> Output {
    let mut command = cluster.client_command(cluster.tool(program));
    command.env("PGOPTIONS", settings).args(args).output().unwrap()
}

/// The same of one that has nothing to say.
#[track_caller]
pub fn run_silently(cluster: &Cluster, program: &str, settings: &str, args: &[&str]) {
    let output = run(cluster, program, settings, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{program} {args:?}: {said}");
}

/// A dump of the database `source` by reference; its path.
#[track_caller]
pub fn dump(cluster: &Cluster, name: &str, args: &[&str]) -> String {
    let path = cluster.dir().join(name).to_str().unwrap().to_owned();
    run_silently(cluster, "pg_dump", DUMPING, &[&["-d", "source", "-f", &path], args].concat());
    path
}

/// Restores a plain dump if it is to be by psql, an archive by pg_restore.
#[track_caller]
pub fn restore(cluster: &Cluster, settings: &str, database: &str, dump: &str, args: &[&str]) {
    if is_plain(dump) {
        let psql = ["-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", dump];
        run_silently(cluster, "psql", settings, &[&psql, args].concat());
    } else {
        run_silently(cluster, "pg_restore", settings, &[&["-d", database, dump], args].concat());
    }
}

fn is_plain(dump: &str) -> bool {
    Path::new(dump).extension().is_some_and(|extension| extension == "sql")
}

/// Settings for restoring out of this directory; what `small` has stays in its rows.
pub fn restoring(mode: &str, directory: Option<&Path>) -> String {
    let directory = directory.map(|path| format!(" -c rbytea.reference_directory={}", path.display()));
    let threshold = "-c rbytea.external_threshold=64";
    format!("{threshold} -c rbytea.restore_references={mode}{}", directory.unwrap_or_default())
}

/// The same in a session.
pub fn accept(db: &Session, mode: &str, directory: Option<&Path>) {
    let directory = directory.map_or(String::new(), |path| path.display().to_string());
    db.run(&format!(
        "set rbytea.restore_references = {mode}; set rbytea.reference_directory = '{directory}'"
    ));
}

/// The reference that a dump has in the place of this payload, an expression over a table.
pub fn reference(db: &Session, expression: &str) -> String {
    db.run("set rbytea.dump_references = on");
    let reference = db.text(&format!("select {expression}"));
    db.run("reset rbytea.dump_references");
    assert!(reference.starts_with("\\rbytea1:"), "no reference: {reference}");
    reference
}

/// That every payload of a copy is what it was, in a file of this database that the vacuum leaves there.
#[track_caller]
pub fn assert_restored(copy: &Session, kept: &str) {
    assert_eq!(contents(copy), kept, "payloads are not what they were");
    assert_eq!(problems(copy), "");
    copy.rvacuum();
    assert_eq!(contents(copy), kept, "payloads are not what they were before the vacuum");
    assert_eq!(problems(copy), "");
}

/// What is wrong between rows and files, aside from `small`, which is to stay in its rows.
pub fn problems(db: &Session) -> String {
    db.text("select relation, problem, path from rbytea_check(digest => true) where problem <> 'not stored'")
}

/// Number of links, and the inode.
pub fn links(file: &Path) -> (u64, u64) {
    let about = fs::metadata(file).unwrap();
    (about.nlink(), about.ino())
}

/// Everything below a directory: mode, owner, inode, size, digest of the content. Links may come and go.
pub fn bytes_below(root: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let digest = blake3::hash(&fs::read(&path).unwrap());
            let shown =
                format!("{:o} {} {} {} {digest}", about.mode(), about.uid(), about.ino(), about.len());
            all.push((path, shown));
        }
    }
    all.sort();
    all
}
