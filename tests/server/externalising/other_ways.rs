//! Tables that come otherwise than by a statement that event triggers hear of, and tables that are no heap.

use tokio_postgres::error::SqlState;

use crate::support::access_method::OtherAccessMethod;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{
    Twins, assert_live_is, cluster, cluster_with, cluster_with_table, triggers,
};

/// Without event triggers, as a table is made that another extension makes.
#[test]
fn a_table_stores_from_its_first_row_on_whoever_makes_it() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "alter event trigger rbytea_attach disable;
         create domain document as rbytea check (len(value) > 0);
         create type pair as (x int, r rbytea)",
    );
    for table in [
        "create table a (n int, b bytea, r rbytea)",
        "create unlogged table a (n int primary key, b bytea, r document not null default 'x')",
        "create table a (n int check (n > 0), b bytea, r rbytea, constraint c check (len(r) > 0), p pair, g bigint generated always as (len(r)) stored)",
        "create table parent (n int, b bytea, r rbytea); create table a () inherits (parent)",
        "create table p (n int, b bytea, r rbytea) partition by range (n); create table a partition of p for values from (1) to (100)",
        "create table l (n int, b bytea, r rbytea); create table a (like l including all)",
        "do 'begin create table a (n int, b bytea, r rbytea); end'",
    ] {
        db.run(table);
        assert_eq!(triggers(&db, "a"), 1, "{table}");
        db.run("insert into a (n, b, r) select n, payload(n), payload(n) from generate_series(1, 3) n");
        db.assert_stored("a", 3);
        assert_live_is(&cluster, &db, &[("r", "a")]);
        db.run("drop table a; drop table if exists p, l, parent");
        db.rvacuum();
    }
    db.run("create table o (n int, b bytea); create temp table temporary (r rbytea); create view v as select null::rbytea as r");
    assert_eq!(["o", "temporary", "v"].map(|other| triggers(&db, other)), [0; 3]);
}

/// A chunk that is made while a row is inserted.
#[test]
fn a_table_that_is_made_during_an_insert_stores_that_row() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "alter event trigger rbytea_attach disable;
         create table t (n int, b bytea, r rbytea);
         create function route() returns trigger language plpgsql as $$
         begin
             execute format('create table if not exists chunk_%s () inherits (t)', new.n);
             execute format('insert into chunk_%s select ($1).*', new.n) using new;
             return null;
         end $$;
         create trigger route before insert on t for each row execute function route()",
    );
    db.fill("t", 1..=5);
    db.assert_stored("t", 5);
    db.assert_stored("chunk_5", 1);
    // The row trigger of `t` comes after the one that routes.
    assert_eq!(cluster.live().len(), 5);
}

#[test]
fn a_table_of_heap_under_another_name_is_a_heap() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create access method other type table handler heap_tableam_handler; create table a (n int, b bytea, r rbytea) using other");
    db.fill("a", 1..=4);
    db.fill("t", 1..=2);
    db.assert_stored("a", 4);
    db.run("delete from a where n < 3; alter table t set access method other; set default_table_access_method = other; create table c as select * from a");
    assert_eq!(db.rvacuum(), 2);
    db.assert_stored("a", 2);
    db.assert_stored("c", 2);
    db.assert_stored("t", 2);
}

