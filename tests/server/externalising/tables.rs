//! However a table comes to its column of type rbytea, and by whatever name it goes, it stores payloads.

use crate::support::twin_tables::{Twins, assert_live_is, cluster, triggers};

#[test]
fn tables_from_every_kind_of_definition_store() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int primary key, b bytea, r rbytea default '\\x00' not null check (len(r) > 0));
         create table liked (like t including all);
         create table liked_columns (like t);
         create schema embedded
             create view v as select * from inside
             create table inside (n int, b bytea, r rbytea)
             create index on inside (n);
         create unlogged table unlogged (n int, b bytea, r rbytea);
         create table if not exists t (n int);
         create table if not exists fresh (n int, b bytea, r rbytea);
         do $$ begin execute 'create table dynamic (n int, b bytea, r rbytea)'; end $$;
         create table \"Mit Leerzeichen \"\"und\"\" Umlaut ä\" (n int, b bytea, r rbytea)",
    );

    let tables = [
        "t",
        "liked",
        "liked_columns",
        "embedded.inside",
        "unlogged",
        "fresh",
        "dynamic",
        "\"Mit Leerzeichen \"\"und\"\" Umlaut ä\"",
    ];
    for table in tables {
        db.fill(table, 1..=3);
        db.assert_stored(table, 3);
    }
    assert_eq!(cluster.live().len(), 3 * tables.len());
    assert_live_is(&cluster, &db, &tables.map(|table| ("r", table)));
}

#[test]
fn typed_tables_follow_their_type() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create type doc as (n int, b bytea);
         create table t of doc;
         create table part of doc (primary key (n)) partition by range (n);
         create table part1 partition of part for values from (0) to (100);
         insert into t values (1, payload(1))",
    );

    db.run("alter type doc add attribute r rbytea cascade");
    db.fill("t", 2..=3);
    db.fill("part", 2..=3);
    db.run("update t set r = b where n = 1");
    db.assert_stored("t", 3);
    db.assert_stored("part", 2);
    db.run("create table later of doc");
    db.fill("later", 1..=2);
    db.assert_stored("later", 2);

    db.run("alter type doc drop attribute r cascade");
    for table in ["t", "part1", "later"] {
        assert_eq!(triggers(&db, table), 0, "{table} has kept its trigger");
    }
    assert_eq!(db.rvacuum(), 7, "nothing refers to the files of a column that is gone");

    db.run("alter type doc add attribute r bytea cascade; update t set r = b");
    db.run("alter type doc alter attribute r type rbytea cascade");
    db.assert_stored("t", 3);
    db.run(
        "drop table t; create table t (n int, b bytea, r rbytea); alter table t of doc; alter table t not of",
    );
    db.fill("t", 1..=2);
    db.assert_stored("t", 2);
}

#[test]
fn a_table_keeps_storing_under_another_name_in_another_place() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create table t (n int, b bytea, r rbytea); create schema s");
    db.fill("t", 1..=3);

    db.run(
        "alter table t rename column r to q; alter table t rename to u; alter table u set schema s;
         alter schema s rename to s2",
    );
    db.run("insert into s2.u values (4, payload(4), payload(4))");
    db.run(
        "alter table s2.u rename column q to r; alter table s2.u set unlogged; alter table s2.u set logged",
    );
    db.fill("s2.u", 5..=6);
    db.assert_stored("s2.u", 6);
    let before = db.uuids("r", "s2.u");

    db.run("create index i on s2.u (n); cluster s2.u using i");
    db.run("vacuum full s2.u");
    db.run("alter table s2.u set (fillfactor = 50)");
    db.assert_stored("s2.u", 6);
    assert_eq!(db.uuids("r", "s2.u"), before, "a rewrite of the table has written payloads again");
    db.fill("s2.u", 7..=8);
    db.assert_stored("s2.u", 8);
    assert_eq!(triggers(&db, "s2.u"), 1);
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "s2.u")]);
}

