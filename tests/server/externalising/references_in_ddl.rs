//! References that DDL stores past the row trigger: their files are looked for at the end of the statement, as the trigger
//! would. One in TRASH is brought back (I7); one that is gone is an error, for the loss must not spread.

use std::fs;
use std::path::PathBuf;

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with_table, name, names};

/// A way to store the value of `carried(1)` in the schema `work`, whose table `base (n, b)` has one row.
struct Way {
    /// Before the row of `base` is there.
    setup: &'static str,
    statement: &'static str,
    /// Where the value is then.
    column: &'static str,
    table: &'static str,
}

const fn way(setup: &'static str, statement: &'static str, column: &'static str, table: &'static str) -> Way {
    Way { setup, statement, column, table }
}

const WAYS: &[Way] = &[
    way("", "create materialized view m as select n, b, carried(n) as r from base", "r", "m"),
    way("", "create materialized view m as select array[carried(n)] as rs from base", "rs[1]", "m"),
    way(
        "",
        "create materialized view m as select row(n, b, carried(n))::public.t as f from base",
        "(f).r",
        "m",
    ),
    way(
        "create materialized view m as select n, b, carried(n) as r from base with no data",
        "refresh materialized view m",
        "r",
        "m",
    ),
    way(
        "create materialized view m as select n, b, carried(n) as r from base; create unique index on m (n)",
        "refresh materialized view concurrently m",
        "r",
        "m",
    ),
    way(
        "create materialized view m as select array[carried(n)] as rs from base",
        "do $$ begin execute 'refresh materialized view work.m'; end $$",
        "rs[1]",
        "m",
    ),
    way("", "create table made as select n, b, carried(n) as r from base", "r", "made"),
    way("", "select array[carried(n)] as rs into made from base", "rs[1]", "made"),
    way("", "alter table base add column r rbytea default carried(1)", "r", "base"),
    way("", "alter table base add column rs rbytea[] default array[carried(1)]", "rs[1]", "base"),
    way("", "alter table base add column f public.t default row(1, '', carried(1))", "(f).r", "base"),
    // STABLE: the default stands once in the catalog.
    way("", "alter table base add column r rbytea default noted(1)", "r", "base"),
    way("", "alter table base add column rs rbytea[] default array[noted(1)]", "rs[1]", "base"),
    // A rewrite for another column's sake puts it into the rows after all.
    way("", "alter table base alter n type bigint, add column r rbytea default noted(1)", "r", "base"),
    way("create domain doc as rbytea default carried(1)", "alter table base add column r doc", "r", "base"),
    way("alter table base add r int", "alter table base alter r type rbytea using carried(n)", "r", "base"),
    way(
        "alter table base add r rbytea",
        "alter table base alter r type rbytea using carried(n)",
        "r",
        "base",
    ),
    way(
        "alter table base add rs int",
        "alter table base alter rs type rbytea[] using array[carried(n)]",
        "rs[1]",
        "base",
    ),
    way(
        "drop table base; create table base (n int, b bytea) partition by list (n); create table leaf partition of base default",
        "alter table base add column r rbytea default carried(1)",
        "r",
        "leaf",
    ),
    way(
        "drop table base; create table base (n int, b bytea) partition by list (n); create table leaf partition of base default",
        "alter table base add column r rbytea default noted(1)",
        "r",
        "leaf",
    ),
    way(
        "drop table base; create table parent (n int, b bytea); create table base () inherits (parent)",
        "alter table parent add column rs rbytea[] default array[carried(1)]",
        "rs[1]",
        "base",
    ),
];

/// The files of two deleted rows are in TRASH. The second session has the rows in a temporary table, out of which
/// `carried` and its like hand references to whatever calls them.
fn carrying() -> (Cluster, Session, Session) {
    let cluster = cluster_with_table();
    let (db, carrier) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    carrier.run("create temp table own as select * from t");
    for (name, volatility) in [("carried", "volatile"), ("noted", "stable")] {
        db.run(&format!(
            "create function {name}(n int) returns rbytea language plpgsql {volatility} as $$
             declare v public.rbytea; begin
                 execute 'select r from pg_temp.own where n = $1' into v using n;
                 return v;
             end $$"
        ));
    }
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 2);
    (cluster, db, carrier)
}