#[test]
fn tables_that_are_no_heap_cannot_have_values() {
    for conf in [&[][..], &["shared_preload_libraries = ''"]] {
        let cluster = cluster_with(conf);
        let db = cluster.session();
        let other = OtherAccessMethod::compile(cluster.installation());
        other.create(&db);
        db.run(
            "create table t (n int, b bytea, r rbytea); create table no_values (n int) using other;
             create domain document as rbytea; create type pair as (x int, r rbytea); create type numbers as (n int);
             create table typed of numbers using other; create table of_rows (x numbers) using other;
             create table parts (n int, r rbytea) partition by list (n)",
        );
        db.fill("t", 1..=3);
        for statement in [
            "create table a (r rbytea) using other",
            "create table a (r document) using other",
            "create table a (p pair[]) using other",
            "create temp table a (r rbytea) using other",
            "create table a using other as select r from t",
            "create materialized view a using other as select r from t",
            "create table a partition of parts for values in (1) using other",
            "set default_table_access_method = other; create table a (r rbytea)",
            "set default_table_access_method = other; select r into a from t",
            "alter table t set access method other",
            "alter table no_values add r rbytea",
            "alter table no_values alter n type rbytea using null",
            "alter type numbers add attribute r rbytea cascade",
        ] {
            let error = db.error(statement);
            assert_eq!(error.code().code(), "0A000", "{statement}: {error:?}");
            assert!(error.message().contains("\"other\""), "{error:?}");
            db.run("rollback; reset default_table_access_method");
        }
        db.assert_stored("t", 3);
        db.run("delete from t where n = 1");
        assert_eq!(db.rvacuum(), 1);
    }
}

/// Indexes over what holds values, refused before they are there.
#[test]
fn an_index_that_is_made_concurrently_leaves_nothing_behind() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create domain document as rbytea; create type pair as (x int, r rbytea);
         create table t (n int, r rbytea, d document, a rbytea[], p pair, ps pair[]);
         insert into t select n, 'x', 'x', array['x'::rbytea], row(n, 'x'::rbytea)::pair from generate_series(1, 3) n",
    );
    let indexes = |db: &Session| db.text("select count(*) from pg_index where indrelid = 't'::regclass");
    for on in
        ["(r)", "(d)", "(a)", "(p)", "(ps)", "(n, a)", "((array[r]))", "using gin (a)", "((p)) where n > 1"]
    {
        for create in ["create index concurrently", "create unique index concurrently", "create index"] {
            if create.contains("unique") && on.contains("gin") {
                continue;
            }
            let statement = format!("{create} i on t {on}");
            let error = db.error(&statement);
            assert_eq!(error.code().code(), "0A000", "{statement}: {error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("hash")), "{statement}: {error:?}");
            assert_eq!(indexes(&db), "0", "{statement}");
        }
    }
    for statement in [
        "create index concurrently i on t using hash (r)",
        "create index concurrently j on t (n) include (a, p)",
        "create index concurrently k on t (len(r))",
        "create index l on t using hash (a)",
        "reindex table concurrently t",
    ] {
        db.run(statement);
    }
    assert_eq!(indexes(&db), "4");
}

/// The result of a function gets values when its type does.
#[test]
fn an_index_of_a_function_s_result_gets_no_values_later() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create type made as (a int); create table source (a int); create table t (n int);
         create function make(int) returns made language sql immutable as 'select row($1)::public.made';
         create function read(int) returns source language sql immutable as 'select row($1)::public.source';
         create index on t (make(n)); create index on t (read(n)); create table unrelated (n int)",
    );
    for statement in ["alter type made add attribute r rbytea", "alter table source add r rbytea"] {
        assert_eq!(db.sqlstate(statement).code(), "0A000", "{statement}");
    }
    db.run("alter table unrelated add r rbytea; alter type made add attribute b bytea; alter table source add b bytea");
}

/// The bounds would be values in the catalog.
#[test]
fn partitions_have_no_values_in_their_bounds() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create domain document as rbytea; create type pair as (x int, r rbytea)");
    for by in [
        "list (r)",
        "range (r)",
        "range (n, r)",
        "list (d)",
        "range (p)",
        "list ((coalesce(r, '')))",
        "range ((array[r]))",
    ] {
        let statement = format!("create table parts (n int, r rbytea, d document, p pair) partition by {by}");
        assert_eq!(db.sqlstate(&statement).code(), "0A000", "{by}");
    }
    db.run(
        "create table parts (n int, r rbytea) partition by list (sha256sum(r)); create table part partition of parts default;
         create table hashed (n int, b bytea, r rbytea) partition by hash (r);
         create table h0 partition of hashed for values with (modulus 2, remainder 0);
         create table h1 partition of hashed for values with (modulus 2, remainder 1)",
    );
    db.fill("hashed", 1..=20);
    db.assert_stored("hashed", 20);
    assert!(db.one::<bool>("select count(*) between 1 and 19 from h0", &[]));
}

