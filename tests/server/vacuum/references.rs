//! Whatever can hold a reference keeps its file: containers of every shape, relations of every kind, values that no
//! row has yet.

use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};
use crate::vacuum::keeping::keeps;

#[test]
fn arrays() {
    keeps(
        "create table c (rs rbytea[], bs bytea[])",
        "insert into c select array_agg(r order by n), array_agg(b order by n) from t",
        "select unnest(rs) as r, unnest(bs) as b from c",
        "update c set rs = '{}'",
    );
    keeps(
        "create table c (rs rbytea[][], bs bytea[][])",
        "insert into c select array[array[a.r, d.r], array[e.r, f.r]], array[array[a.b, d.b], array[e.b, f.b]]
           from t a, t d, t e, t f where a.n = 1 and d.n = 2 and e.n = 3 and f.n = 4",
        "select unnest(rs) as r, unnest(bs) as b from c",
        "truncate c",
    );
}

#[test]
fn composite_values() {
    keeps(
        "create type doc as (n int, b bytea, r rbytea); create table c (d doc)",
        "insert into c select row(n, b, r)::doc from t",
        "select (d).b, (d).r from c",
        "update c set d.r = null",
    );
    keeps(
        "create table c (old t)",
        "insert into c select t from t",
        "select (old).b, (old).r from c",
        "delete from c",
    );
    keeps(
        "create type doc as (n int, b bytea, r rbytea); create table typed of doc; create table c (d typed)",
        "insert into c select row(n, b, r)::typed from t",
        "select (d).b, (d).r from c",
        "drop table c",
    );
}

#[test]
fn a_type_that_was_made_of_the_type_in_the_same_transaction() {
    keeps(
        "begin; create type doc as (n int, b bytea, r rbytea); create table c (ds doc[]); commit;
         alter type doc add attribute x int cascade",
        "insert into c select array[row(n, b, r, 1)::doc] from t",
        "select ds[1].b, ds[1].r from c",
        "alter type doc drop attribute r",
    );
}

#[test]
fn domains_over_everything() {
    keeps(
        "create domain d1 as rbytea; create domain d2 as d1; create domain da as d2[];
         create type doc as (b bytea, rs da); create domain dd as doc check ((value).b is not null);
         create table c (x dd)",
        "insert into c select row(b, array[null, r]::da)::doc from t",
        "select (x).b, (x).rs[2]::rbytea as r from c",
        "drop domain d1 cascade",
    );
}

#[test]
fn ranges_and_multiranges() {
    keeps(
        "create type doc as (n int, b bytea, r rbytea); create type docs as range (subtype = doc);
         create table c (x docs)",
        "insert into c select docs(row(2 * n, b, r)::doc, null) from t where n <= 2;
         insert into c select docs(null, row(2 * n, b, r)::doc, '[]') from t where n > 2",
        "select (coalesce(lower(x), upper(x))).b, (coalesce(lower(x), upper(x))).r from c",
        "update c set x = 'empty'",
    );
    keeps(
        "create type doc as (n int, b bytea, r rbytea);
         create type docs as range (subtype = doc, multirange_type_name = manydocs); create table c (x manydocs[])",
        "insert into c select array[manydocs(docs(row(-n - 1, null, null)::doc, row(-n, null, null)::doc),
                                             docs(row(n, b, r)::doc, row(n + 1, null, null)::doc))] from t",
        "select (lower(u)).b, (lower(u)).r from c, unnest(x) m, unnest(m) u where (lower(u)).n > 0",
        "delete from c",
    );
}

#[test]
fn materialized_views_temporary_and_unlogged_tables() {
    keeps(
        "create materialized view c as select b, array[r] as rs from t",
        "refresh materialized view c",
        "select b, rs[1] as r from c",
        "refresh materialized view c",
    );
    keeps(
        "create temp table c (b bytea, r rbytea)",
        "insert into c select b, r from t",
        "select * from c",
        "drop table c",
    );
    keeps(
        "create table c (b bytea, r rbytea) partition by hash (r);
         create unlogged table c1 partition of c for values with (modulus 2, remainder 0);
         create unlogged table c2 partition of c for values with (modulus 2, remainder 1)",
        "insert into c select b, r from t",
        "select * from c",
        "truncate c1, c2",
    );
}

#[test]
fn defaults_of_columns_that_were_added_without_a_rewrite() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run(
        "create function one() returns rbytea stable language plpgsql as
             'begin return (select r from t where n = 1); end';
         create function many() returns rbytea[] stable language plpgsql as
             'begin return (select array_agg(r order by n) from t where n > 1); end';
         create table c (n int); insert into c select generate_series(1, 5)",
    );
    let before: String = db.one("select pg_relation_filenode('c')::text", &[]);
    db.run("alter table c add r rbytea default one(), add rs rbytea[] default many()");
    assert_eq!(
        db.one::<String>("select pg_relation_filenode('c')::text", &[]),
        before,
        "the test is about no rewrite"
    );
    db.run("delete from t");

    assert_eq!(db.rvacuum(), 0, "the rows of c refer to the files through the catalog alone");
    let check = "select count(*) from c where r::bytea = payload(1) and rs[1]::bytea = payload(2) and rs[2]::bytea = payload(3)";
    assert_eq!(db.one::<i64>(check, &[]), 5);
    db.run("update c set n = n where n <= 2");
    db.run("vacuum full c");
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(db.one::<i64>(check, &[]), 5);
    assert_eq!(db.uuids("r", "(select distinct uuid(r), r from c) s").len(), 1);
    db.run("alter table c drop rs");
    assert_eq!(db.rvacuum(), 2);
    assert_live_is(&cluster, &db, &[("r", "c")]);
}

#[test]
fn statistics_stay_readable() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run(
        "create type doc as (n int, r rbytea);
         create table c (d doc, rs rbytea[], r rbytea);
         insert into c select row(n, r)::doc, array[r], r from t, generate_series(1, 50)",
    );
    db.run("analyze c");
    let width: String =
        db.text("select null_frac, avg_width from pg_stats where tablename = 'c' and attname = 'r'");
    assert_eq!(width, "0|79", "what ANALYZE has to know of a payload is the width of its reference");

    db.run("truncate t, c");
    db.rvacuum();
    for file in cluster.trash() {
        std::fs::remove_file(file).unwrap();
    }
    db.text(
        "select most_common_vals, histogram_bounds, most_common_elems from pg_stats where tablename = 'c'",
    );
    db.run("explain select * from c where d = row(1, '\\x01')::doc or r = '\\x01' or rs = array['\\x01'::rbytea]");
}

#[test]
fn partitions_that_are_detached_and_tables_in_every_schema() {
    keeps(
        "create schema s; create table s.c (n int, b bytea, r rbytea) partition by range (n);
         create table s.c1 partition of s.c for values from (0) to (3);
         create table s.c2 partition of s.c default",
        "insert into s.c select * from t; alter table s.c detach partition s.c2",
        "select * from s.c union all select * from s.c2",
        "drop schema s cascade",
    );
}
