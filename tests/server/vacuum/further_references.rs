//! More places that keep a file alive: values that are out of line, row types of every kind of relation, defaults that are
//! in the catalog alone, statistics. See references.rs for the plain ones.

use crate::support::background::Watching;
use crate::support::cluster::{PATIENCE, Shutdown, wait_until};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table, name};
use crate::vacuum::keeping::keeps;

#[test]
fn arrays_and_composites_so_long_that_they_are_out_of_line() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create type doc as (label text, rs rbytea[]);
         create table arrays (bs bytea[], rs rbytea[]); create table docs (bs bytea[], d doc);
         create table squeezed (bs bytea[], rs rbytea[] compression pglz)",
    );
    db.run("insert into t select n, payload(n, 50), payload(n, 50) from generate_series(1, 900) n");
    db.run(
        "insert into arrays select array_agg(b order by n), array_agg(r order by n) from t where n <= 300;
         insert into docs select array_agg(b order by n), row('x', array_agg(r order by n))::doc from t where n between 301 and 600;
         insert into squeezed select array_agg(b), array_agg(r) from (select * from t where n > 600 union all select * from t where n > 600) s;
         truncate t",
    );
    for table in ["arrays", "docs", "squeezed"] {
        let toast =
            format!("select pg_relation_size(reltoastrelid) from pg_class where oid = '{table}'::regclass");
        assert!(db.one::<i64>(&toast, &[]) > 8192, "the test is about values that are out of line");
    }
    assert_eq!(db.rvacuum(), 0);
    db.assert_same("(select unnest(bs) as b, unnest(rs) as r from arrays) s", 300);
    db.assert_same("(select unnest(bs) as b, unnest((d).rs) as r from docs) s", 300);
    db.assert_same("(select unnest(bs) as b, unnest(rs) as r from squeezed) s", 600);
    db.run("update arrays set rs = rs[1:100], bs = bs[1:100]; delete from docs");
    assert_eq!(db.rvacuum(), 500);
    db.assert_same("(select unnest(bs) as b, unnest(rs) as r from arrays) s", 100);
}

/// VACUUM takes the rows of the TOAST table away from under a tuple that an old snapshot saw until a moment ago.
#[test]
fn out_of_line_values_that_vanish_during_the_mark_do_not_fail_it() {
    let cluster = cluster_with_table();
    let (db, reader, vacuum) = (cluster.session(), cluster.session(), cluster.session());
    db.run("create table arrays (n int, rs rbytea[], bs bytea[]); alter table arrays alter rs set storage external");
    db.run("insert into t select n, payload(n, 50), payload(n, 50) from generate_series(1, 300) n");
    db.run("insert into arrays select n / 100, array_agg(r), array_agg(b) from t group by 1; delete from t where n <= 100");
    let toast: String =
        db.one("select reltoastrelid::regclass::text from pg_class where oid = 'arrays'::regclass", &[]);
    reader.run("begin isolation level repeatable read; select count(*) from arrays");
    db.run_and_tell("delete from arrays where n = 0");

    let pid = vacuum.pid();
    db.run("select pg_advisory_lock(29282, 2)");
    vacuum.run("set rbytea.injection_points = on");
    let run = vacuum.start("select rvacuum()");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    reader.run("commit");
    let rows = format!("select count(*) from {toast}");
    let before: i64 = db.one(&rows, &[]);
    db.run(&format!("vacuum (truncate off) {toast}"));
    let dead = "select n_dead_tup from pg_stat_all_tables where relid = $1::text::regclass";
    wait_until(PATIENCE, || db.one::<i64>(dead, &[&toast]) == 0);
    assert_eq!(db.one::<i64>(&rows, &[]), before);
    db.run("select pg_advisory_unlock(29282, 2)");
    run.finish().unwrap();

    assert_eq!(
        db.text("select error is null from rbytea.rbytea_vacuum_history order by id desc limit 1"),
        "t"
    );
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t"), ("v", "(select unnest(rs) as v from arrays) s")]);
    db.assert_same("(select unnest(bs) as b, unnest(rs) as r from arrays) s", 201);
}

