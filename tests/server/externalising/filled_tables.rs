//! Tables that a statement creates and fills at once, and relations that store copies: CREATE TABLE AS, SELECT
//! INTO, materialized views, temporary tables.

use tokio_postgres::error::SqlState;

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster, cluster_with_table, triggers};

#[test]
fn tables_filled_at_their_creation_store() {
    let cluster = cluster();
    let db = cluster.session();
    let source = "select n, payload(n) as b, payload(n)::rbytea as r from generate_series(1, 5) n";
    db.run(&format!("prepare source as {source}"));
    let statements = [
        format!("create table a as {source}"),
        format!("create unlogged table a as {source}"),
        format!("create table if not exists a (n, b, r) as {source}"),
        format!("select * into a from ({source}) s"),
        format!("select * into unlogged a from ({source}) s"),
        "create table a as execute source".into(),
        format!("do $$ begin execute 'create table a as {source}'; end $$"),
        format!("begin; create table a as {source}; savepoint s; release s; commit"),
        format!("set role alice; create table a as {source}; reset role"),
    ];
    db.run("create role alice; grant create on schema public to alice");

    for statement in statements {
        db.run(&statement);
        db.assert_stored("a", 5);
        assert_live_is(&cluster, &db, &[("r", "a")]);
        db.run("insert into a values (6, payload(6), payload(6))");
        db.assert_stored("a", 6);
        db.run("drop table a");
        db.rvacuum();
        assert_eq!(cluster.live().len(), 0, "{statement}");
    }
    db.run(&format!("create table a as {source} with no data"));
    assert_eq!(db.one::<i64>("select count(*) from a", &[]), 0);
    db.fill("a", 1..=2);
    db.assert_stored("a", 2);
    assert_eq!(db.notices().len(), 0, "nothing to warn about");
}

#[test]
fn a_table_made_of_copied_references_shares_the_files() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=5);

    db.run("create table a as select * from t; select * into c from a where n > 2; insert into c values (6, payload(6), payload(6))");
    assert_eq!(db.uuids("r", "a"), db.uuids("r", "t"), "a copy of the table has written payloads again");
    assert_eq!(cluster.live().len(), 6);
    db.run("drop table t; delete from a where n > 2");
    assert_eq!(db.rvacuum(), 0, "each file has a row in one of the copies");
    db.assert_stored("a", 2);
    db.assert_stored("c", 4);
}

#[test]
fn a_table_that_explain_analyze_creates_loses_nothing() {
    let cluster = cluster();
    let db = cluster.session();

    // EXPLAIN fires no event trigger: the table has its row trigger, and rows that have not come through it.
    db.run("explain analyze create table a as select n, payload(n) as b, payload(n)::rbytea as r from generate_series(1, 5) n");
    db.fill("a", 6..=7);
    db.assert_same("a", 7);
    assert_eq!(triggers(&db, "a"), 1);
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0);
    assert_eq!(db.one::<i64>("select count(*) from rbytea_check() where problem = 'not stored'", &[]), 5);
    db.run("update a set r = r");
    db.assert_stored("a", 7);
}

/// A database in which every table is published, and which takes no UPDATE of a table without an identity.
fn published() -> (Cluster, Session) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=5);
    db.run("create publication everything for all tables");
    (cluster, db)
}

#[track_caller]
fn assert_one_warning(db: &Session, table: &str) {
    let notices = db.notices();
    assert_eq!(
        notices.len(),
        1,
        "a user has to know that payloads of {table} stay in their rows: {notices:?}"
    );
    assert_eq!(notices[0].severity(), "WARNING");
    assert!(notices[0].message().contains(table), "{}", notices[0].message());
    assert!(notices[0].hint().is_some());
}

