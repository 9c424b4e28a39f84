//! rbytea_larger_than(): the rows of a dump that needs something else, all of them and no other.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use crate::references::dumped::{LENGTHS, fill};
use crate::support::cluster::Cluster;

#[test]
fn exactly_the_rows_with_more_bytes_are_listed() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    fill(&db);
    db.run("create table two (n int, r rbytea, s rbytea, primary key (n)); create table heirs () inherits (two);
            insert into two select n, r, r from t where r is not null; insert into heirs values (50, repeat('x', 700)::bytea, repeat('y', 700)::bytea);
            create materialized view made as select n, r from t; create temp table passing as select n, r from t");
    let listed = |arguments: &str| -> BTreeSet<String> {
        let sql =
            format!("select relation || ' ' || ctid || ' ' || len from rbytea_larger_than({arguments})");
        db.text(&sql).lines().map(str::to_owned).collect()
    };
    let expected = |bytes: i64, tables: &[(&str, &str)]| -> BTreeSet<String> {
        let each = tables.iter().map(|(table, len)| {
            format!(
                "select '{table} ' || ctid || ' ' || ({len}) as x from only {table} where ({len}) > {bytes}"
            )
        });
        let rows = db.text(&each.collect::<Vec<_>>().join(" union all "));
        rows.lines().map(str::to_owned).collect()
    };
    let two = ("two", "len(r) + len(s)");
    let heirs = ("heirs", "len(r) + len(s)");
    let (low, rest) = (("parts_low", "coalesce(len(r), 0)"), ("parts_rest", "coalesce(len(r), 0)"));
    for bytes in [-1, 0, 77, 78, 1399, 1400, 65_536, 65_537, 300_000, 300_001, 600_002, i64::MAX] {
        for (target, tables) in [
            ("t", &[("t", "coalesce(len(r), 0)")][..]),
            ("two", &[two, heirs]),
            ("parts", &[low, rest]),
            ("docs", &[("docs", "len(d)")]),
        ] {
            let found = listed(&format!("{bytes}, '{target}'"));
            assert_eq!(found, expected(bytes, tables), "{target}: more than {bytes} bytes");
        }
    }
    // Of arrays and composites what they refer to counts.
    let within = "coalesce((select sum(len(x)) from unnest(rs) x where uuid(x) is not null), 0) + len((l).r) + len((ls[1]).r)";
    for bytes in [0, 1, 5, 300, 320] {
        assert_eq!(listed(&format!("{bytes}, 'within'")), expected(bytes, &[("within", within)]), "{bytes}");
    }
    let all = listed("300000");
    for table in ["t ", "two ", "docs ", "parts_rest ", "made "] {
        assert!(all.iter().any(|row| row.starts_with(table)), "{table} is missing: {all:?}");
    }
    assert!(LENGTHS.contains(&300_001));
    assert!(listed("").is_empty(), "a dump can carry all of them");
    db.run("begin; delete from t where n = 9");
    assert!(listed("300000, 't'").is_empty(), "a deleted row");
    db.run("rollback");
}

#[test]
fn the_list_is_for_superusers_and_wants_a_number() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create role mallory login; create table t (r rbytea)");
    let sql = "select * from rbytea_larger_than()";
    assert_eq!(cluster.session_as("mallory").sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(db.text(sql), "");
    assert_eq!(db.sqlstate("select * from rbytea_larger_than(null)"), SqlState::NULL_VALUE_NOT_ALLOWED);
    assert_eq!(db.text("select * from rbytea_larger_than(target => 't', bytes => 1)"), "");
    assert!(db.try_run("select * from rbytea_larger_than(1, 'pg_class')").is_ok());
    db.run("begin read only; select * from rbytea_larger_than(); commit");
    drop(db);
}