#[test]
fn row_types_of_views_partitioned_inherited_and_temporary_tables() {
    for (relation, row) in [
        ("create view v as select n, b, r from t", "row(n, b, r)::v"),
        ("create materialized view v as select n, b, r from t with no data", "row(n, b, r)::v"),
        ("create table v (n int, b bytea, r rbytea) partition by hash (n)", "row(n, b, r)::v"),
        (
            "create table base (n int, b bytea, r rbytea); create table v (x int) inherits (base)",
            "row(n, b, r, 1)::v",
        ),
        ("create table v (gone int, n int, b bytea, r rbytea); alter table v drop gone", "row(n, b, r)::v"),
    ] {
        keeps(
            &format!("{relation}; create domain d as v; create table c (x d[])"),
            &format!("insert into c select array[{row}]::d[] from t"),
            "select (x[1]::v).b, (x[1]::v).r from c",
            "truncate c",
        );
    }
}

#[test]
fn children_and_columns_between_dropped_ones() {
    keeps(
        "create table base (a int, n int, z text, b bytea, y int, r rbytea); alter table base drop a, drop z;
         create table c (extra int, q rbytea) inherits (base); alter table c drop extra; alter table base drop y",
        "insert into c (n, b, q) select n, b, r from t",
        "select b, q as r from c",
        "alter table c drop q",
    );
    keeps(
        "create table c (n int, b bytea, r rbytea); begin",
        "insert into c select * from t; savepoint s; alter table c drop r; rollback to s; commit;
         begin; alter table c drop r; rollback",
        "select * from c",
        "alter table c drop r",
    );
}

#[test]
fn a_default_that_the_catalog_keeps_for_partitions_arrays_and_composites() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run(
        "create type doc as (n int, r rbytea);
         create function f(int) returns rbytea stable language plpgsql as
             'begin return (select r from t where n = $1); end';
         create function g(int) returns doc stable language plpgsql as
             'begin return row($1, (select r from t where n = $1))::doc; end';
         create table p (n int) partition by range (n);
         create table p1 partition of p for values from (0) to (3); create table p2 partition of p default;
         insert into p select generate_series(1, 5)",
    );
    db.run("alter table p add r rbytea default f(1), add rs rbytea[] default array[f(2)], add d doc default g(3)");
    let missing = "select count(*) from pg_attribute where atthasmissing and attname in ('r', 'rs', 'd') and attrelid in ('p1'::regclass, 'p2'::regclass)";
    assert_eq!(db.one::<i64>(missing, &[]), 6, "the test is about values that only the catalog has");
    db.run("truncate t; alter table p detach partition p2");
    assert_eq!(db.rvacuum(), 0);
    for table in ["p1", "p2"] {
        let wrong = format!(
            "select count(*) from {table} where r <> payload(1)::rbytea or rs[1] <> payload(2)::rbytea or (d).r <> payload(3)::rbytea or r::bytea <> payload(1)"
        );
        assert_eq!(db.one::<i64>(&wrong, &[]), 0);
    }
    db.run("drop table p1");
    assert_eq!(db.rvacuum(), 0, "the other partition has them too");
    db.run("insert into p2 (n) values (7)");
    assert_eq!(
        db.text("select r is null and rs[1] is null and (d).r is null from p2 where n = 7"),
        "t",
        "and new rows have what the functions return now"
    );
    db.run("drop table p2");
    assert_eq!(db.rvacuum(), 3);
}

#[test]
fn an_unlogged_table_that_a_crash_empties_gives_its_files_back() {
    let mut cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create unlogged table u (n int, b bytea, r rbytea); create table arrays (b bytea, rs rbytea[])");
    db.fill("u", 1..=4);
    db.fill("t", 1..=2);
    db.run(
        "insert into u select n + 10, b, r from t; insert into arrays select b, array[r] from u where n = 4",
    );
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("u", 6);
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let db = cluster.session();
    assert_eq!(db.one::<i64>("select count(*) from u", &[]), 0);
    assert_eq!(db.rvacuum(), 3);
    db.assert_stored("t", 2);
    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
}

