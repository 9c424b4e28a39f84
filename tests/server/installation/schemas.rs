//! The extension's table and views are in a schema of their own, off the search_path, wherever the extension itself is; the schema
//! comes with it and goes with it. One view is not: rbytea_upload, which clients name in COPY as they name functions.

use tokio_postgres::error::SqlState;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;

/// Relations of the extension, with their schemas.
const RELATIONS: &str = "select string_agg(relnamespace::regnamespace || '.' || relname, ' ' order by relname)
    from pg_class c join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    join pg_extension e on d.refobjid = e.oid and e.extname = 'rbytea'";

const ALL: &str = "rbytea.rbytea_stat rbytea.rbytea_stat_progress_reencrypt rbytea.rbytea_stat_progress_store \
                   rbytea.rbytea_stat_progress_vacuum rbytea.rbytea_vacuum_history";

/// All but that view and the sequence.
const APART: &str = "and relkind <> 'S' and relname <> 'rbytea_upload'";

/// An empty database of this name.
fn database(cluster: &Cluster, name: &str) -> Session {
    cluster.session().run(&format!("create database {name}"));
    cluster.session_in(name)
}

/// With its own schema on the search_path, the extension works, and nothing that a tool would find there is the
/// extension's.
#[track_caller]
fn assert_out_of_the_way(cluster: &Cluster, db: &Session, schema: &str) {
    assert_eq!(db.text(&format!("{RELATIONS} {APART}")), ALL, "{schema}");
    let visible = db.text(&format!("{RELATIONS} and pg_table_is_visible(c.oid)"));
    assert_eq!(visible, format!("{schema}.rbytea_upload"));
    db.run("create table t (n int, r rbytea); insert into t values (1, 'one'), (2, 'two'); delete from t where n = 1");
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 1, "{schema}");
    assert_eq!(db.text("select live_files, trash_files from rbytea.rbytea_stat"), "1|1", "{schema}");
    assert_eq!(cluster.files_of(db).live.len(), 1, "{schema}");
    assert_eq!(db.text("table rbytea.rbytea_stat_progress_vacuum"), "", "{schema}");
    db.run("drop table t");
    wait_until(PATIENCE, || {
        db.run("select rvacuum_purge()");
        cluster.files_of(db).trash.is_empty()
    });
}

#[test]
fn relations_are_off_the_search_path_wherever_the_extension_is() {
    let cluster = Cluster::running();
    for (at, schema) in ["public", "things", "\"Größe 数\"", "\"RBYTEA\""].into_iter().enumerate() {
        let db = database(&cluster, &format!("db{at}"));
        db.run(&format!("create schema if not exists {schema}; create extension rbytea schema {schema}"));
        db.run(&format!("set search_path = {schema}"));
        assert_out_of_the_way(&cluster, &db, schema);
        db.run("drop extension rbytea");
        assert_eq!(db.text("select count(*) from pg_namespace where nspname = 'rbytea'"), "0", "{schema}");
        db.run(&format!("create extension rbytea schema {schema}"));
        assert_out_of_the_way(&cluster, &db, schema);
    }
}

/// The schema is its owner's: the extension neither changes its rights nor takes it away.
#[test]
fn the_extension_may_be_in_the_schema_of_that_name() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run(
        "create role owner; create schema rbytea authorization owner; create extension rbytea schema rbytea",
    );
    let schema = "select pg_get_userbyid(nspowner), nspacl, obj_description(oid) from pg_namespace where nspname = 'rbytea'";
    assert_eq!(db.text(schema), "owner||");
    db.run("create table t (n int, r rbytea.rbytea); insert into t values (1, 'one'); delete from t");
    assert_eq!(db.one::<i64>("select rbytea.rvacuum()", &[]), 1);
    assert_eq!(db.text("select trash_files from rbytea.rbytea_stat"), "1");
    assert_eq!(db.text(&format!("{RELATIONS} {APART}")), ALL);
    db.run("drop table t; drop extension rbytea");
    assert_eq!(db.text(schema), "owner||");
}

#[test]
fn another_schema_of_that_name_is_not_taken() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("create schema rbytea; create table rbytea.mine (n int)");
    assert_eq!(db.sqlstate("create extension rbytea"), SqlState::DUPLICATE_SCHEMA);
    assert_eq!(db.text("select to_regtype('rbytea') is null"), "t");
    db.run("alter schema rbytea rename to mine; create extension rbytea");
    assert_out_of_the_way(&cluster, &db, "public");
    assert_eq!(db.text("table mine.mine"), "");
}

#[test]
fn plpgsql_is_not_needed() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("drop extension plpgsql; create extension rbytea");
    assert_out_of_the_way(&cluster, &db, "public");
}
