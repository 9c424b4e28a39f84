//! Two databases with everything that a dump or an upgrade has to carry (`original` is one of them), the digests of all their
//! rows, which the test keeps, and whether their tables store payloads.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::backup::original::{RELATIONS, original};
use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// The databases that have payloads.
pub const DATABASES: [&str; 2] = ["original", "postgres"];

/// In the database `postgres`: what `original` does not have.
const MORE: &str = "
    create type doc as (label text, r rbytea);
    create table docs (id int, d doc, ds doc[]);
    create table hashed (id int, v rbytea) partition by hash (v);
    create table hashed0 partition of hashed for values with (modulus 2, remainder 0);
    create table hashed1 partition of hashed for values with (modulus 2, remainder 1);
    create unlogged table fast (id int, v rbytea);
    create table \"In the rows\" (id int, v rbytea);
    create table later (id int);
    create table t (n int, b bytea, r rbytea);
    insert into later values (1), (2);
    alter table later add v rbytea default 'from the catalog';
    insert into hashed select i, sha256(int4send(i)) from generate_series(1, 20) i;
    insert into fast select * from hashed;
    insert into docs select id, row('one', v)::doc, array[row('two', v)::doc] from hashed;
    set rbytea.external_threshold = '1kB';
    insert into \"In the rows\" select i, sha256(int4send(i)) from generate_series(1, 5) i;
    reset rbytea.external_threshold;
    insert into t select i, sha256(int4send(i)), sha256(int4send(i)) from generate_series(1, 4) i;
    delete from t where n = 4";

const MORE_RELATIONS: [(&str, bool); 6] = [
    ("docs", false),
    ("hashed", true),
    ("fast", true),
    ("\"In the rows\"", false),
    ("later", false),
    ("t", false),
];

fn relations(database: &str) -> Vec<(&'static str, bool)> {
    if database == "original" { RELATIONS.to_vec() } else { MORE_RELATIONS.to_vec() }
}

/// Fills both databases.
pub fn fill(cluster: &Cluster) {
    cluster.session().run("create extension rbytea");
    cluster.session().run(MORE);
    original(cluster);
}

/// How many rows that is.
pub fn rows(kept: &Kept) -> u64 {
    kept.values().map(|rows| rows.len() as u64).sum()
}

/// The digests of the rows of each relation, bytes of all payloads included: what the test keeps.
pub type Kept = BTreeMap<String, Vec<[u8; 32]>>;

/// Those of the relations that `database` has, read in this session.
pub fn digests(db: &Session, database: &str) -> Kept {
    let digests = |relation: &str| {
        let rows = db.text(&format!("select r::text from {relation} r order by 1"));
        rows.split('\n').map(|row| Sha256::digest(row.as_bytes()).into()).collect()
    };
    let kept = |relation: &str| (format!("{database}: {relation}"), digests(relation));
    relations(database).into_iter().map(|(relation, _)| kept(relation)).collect()
}

/// Those of both databases.
pub fn contents(cluster: &Cluster) -> Kept {
    DATABASES.iter().flat_map(|database| digests(&cluster.session_in(database), database)).collect()
}

/// How many of the rows that were kept are not there as they were.
pub fn lost(kept: &Kept, now: &Kept) -> u64 {
    let missing = |(relation, rows): (&String, &Vec<[u8; 32]>)| {
        let mut there = now.get(relation).cloned().unwrap_or_default();
        let mut gone = |row: &[u8; 32]| match there.iter().position(|other| other == row) {
            Some(at) => {
                there.swap_remove(at);
                false
            }
            None => true,
        };
        rows.iter().filter(|row| gone(row)).count() as u64
    };
    kept.iter().map(missing).sum()
}

/// Vacuums both databases; what is wrong then between rows and files, garbage included.
pub fn wrong(cluster: &Cluster) -> u64 {
    let wrong = |database: &&str| {
        let db = cluster.session_in(database);
        db.run("select rvacuum()");
        let wrong = db.text("select problem, path from rbytea_check(digest => true)");
        if !wrong.is_empty() {
            eprintln!("{database}: {wrong}");
        }
        wrong.lines().count() as u64
    };
    DATABASES.iter().map(wrong).sum()
}

/// Every table stores payloads, those that were there and new ones.
#[track_caller]
pub fn stores_again(db: &Session, database: &str) {
    let stored = |relation: &str| {
        db.text(&format!(
            "select coalesce(bool_and(uuid(v) is not null), false) from {relation} where id = 4711"
        ))
    };
    for (relation, stores) in relations(database) {
        // Another partition's row; a table that others inherit from.
        if !stores || relation == "parts_low" || relation.starts_with("only") {
            continue;
        }
        db.run(&format!("insert into {relation} (id, v) values (4711, 'after the upgrade')"));
        assert_eq!(stored(relation), "t", "{database}: payloads of {relation} stay in their rows");
    }
    db.run("create table after (id int, v rbytea); insert into after values (4711, 'after the upgrade')");
    assert_eq!(stored("after"), "t", "{database}: payloads of new tables stay in their rows");
    db.run("drop table after");
    for (relation, stores) in relations(database) {
        if stores && !relation.starts_with("only") {
            db.run(&format!("delete from {relation} where id = 4711"));
        }
    }
}