/// What TimescaleDB makes of a hypertable and its chunk, without TimescaleDB: a table with columns of the same names and of its own type.
#[test]
fn values_stay_out_of_the_columnstore() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let refused = |sql: &str| {
        let error = db.error(sql);
        assert_eq!(error.code(), &SqlState::FEATURE_NOT_SUPPORTED, "{sql}: {error}");
        assert!(error.message().contains("columnstore"), "{sql}: {error}");
    };
    db.run(
        "create schema _timescaledb_internal; create type _timescaledb_internal.compressed_data as (bytes bytea);
         create domain document as rbytea;
         create table scans (at int, camera int, picture rbytea); create table pages (at int, page document[]);
         create table plain (at int, picture bytea);
         create table scans_1 () inherits (scans); create table pages_1 () inherits (pages); create table plain_1 () inherits (plain)",
    );
    let compressed = "_timescaledb_internal.compressed_data";
    let columns = format!("(_ts_meta_count int, at {compressed}, camera int, picture {compressed})");
    refused(&format!("create table _timescaledb_internal.compressed {columns}"));
    refused(&format!("create table _timescaledb_internal.compressed (at {compressed}, page {compressed})"));
    // Of other columns there may be one, and it stays the only one.
    db.run(&format!("create table _timescaledb_internal.other (at {compressed}, picture {compressed})"));
    refused("alter table plain alter picture type rbytea using picture::rbytea");
    refused(&format!(
        "alter table scans drop camera; alter table _timescaledb_internal.other add x {compressed}"
    ));
    db.run("create table _timescaledb_internal.added (at int, camera int, picture int); alter table _timescaledb_internal.added drop picture");
    refused(&format!("alter table _timescaledb_internal.added add picture {compressed}"));
    db.fill("t", 1..=3);
    db.run("delete from t where n = 1");
    // Nor does a table that is no hypertable, or one that a user has made somewhere else.
    db.run("create table single (at int, picture rbytea); create role alice login; grant create on schema public to alice; grant usage on schema _timescaledb_internal to alice");
    let alice = cluster.session_as("alice");
    alice.run(&format!("create table hers (at int, camera int, picture int); alter table hers drop picture; alter table hers add picture {compressed}"));
    assert_eq!(db.rvacuum(), 1, "nothing of this stands in the way");

    // One that was there before the hook was: nothing is moved, by anybody.
    db.run(&format!("alter event trigger rbytea_attach disable; create table _timescaledb_internal.compressed (at {compressed}, camera int)"));
    db.run("update pg_attribute set attname = 'picture' where attrelid = '_timescaledb_internal.compressed'::regclass and attname = 'camera'");
    db.run(&format!("alter table _timescaledb_internal.compressed add camera int;
         update pg_attribute set atttypid = '{compressed}'::regtype where attrelid = '_timescaledb_internal.compressed'::regclass and attname = 'picture'"));
    db.run("delete from t where n = 2");
    for run in ["select rvacuum()", "select * from rvacuum_plan()", "select rbytea_check()"] {
        refused(run);
    }
    assert_eq!(cluster.live().len(), 2);
    // Recorded by another process.
    let error =
        "select coalesce((select error from rbytea.rbytea_vacuum_history order by id desc limit 1), '')";
    wait_until(PATIENCE, || db.text(error).contains("public.scans"));
    db.run("drop table _timescaledb_internal.compressed");
    assert_eq!(db.rvacuum(), 1);
}
