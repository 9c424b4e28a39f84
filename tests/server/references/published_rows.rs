//! Which rows of published tables are refused, and which are not.

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::{accept, reference};
use crate::references::published::{assert_refused, decode, large, slot, with_large_payloads};
use crate::support::cluster::Cluster;
use crate::support::subscription::{Link, QUICK, far};
use crate::support::twin_tables::Twins;

const TABLES: &str = "
    create table pub (n int primary key, r rbytea, s rbytea);
    create table other.free (n int primary key, r rbytea, s rbytea);
    create table root (n int primary key, r rbytea, s rbytea) partition by range (n);
    create table leaf (s rbytea, r rbytea, n int not null);
    alter table root attach partition leaf for values from (0) to (100)";

#[test]
fn rows_that_no_subscription_could_take_are_refused_whatever_publishes_the_table() {
    let (_xfs, db) = with_large_payloads();
    db.run(TABLES);
    let (r1, r2, r3) = (large(1), large(2), large(3));
    for publication in [
        "for table pub, root",
        "for table pub, root with (publish_via_partition_root = true)",
        "for table pub, leaf",
        "for table pub (n, r, s), root (n, r, s) with (publish_via_partition_root = true)",
        "for tables in schema public",
        "for all tables",
    ] {
        db.run(&format!("create publication big_rows {publication}"));
        for table in ["pub", "root", "leaf"] {
            for (r, s) in [(r1.as_str(), "null"), ("null", &*r1), (&*r2, &*r3), (&*r3, &*r2)] {
                assert_refused(
                    &db,
                    &format!("insert into {table} (n, r, s) values (1, {r}, {s})"),
                    "big_rows",
                );
            }
            db.run(&format!("insert into {table} (n, r, s) values (1, {r2}, null), (2, null, {r3})"));
            assert_refused(&db, &format!("update {table} set s = {r3} where n = 1"), "big_rows");
            db.run(&format!("delete from {table} where n in (1, 2)"));
        }
        if publication == "for all tables" {
            assert_refused(&db, &format!("create table made as select 1 as n, {r1} as r"), "big_rows");
            db.run(&format!("create temp table passing as select 1 as n, {r1} as r; create unlogged table u as select 1 as n, {r1} as r; drop table u"));
        } else {
            db.run(&format!("insert into other.free values (1, {r1}, null); truncate other.free"));
        }
        db.run("drop publication big_rows");
    }
    db.run(&format!("insert into pub values (1, {r1}, {r1}); insert into root values (1, {r1}, {r1})"));
    proves_by_assertions(Promise::Replication, 6 * 15 + 1);
}

#[test]
fn columns_that_are_not_published_do_not_count() {
    let (_xfs, db) = with_large_payloads();
    db.run(TABLES);
    let (r1, r2, r3) = (large(1), large(2), large(3));
    db.run("create publication without for table pub (n, s), root (n, r) with (publish_via_partition_root = true)");
    db.run(&format!("insert into pub values (1, {r1}, 'small'), (2, {r2}, {r2}), (3, {r3}, {r2})"));
    db.run(&format!("insert into root values (1, 'small', {r1}), (2, {r2}, {r2})"));
    assert_refused(&db, &format!("insert into pub values (4, null, {r1})"), "without");
    assert_refused(&db, &format!("update root set r = {r1} where n = 2"), "without");
    // What another one has beside it does.
    db.run("create publication with_it for table pub (n, r)");
    assert_refused(&db, &format!("insert into pub values (4, {r1}, null)"), "with_it");
}

/// A row that was there before the table was published can be deleted, and made smaller.
#[test]
fn rows_of_before_the_publication_are_refused_when_they_are_updated() {
    let (_xfs, db) = with_large_payloads();
    db.run(TABLES);
    db.run(&format!("insert into pub values (1, {}, null), (2, {}, null)", large(1), large(1)));
    db.run("create publication late for table pub");
    slot(&db);
    assert_refused(&db, "update pub set s = 'another column'", "late");
    db.run("update pub set r = 'smaller' where n = 1; delete from pub where n = 2");
    assert_eq!(decode(&db, "late"), 2);
}

/// A copy is refused as well, and what comes later goes to the subscriber.
#[test]
fn a_subscription_goes_on_after_rows_that_were_refused() {
    let (xfs, db) = with_large_payloads();
    db.run(TABLES);
    let text = reference(&db, "r from other.big where n = 1");
    let conf = |cluster: &Cluster| {
        cluster.set_conf(QUICK[0]);
        cluster.reload();
    };
    conf(&xfs.cluster);
    db.run("create publication p for table pub");
    let far = far(&xfs.cluster);
    far.run("create schema other");
    far.run(TABLES);
    let link = Link::new(&xfs.cluster, (&db, &far), "s", "p", "");
    link.catch_up();
    accept(&db, "on", None);
    assert_refused(&db, &format!("insert into pub values (1, '{text}', null)"), "p");
    let copy = xfs.cluster.try_psql(
        &["-d", "source", "-c", "set rbytea.restore_references = on", "-c", "copy pub (n, r) from stdin"],
        format!("1\t\\{text}\n"),
    );
    let said = String::from_utf8_lossy(&copy.stderr).into_owned();
    assert!(said.contains("payload is too large for logical replication"), "{said}");
    db.run(&format!("begin; savepoint s; do $$ begin insert into pub values (2, {}, null); exception when program_limit_exceeded then null; end $$; insert into pub values (3, 'goes on', 'so does this'); commit", large(1)));
    link.catch_up();
    assert_eq!(far.text("select n, convert_from(r, 'utf8') from pub"), "3|goes on");
    far.rvacuum();
    assert_eq!(far.text("select problem from rbytea_check(digest => true)"), "");
    link.end();
}

/// Of a table with REPLICA IDENTITY FULL the old row is sent beside the new one.
#[test]
fn an_update_whose_old_and_new_row_are_together_too_large_is_refused() {
    let (_xfs, db) = with_large_payloads();
    db.run(TABLES);
    db.run("alter table pub replica identity full; create publication p for table pub");
    db.run(&format!("insert into pub values (1, {}, null), (2, {}, null)", large(2), large(3)));
    assert_refused(&db, "update pub set s = 'another column' where n = 1", "p");
    assert_refused(&db, &format!("update pub set r = {} where n = 2", large(2)), "p");
    db.run("update pub set s = 'another column' where n = 2; delete from pub");
}

/// Payloads that arrays and composite values refer to are sent as well.
#[test]
fn payloads_within_arrays_and_composite_values_count() {
    let (_xfs, db) = with_large_payloads();
    db.run("create type pair as (label text, r rbytea); create table within (n int primary key, rs rbytea[], p pair, r rbytea);
            create publication p for table within");
    slot(&db);
    let (r1, r2, r3) = (large(1), large(2), large(3));
    for sql in [
        format!("insert into within (n, rs) values (1, array[{r1}])"),
        format!("insert into within (n, rs) values (1, array[{r2}, {r3}])"),
        format!("insert into within (n, p) values (1, row('x', {r1})::pair)"),
        format!("insert into within (n, rs, r) values (1, array[{r2}], {r3})"),
    ] {
        assert_refused(&db, &sql, "p");
    }
    db.run("insert into within values (1, array['small'::rbytea], row('x', 'small')::pair, 'small')");
    assert_eq!(decode(&db, "p"), 1);
}