#[test]
fn published_tables_without_an_identity_keep_payloads_in_their_rows_and_say_so() {
    let (cluster, db) = published();
    let live = cluster.live();
    assert_eq!(
        db.sqlstate("create table x (n int); insert into x values (1); update x set n = 2").code(),
        "55000"
    );

    db.run(
        "create table a as select n, payload(n) as b, payload(n)::rbytea as r from generate_series(1, 5) n",
    );
    assert_one_warning(&db, "a");
    db.assert_inline("a", 5);
    db.run("select n, payload(n) as b, payload(n)::rbytea as r into c from generate_series(1, 5) n");
    assert_one_warning(&db, "c");
    db.assert_inline("c", 5);
    db.run("create table d (n int, b bytea, r bytea); insert into d select n, b, b from t");
    db.run("alter table d alter r type rbytea");
    assert_one_warning(&db, "d");
    db.assert_inline("d", 5);
    db.rvacuum();
    assert_eq!(cluster.live(), live);

    // What the hint says.
    for table in ["a", "c", "d"] {
        db.fill(table, 6..=6);
        db.run(&format!("alter table {table} replica identity full; update {table} set r = r"));
        db.assert_stored(table, 6);
    }
}

#[test]
fn published_copies_of_references_need_no_warning() {
    let (_cluster, db) = published();

    db.run("create table a as select * from t");
    db.assert_stored("a", 5);
    assert_eq!(db.uuids("r", "a"), db.uuids("r", "t"));
    let notices = db.notices();
    assert!(notices.is_empty(), "no payload has stayed in its row: {}", notices[0].message());
}

#[test]
fn a_row_filter_of_a_publication_does_not_refuse_a_conversion() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int primary key, b bytea, r bytea, x int);
         insert into t select n, payload(n), payload(n), n from generate_series(1, 5) n;
         create publication few for table t where (x > 2)",
    );
    assert_eq!(*db.error("update t set n = n").code(), SqlState::INVALID_COLUMN_REFERENCE);

    db.run("alter table t alter r type rbytea");
    db.assert_same("t", 5);
    assert_one_warning(&db, "t");
}

#[test]
fn materialized_views_keep_what_they_show() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=5);
    db.run(
        "create materialized view copied as select * from t;
         create unique index on copied (n);
         create materialized view literal as select n, payload(n) as b, payload(n)::rbytea as r from t;
         create materialized view stored as select n, payload(-n) as b, rbytea_store(payload(-n)) as r from t;
         create materialized view empty as select * from t with no data",
    );

    db.assert_stored("copied", 5);
    assert_eq!(db.uuids("r", "copied"), db.uuids("r", "t"));
    db.assert_inline("literal", 5);
    db.assert_stored("stored", 5);
    for view in ["copied", "literal", "stored", "empty"] {
        assert_eq!(triggers(&db, view), 0, "no row trigger fires on a materialized view");
    }

    db.run("delete from t where n <= 2");
    assert_eq!(db.rvacuum(), 0, "the view still shows the deleted rows");
    db.assert_stored("copied", 5);
    db.run("insert into t values (6, payload(6), payload(6)); update t set b = payload(33), r = payload(33) where n = 3");
    db.run("refresh materialized view concurrently copied; refresh materialized view empty");
    db.assert_stored("copied", 4);
    db.assert_stored("empty", 4);
    assert_eq!(db.rvacuum(), 3, "rows 1, 2 and the old 3 are seen nowhere any more");
    db.run("refresh materialized view copied; refresh materialized view literal; refresh materialized view stored");
    db.assert_stored("copied", 4);
    db.assert_inline("literal", 4);
    db.assert_stored("stored", 4);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "stored")]);
}

#[test]
fn temporary_tables_keep_payloads_in_memory_and_references_alive() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create temp table own (n int primary key, b bytea, r rbytea);
         create temp table made as select n, payload(n) as b, payload(n)::rbytea as r from generate_series(1, 5) n;
         create temp table changed (n int, b bytea, r bytea)",
    );
    db.fill("own", 1..=5);
    db.fill("changed", 1..=5);
    db.run("alter table changed alter r type rbytea; update own set b = payload(n + 1), r = payload(n + 1)");
    for table in ["own", "made", "changed"] {
        db.assert_inline(table, 5);
    }
    assert!(cluster.store_files().is_empty(), "a temporary table has written files");

    db.fill("t", 1..=3);
    db.run("create temp table kept as select * from t; truncate t");
    db.assert_stored("kept", 3);
    assert_eq!(db.rvacuum(), 0, "the session's own temporary table refers to the files");
    db.run("insert into t select * from kept; insert into t select n + 10, b, r from own");
    db.assert_stored("t", 8);
    db.run("drop table kept");
    db.run("begin; create temp table brief on commit drop as select * from t; truncate t; commit");
    assert_eq!(db.rvacuum(), 8);
}