#[test]
fn columns_of_a_domain_store() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create domain small as rbytea check (octet_length(value) <= 2000);
         create domain smaller as small check (octet_length(value) <= 1000) not null;
         create table t (n int, b bytea, r smaller)",
    );

    db.fill("t", 1..=3);
    db.assert_stored("t", 3);
    assert_eq!(db.sqlstate("insert into t values (4, null, payload(4, 1001))").code(), "23514");
    assert_eq!(db.sqlstate("update t set r = null").code(), "23502");
    db.run("create table u (n int, b bytea, r small)");
    db.fill("u", 1..=2);
    db.run("insert into u select n + 10, b, r from t; insert into u select n + 20, b, r::rbytea from t");
    db.assert_stored("u", 8);
    db.run("alter domain small add constraint not_empty check (len(value) > 0)");
    assert_eq!(
        db.sqlstate("alter domain small add constraint big check (len(value) > 1000)").code(),
        "23514"
    );
    db.run("alter table t alter r type rbytea; alter table t alter r type small");
    db.assert_stored("t", 3);

    db.run("drop domain small cascade");
    for table in ["t", "u"] {
        assert_eq!(triggers(&db, table), 0, "{table} has kept its trigger");
    }
    db.rvacuum();
    assert_eq!(cluster.live().len(), 0);
    db.run("drop table t, u; drop extension rbytea");
}

#[test]
fn tables_that_event_triggers_make_store_too() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create function follow() returns event_trigger language plpgsql as $$ begin
             if not exists (select from pg_class where relname = 'shadow') then
                 create table shadow (n int, b bytea, r rbytea);
                 create table shadow_of as select n, payload(n) as b, payload(n)::rbytea as r from generate_series(1, 3) n;
             end if;
         end $$;
         create event trigger aaa on ddl_command_end when tag in ('CREATE TABLE') execute function follow()",
    );

    db.run("create table t (n int, b bytea, r rbytea)");
    db.assert_stored("shadow_of", 3);
    for table in ["t", "shadow", "shadow_of"] {
        assert_eq!(triggers(&db, table), 1, "{table}");
    }
    db.fill("t", 1..=2);
    db.fill("shadow", 1..=2);
    db.assert_stored("t", 2);
    db.assert_stored("shadow", 2);
}

#[test]
fn foreign_tables_and_views_are_left_alone() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int, b bytea, r rbytea) partition by range (n);
         create table t1 partition of t for values from (0) to (100);
         create foreign data wrapper far; create server far foreign data wrapper far;
         create foreign table t2 partition of t for values from (100) to (200) server far;
         create foreign table alone (n int, r rbytea) server far;
         create view v as select * from t1;
         alter table t add column second rbytea; alter foreign table alone add column second rbytea",
    );

    db.fill("t", 1..=3);
    db.assert_stored("v", 3);
    for table in ["t2", "alone", "v"] {
        assert_eq!(triggers(&db, table), 0, "{table} stores nothing here");
    }
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0, "every table had what it needs");
}

#[test]
fn the_extension_goes_when_nothing_uses_the_type() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create table t (n int, b bytea, r rbytea, second rbytea)");
    db.fill("t", 1..=2);

    assert_eq!(db.sqlstate("drop extension rbytea").code(), "2BP01", "a column of the type is a user");
    db.run("alter table t drop column r");
    assert_eq!(triggers(&db, "t"), 1, "there is one more column to store");
    db.run("alter table t drop column second");
    assert_eq!(triggers(&db, "t"), 0);
    db.run("drop extension rbytea; insert into t values (3, payload(3))");
    assert_eq!(db.one::<i64>("select count(*) from t where b = payload(n)", &[]), 3);

    db.run("create extension rbytea; alter table t add r rbytea; update t set r = b");
    db.assert_stored("t", 3);
    assert_eq!(
        db.rvacuum(),
        2,
        "what the extension left behind when it was dropped is garbage to the next one"
    );
    db.run("drop extension rbytea cascade; insert into t values (4, payload(4))");
    assert_eq!(db.one::<i64>("select count(*) from t", &[]), 4, "only the column has gone");
}

#[test]
fn a_column_that_goes_with_something_else_leaves_no_trigger_behind() {
    let cluster = cluster();
    let db = cluster.session();
    let ways = [
        (
            "create schema s; create domain s.d as rbytea; create table t (n int, r s.d)",
            "drop schema s cascade",
        ),
        (
            "create role alice; create schema s; grant all on schema s to alice; set role alice;
             create domain s.d as rbytea; reset role; create table t (n int, r s.d)",
            "drop owned by alice cascade",
        ),
        ("create domain d as rbytea; create table t (n int, r d)", "drop domain d cascade"),
    ];
    for (before, way) in ways {
        db.run(before);
        assert_eq!(triggers(&db, "t"), 1);
        db.run(way);
        assert_eq!(triggers(&db, "t"), 0, "the trigger has survived: {way}");
        db.run("insert into t values (1); drop table t; drop schema if exists s cascade");
    }
    db.run("drop extension rbytea");
}
