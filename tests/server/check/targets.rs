//! What rbytea_check() can be asked about, by whom, and from where: tables with all that belongs to them, and nothing else.

use std::fs;

use crate::check::healthy::{check, finds, finds_nothing, finds_with, healthy};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::twin_tables::cluster_with_table;

#[test]
fn a_table_is_checked_with_its_partitions_and_descendants() {
    let healthy = healthy();
    let db = &healthy.db;
    let lose = |relation: &'static str| {
        let (uuid, path) = healthy.payload((relation, "uuid(r)"));
        fs::remove_file(healthy.path(&path)).unwrap();
        format!("missing|{relation}|{uuid}|{path}")
    };
    let [p1, p2a, p2b, parent, child, seen] = ["p1", "p2a", "p2b", "only parent", "child", "seen"]
        .map(|relation| lose(relation).replace("|only ", "|"));
    let all = [p1.clone(), p2a.clone(), p2b.clone(), parent.clone(), child.clone(), seen.clone()];
    for (target, expected) in [
        ("p", &[&p1, &p2a, &p2b][..]),
        ("p2", &[&p2a, &p2b]),
        ("p2b", &[&p2b]),
        ("parent", &[&parent, &child]),
        ("child", &[&child]),
        ("seen", &[&seen]),
        ("plain", &[]),
        ("pg_class", &[]),
    ] {
        finds_with(
            db,
            &format!("'{target}'"),
            &expected.iter().map(|&line| line.clone()).collect::<Vec<_>>(),
        );
    }
    finds(db, &all);
    proves_by_assertions(Promise::DamageIsNoticed, 6);
}

/// Partitions that are younger than the transaction's snapshot have rows, too.
#[test]
fn a_check_has_its_own_snapshot_whatever_the_transaction_sees() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table p (n int, r rbytea) partition by list (n); create table p1 partition of p for values in (1)");
    for begin in [
        "begin isolation level repeatable read",
        "begin isolation level serializable",
        "begin read only",
        "begin",
    ] {
        let reader = cluster.session();
        reader.run(&format!("{begin}; select 1"));
        db.run("create table p2 partition of p for values in (2); insert into p select n, 'lost' from generate_series(1, 2) n");
        db.run("insert into t values (1, null, 'lost as well')");
        let mut expected = Vec::new();
        for table in ["p1", "p2", "t"] {
            for uuid in db.column::<String>(&format!("select uuid(r)::text from {table}"), &[]) {
                let file =
                    cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(&uuid)).unwrap();
                fs::remove_file(&file).unwrap();
                expected.push(format!(
                    "missing|{table}|{uuid}|{}",
                    file.strip_prefix(cluster.store()).unwrap().display()
                ));
            }
        }
        finds(&reader, &expected);
        finds_with(&reader, "'p', true", &expected[..2]);
        // A lock that outlived the look would stand in the way.
        db.run("set lock_timeout = '120s'; drop table p2; truncate p, t");
        finds_nothing(&reader);
        reader.run("commit");
    }
}

#[test]
fn whatever_has_no_rows_of_its_own_is_refused() {
    let healthy = healthy();
    let db = &healthy.db;
    db.run(
        "create index on plain (len(r)); create sequence numbers; create type pair as (x int, r rbytea);
         create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing;
         create foreign table far (r bytea) server nowhere",
    );
    for target in ["looks", "plain_pkey", "plain_len_idx", "numbers", "pair", "far"] {
        let error = db.error(&format!("select * from rbytea_check('{target}')"));
        assert_eq!(error.code().code(), "42809", "{target}: {error:?}");
        assert!(error.message().contains(target) && error.detail().is_some(), "{error:?}");
    }
    let toast = "select rbytea_check(reltoastrelid::regclass) from pg_class where relname = 'long_arrays'";
    assert_eq!(db.sqlstate(toast).code(), "42809");
    let hidden = "select rbytea_check(oid::regclass) from pg_class where relname = 'hidden'";
    assert_eq!(db.sqlstate(hidden).code(), "42809", "only its own session can read it");
    assert_eq!(db.sqlstate("select rbytea_check('nowhere')").code(), "42P01");
    assert_eq!(db.sqlstate("select rbytea_check(999999999)").code(), "42P01");
    assert_eq!(db.sqlstate("select rbytea_check(digest => null)").code(), "22004");
    // NULL is the whole database, and the target list takes a set as well as FROM does.
    finds_with(db, "null, false", &[]);
    assert_eq!(db.text("select rbytea_check(null, true)"), "");
}