/// Makes the schema `work` and what the way needs.
fn prepare(carrier: &Session, way: &Way) {
    carrier.run("create schema work; set search_path = work, public; create table base (n int, b bytea)");
    carrier.run(way.setup);
    carrier.run("insert into base values (1, payload(1))");
}

#[test]
fn a_file_in_trash_comes_back_when_ddl_stores_a_reference_to_it() {
    let (cluster, db, carrier) = carrying();
    let wanted = carrier.uuids("r", "own where n = 1");
    for way in WAYS {
        let Way { statement, column, table, .. } = way;
        prepare(&carrier, way);
        assert_eq!((cluster.live().len(), cluster.trash().len()), (0, 2), "before: {statement}");

        carrier.run(statement);
        assert_eq!(carrier.uuids(column, table), wanted, "{statement} has stored something else");
        assert_eq!(
            names(&cluster.live()),
            wanted.iter().cloned().collect(),
            "the purge could delete it: {statement}"
        );
        assert_eq!(
            cluster.trash().len(),
            1,
            "the statement has brought back a file that it does not refer to: {statement}"
        );
        let reads = format!("select bool_and({column}::bytea = payload(1)) from {table}");
        assert!(carrier.one::<bool>(&reads, &[]), "{statement}");

        db.notices();
        assert_eq!(db.rvacuum(), 0, "{statement}");
        assert!(
            db.notices().iter().all(|notice| notice.severity() != "WARNING"),
            "the mark has nothing to bring back: {statement}"
        );
        carrier.run("drop schema work cascade");
        assert_eq!(db.rvacuum(), 1, "{statement}");
    }
}

#[test]
fn ddl_that_would_store_a_reference_to_a_lost_file_fails_and_changes_nothing() {
    let (cluster, _db, carrier) = carrying();
    let wanted = carrier.uuids("r", "own where n = 1").remove(0);
    let trashed: PathBuf = cluster.trash().into_iter().find(|file| name(file) == wanted).unwrap();
    fs::rename(&trashed, cluster.dir().join("lost")).unwrap();
    let shape = "select c.relname, c.relkind, c.relispopulated, a.attname, a.atttypid::regtype, a.attmissingval is null
                   from pg_class c join pg_attribute a on a.attrelid = c.oid and attnum > 0
                  where relnamespace = 'work'::regnamespace order by 1, attnum";
    for way in WAYS {
        let Way { statement, .. } = way;
        prepare(&carrier, way);
        let before = carrier.text(shape);

        assert_eq!(carrier.sqlstate(statement).code(), "58P01", "the loss has spread: {statement}");
        assert_eq!(carrier.text(shape), before, "{statement}");
        assert_eq!(
            carrier.one::<i64>("select count(*) from base where b = payload(1)", &[]),
            1,
            "{statement}"
        );
        carrier.run("drop schema work cascade");
    }
    assert_eq!((cluster.live().len(), cluster.trash().len()), (0, 1));
}

/// A refresh that fails leaves the view with what it had.
#[test]
fn a_materialized_view_keeps_its_rows_when_a_refresh_meets_a_lost_file() {
    let (cluster, _db, carrier) = carrying();
    carrier.run(
        "create table base (n int); insert into base values (1);
         create materialized view m as select n, payload(n) as b, carried(n) as r from base; create unique index on m (n);
         insert into base values (2)",
    );
    assert_eq!(cluster.live().len(), 1);
    let lost = cluster.trash().remove(0);
    fs::rename(&lost, cluster.dir().join("lost")).unwrap();
    for refresh in ["refresh materialized view m", "refresh materialized view concurrently m"] {
        assert_eq!(carrier.sqlstate(refresh).code(), "58P01", "{refresh}");
        carrier.assert_stored("m", 1);
    }
    fs::rename(cluster.dir().join("lost"), &lost).unwrap();
    carrier.run("refresh materialized view m");
    carrier.assert_stored("m", 2);
    assert!(cluster.trash().is_empty());
}