#[test]
fn an_exported_snapshot_keeps_what_it_sees_for_sessions_that_import_it() {
    let cluster = cluster_with_table();
    let (db, exporter, importer) = (cluster.session(), cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    exporter.run("begin isolation level repeatable read");
    let id: String = exporter.one("select pg_export_snapshot()", &[]);
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 0);
    importer.run(&format!("begin isolation level repeatable read; set transaction snapshot '{id}'"));
    exporter.run("commit");
    assert_eq!(db.rvacuum(), 0);
    importer.assert_stored("t", 2);
    importer.run("commit");
    assert_eq!(db.rvacuum(), 2);
}

/// ANALYZE keeps common values of the expression; pg_stats_ext_exprs prints them.
#[test]
fn statistics_of_expressions_never_refer_to_a_purged_file() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run(
        "create type doc as (n int, r rbytea);
         create function wrap(int, rbytea) returns doc immutable language sql as 'select row($1, $2)::public.doc';
         create function list(rbytea) returns rbytea[] immutable language sql as 'select array[$1]';
         create table c (n int, r rbytea);
         insert into c select n, r from t, generate_series(1, 50);
         create statistics s1 on (wrap(n, r)) from c; create statistics s2 on (list(r)) from c;
         create statistics s3 on (r || ''::bytea) from c; create statistics s4 on n, (length(r)) from c",
    );
    db.run("analyze c");
    db.run("truncate t, c");
    for _ in 0..3 {
        db.run("select rvacuum_purge()");
    }
    let shown = db.text("select most_common_vals::text, histogram_bounds::text, most_common_elems::text from pg_stats_ext_exprs");
    let kept = cluster.live().iter().filter(|file| shown.contains(&name(file)[..8])).count();
    assert!(kept == 0, "a reference is shown as text");
    db.text("select * from pg_stats_ext");
    db.text("select most_common_vals::text, most_common_elems::text from pg_stats where tablename = 'c'");
    db.run("drop table c");
    db.run("select rvacuum()");
    assert_eq!(cluster.live().len(), 0, "the statistics have gone with the table");
}

#[test]
fn tables_in_other_tablespaces_and_under_row_security() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run("set allow_in_place_tablespaces = on");
    db.run("create tablespace elsewhere location ''");
    db.run(
        "create table far (n int, b bytea, r rbytea) tablespace elsewhere; insert into far select * from t where n = 1;
         create table secret (n int, b bytea, r rbytea); insert into secret select * from t where n = 2;
         alter table secret enable row level security; alter table secret force row level security;
         create role alice login; grant execute on function rvacuum() to alice; alter table secret owner to alice;
         truncate t",
    );
    assert_eq!(
        cluster.session_as("alice").rvacuum(),
        0,
        "rows that row security hides from the caller count as well"
    );
    db.assert_stored("far", 1);
    db.assert_stored("secret", 1);
    db.run("alter table far set tablespace pg_default");
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "far"), ("r", "secret")]);
}

/// pg_upgrade dumps such defaults whether the table has rows or not.
#[test]
fn a_default_in_the_catalog_can_be_dumped_when_no_row_needs_it() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=1);
    db.run(
        "create function f() returns rbytea stable language plpgsql as 'begin return (select r from t where n = 1); end';
         create table c (n int); insert into c values (1)",
    );
    db.run("alter table c add r rbytea default f()");
    db.run("delete from c; truncate t");
    db.run("vacuum c");
    for _ in 0..3 {
        db.run("select rvacuum_purge()");
    }
    let dumped = cluster.run_tool("pg_dump", &["--schema-only", "--binary-upgrade"], b"");
    assert!(dumped.status.success(), "pg_upgrade would fail: {}", String::from_utf8_lossy(&dumped.stderr));
    db.text("select attmissingval::text from pg_attribute where attrelid = 'c'::regclass");
}