#[test]
fn the_check_is_for_superusers_until_execute_is_granted() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("insert into t values (1, null, 'a payload'); create role lena login");
    let lena = cluster.session_as("lena");
    for call in ["select rbytea_check()", "select rbytea_check('t')"] {
        assert_eq!(lena.sqlstate(call).code(), "42501", "{call}");
    }
    db.run("grant execute on function rbytea_check(regclass, boolean) to lena");
    let file = cluster.live().remove(0);
    fs::remove_file(&file).unwrap();
    // Rows of tables that she cannot read, but none of their bytes.
    for arguments in ["", "'t'"] {
        assert_eq!(check(&lena, arguments).len(), 1);
    }
    assert_eq!(lena.sqlstate("select * from t").code(), "42501");
}

/// A schema of any name, and objects in the way of everything that a name could find.
#[test]
fn no_schema_in_the_search_path_leads_the_check_astray() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run(
        r#"create schema "Od d"; create extension rbytea schema "Od d"; create schema bait; create role eve;
           create table t (n int, r "Od d".rbytea); insert into t values (1, 'lost'), (2, 'kept');
           create table bait.pg_inherits (inhrelid oid, inhparent oid); create table bait.pg_class (oid oid);
           create type bait.rbytea as (x int);
           create function bait.wrong(oid, oid) returns bool language plpgsql as 'begin raise ''led astray''; end';
           create operator bait.= (leftarg = oid, rightarg = oid, procedure = bait.wrong);
           create function bait.rbytea_check() returns int language plpgsql as 'begin raise ''led astray''; end';
           create temp table pg_inherits (inhrelid oid)"#,
    );
    let uuid: String = db.one(r#"select "Od d".uuid(r)::text from t where n = 1"#, &[]);
    let file = cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(&uuid)).unwrap();
    fs::remove_file(file).unwrap();
    for path in ["''", "bait, pg_catalog", "pg_temp, bait, pg_catalog", r#"bait, pg_catalog, "Od d""#] {
        db.run(&format!("set search_path = {path}"));
        for arguments in ["", "'public.t'", "'public.t', true"] {
            let found: Vec<String> = db.column(
                &format!(r#"select problem || ' ' || uuid from "Od d".rbytea_check({arguments})"#),
                &[],
            );
            assert_eq!(found, [format!("missing {uuid}")], "search_path = {path}");
        }
    }
}

/// A store at a relative path is made when the first payload is stored. After that it has to be there, as one at an absolute path.
#[test]
fn a_store_that_is_not_there_is_an_empty_one_or_an_error() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    finds_nothing(&db);
    assert!(!cluster.store().exists(), "a look has made something");
    db.run("insert into t values (1, null, 'a payload')");
    let away = cluster.dir().join("away");
    fs::rename(cluster.store(), &away).unwrap();
    for call in ["rbytea_check()", "rbytea_check('t')"] {
        assert_eq!(db.sqlstate(&format!("select {call}")).code(), "F0000", "this cluster has written to it");
    }
    assert!(!cluster.store().exists());
    fs::write(cluster.store(), b"no directory").unwrap();
    assert_eq!(db.sqlstate("select rbytea_check()").code(), "F0000");
    fs::remove_file(cluster.store()).unwrap();
    fs::rename(&away, cluster.store()).unwrap();
    finds_nothing(&db);
}
