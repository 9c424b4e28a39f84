//! Tables with a column `r` of type rbytea and its twin `b` of type bytea: whatever is done to both, they hold
//! the same bytes. What `r` should be is never written down twice.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// `payload(seed, len)`: bytes that look random, the same ones for the same arguments. Outside of the
/// statements that a test watches, because it is a function that has to be parsed and planned.
pub const PAYLOAD_FUNCTION: &str = "
    create function payload(seed int, len int default 1000) returns bytea
    language sql immutable parallel safe as $$
        select substring(string_agg(pg_catalog.sha256(int4send(seed) || int4send(i)), ''::bytea order by i) for len)
          from generate_series(0, len / 32) i
    $$";

/// A running server whose database has the extension and the function `payload`.
pub fn cluster() -> Cluster {
    cluster_with(&[])
}

/// The same with these lines added to postgresql.conf.
pub fn cluster_with(conf: &[&str]) -> Cluster {
    let cluster = Cluster::with_extension_and(conf);
    cluster.session().run(PAYLOAD_FUNCTION);
    cluster
}

/// The same with the table `t (n int primary key, b bytea, r rbytea)`.
pub fn cluster_with_table() -> Cluster {
    let cluster = cluster();
    cluster.session().run("create table t (n int primary key, b bytea, r rbytea)");
    cluster
}

/// What can be said about tables with twins.
pub trait Twins {
    /// Inserts rows with these numbers, each with a payload of its own.
    fn fill(&self, table: &str, numbers: std::ops::RangeInclusive<i32>);
    /// The table has this many rows, `r` has the bytes of `b`, and each `r` that is not NULL is in a file.
    fn assert_stored(&self, table: &str, rows: i64);
    /// The same, except that each `r` is in its row.
    fn assert_inline(&self, table: &str, rows: i64);
    /// The same, wherever `r` is.
    fn assert_same(&self, table: &str, rows: i64);
    /// The names of the files that the column refers to, one for each row that has a file.
    fn uuids(&self, column: &str, table: &str) -> Vec<String>;
    /// The result of rvacuum().
    fn rvacuum(&self) -> i64;
}

impl Twins for Session {
    #[track_caller]
    fn fill(&self, table: &str, numbers: std::ops::RangeInclusive<i32>) {
        self.run(&format!(
            "insert into {table} (n, b, r) select n, payload(n), payload(n) from generate_series({}, {}) n",
            numbers.start(),
            numbers.end()
        ));
    }

    #[track_caller]
    fn assert_stored(&self, table: &str, rows: i64) {
        self.assert_same(table, rows);
        let inline: i64 = self.one(&format!("select count(r) from {table} where uuid(r) is null"), &[]);
        assert_eq!(inline, 0, "payloads of {table} have stayed in their rows");
    }

    #[track_caller]
    fn assert_inline(&self, table: &str, rows: i64) {
        self.assert_same(table, rows);
        let external: i64 = self.one(&format!("select count(r) from {table} where uuid(r) is not null"), &[]);
        assert_eq!(external, 0, "payloads of {table} have left their rows");
    }

    #[track_caller]
    fn assert_same(&self, table: &str, rows: i64) {
        let found: i64 = self.one(&format!("select count(*) from {table}"), &[]);
        assert_eq!(found, rows, "{table} has lost or gained rows");
        let other: i64 =
            self.one(&format!("select count(*) from {table} where r::bytea is distinct from b"), &[]);
        assert_eq!(other, 0, "rows of {table} read back other bytes than were stored");
    }

    #[track_caller]
    fn uuids(&self, column: &str, table: &str) -> Vec<String> {
        let uuids: Vec<Option<String>> =
            self.column(&format!("select uuid({column})::text from {table}"), &[]);
        let mut uuids: Vec<String> = uuids.into_iter().flatten().collect();
        uuids.sort();
        uuids
    }

    #[track_caller]
    fn rvacuum(&self) -> i64 {
        self.one("select rvacuum()", &[])
    }
}

/// The uuids in the names of these files.
pub fn names(files: &[PathBuf]) -> BTreeSet<String> {
    files.iter().map(|file| name(file)).collect()
}

/// The uuid in the name of this file.
pub fn name(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap()[17..].to_owned()
}

/// LIVE is exactly the files that these columns refer to: `("r", "t")` is column `r` of table `t`.
#[track_caller]
pub fn assert_live_is(cluster: &Cluster, db: &Session, columns: &[(&str, &str)]) {
    let referred: BTreeSet<String> =
        columns.iter().flat_map(|(column, table)| db.uuids(column, table)).collect();
    let live = names(&cluster.live());
    let lost: Vec<_> = referred.difference(&live).collect();
    assert!(lost.is_empty(), "rows refer to files that are not in LIVE: {lost:?}");
    let surplus: Vec<_> = live.difference(&referred).collect();
    assert!(surplus.is_empty(), "files in LIVE that no row refers to: {surplus:?}");
}

/// The number of row triggers of the extension on this table that fire whatever session_replication_role is.
#[track_caller]
pub fn triggers(db: &Session, table: &str) -> i64 {
    db.one(
        &format!(
            "select count(*) from pg_trigger where tgrelid = '{table}'::regclass
                and tgfoid = 'rbytea_externalize'::regproc and tgenabled = 'A' and tgisinternal"
        ),
        &[],
    )
}

/// A table with four rows and four deleted ones.
pub fn with_garbage() -> (Cluster, Session) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=8);
    db.run("delete from t where n <= 4");
    (cluster, db)
}
