//! `rbytea import-lo`: payloads out of large objects, in batches.

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::tool::{Ran, run, tool};

/// A cluster with 250 rows of `images (n, lo, content)`, the last two of which share a large object.
fn cluster_with_images() -> (Cluster, Session) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create table images (n int primary key, lo oid, content rbytea);
         insert into images select n, lo_from_bytea(0, convert_to('image ' || n, 'UTF8')) from generate_series(1, 249) n;
         insert into images select 250, lo from images where n = 249; insert into images values (251, null, null)",
    );
    (cluster, db)
}

fn import(cluster: &Cluster, options: &[&str]) -> Ran {
    let arguments = ["import-lo", "-t", "images", "-c", "content", "-o", "lo"];
    run(tool(cluster, arguments).args(options))
}

/// How many rows have the payload that they should have.
fn imported(db: &Session) -> i64 {
    db.one("select count(*) from images where content = convert_to('image ' || least(n, 249), 'UTF8')", &[])
}

fn objects(db: &Session) -> i64 {
    db.one("select count(*) from pg_largeobject_metadata", &[])
}

#[test]
fn every_row_gets_the_bytes_of_its_large_object() {
    let (cluster, db) = cluster_with_images();
    let said = import(&cluster, &[]).ends_with(0).said;
    assert!(said.contains("imported 250 rows"), "{said}");
    assert_eq!((imported(&db), objects(&db)), (250, 249));
    assert!(import(&cluster, &[]).ends_with(0).said.contains("imported 0 rows"));
}

#[test]
fn large_objects_that_no_row_needs_any_more_are_unlinked() {
    let (cluster, db) = cluster_with_images();
    import(&cluster, &["--unlink", "--batch", "1"]).ends_with(0);
    assert_eq!((imported(&db), objects(&db)), (250, 0));
    assert_eq!(db.one::<i64>("select count(lo) from images", &[]), 0);
}

#[test]
fn a_row_that_cannot_be_imported_is_left_and_the_others_are_not() {
    let (cluster, db) = cluster_with_images();
    db.run("select lo_unlink(lo) from images where n = 7");
    let failed = import(&cluster, &["--unlink"]).ends_with(1);
    assert_eq!(failed.said.matches("does not exist").count(), 1, "{}", failed.said);
    assert!(failed.said.contains("1 row not imported"), "{}", failed.said);
    assert_eq!((imported(&db), objects(&db)), (249, 0));
    db.run("update images set lo = lo_from_bytea(0, 'image 7') where n = 7");
    import(&cluster, &["--unlink"]).ends_with(0);
    assert_eq!((imported(&db), objects(&db)), (250, 0));
}

#[test]
fn partitions_are_imported_as_well() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create table images (n int, lo oid, content rbytea) partition by range (n);
         create table low partition of images for values from (0) to (10);
         create table high partition of images for values from (10) to (1000);
         insert into images select n, lo_from_bytea(0, convert_to('image ' || n, 'UTF8')) from generate_series(1, 20) n",
    );
    import(&cluster, &["--unlink"]).ends_with(0);
    assert_eq!((imported(&db), objects(&db)), (20, 0));
}
