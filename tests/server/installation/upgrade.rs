//! ALTER EXTENSION rbytea UPDATE, from the first release to a version after the last one, which the test makes in an installation
//! of its own: the script is read, the payloads stay, and the upgraded extension has what a new one has.

use std::fs;

use crate::support::cluster::{Cluster, Shutdown};
use crate::support::encryption::{ENCRYPTING, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, Twins};

/// The first release: what it has made can be upgraded as long as there is a path of scripts.
const FIRST: &str = "0.1.0";

/// The version after the last one. Its script does what those of later versions do: a new function, a changed one, a changed table.
const NEXT: &str = "next";
const SCRIPT: &str = "
    create function @extschema@.rbytea_of_the_next_version() returns text language sql as $$ select 'next' $$;
    create or replace function @extschema@.rbytea_has_keepers() returns boolean
        as 'MODULE_PATHNAME', 'rbytea_has_keepers_wrapper' language c volatile parallel safe;
    alter table rbytea.rbytea_vacuum_history add column of_the_next_version int;
";

/// Publishes the next version in the cluster's own installation.
fn publish(cluster: &Cluster) {
    let dir = cluster.installation().extensions();
    let control = fs::read_to_string(dir.join("rbytea.control")).unwrap();
    let line = control.lines().find(|line| line.starts_with("default_version")).unwrap();
    let last = line.split('\'').nth(1).unwrap();
    fs::write(dir.join(format!("rbytea--{last}--{NEXT}.sql")), SCRIPT).unwrap();
    fs::write(dir.join("rbytea.control"), control.replace(line, &format!("default_version = '{NEXT}'")))
        .unwrap();
}

fn version(db: &Session) -> String {
    db.text("select extversion from pg_extension where extname = 'rbytea'")
}

/// Everything that belongs to the extension, with the definitions of its functions and the columns of its relations.
fn objects(db: &Session) -> Vec<String> {
    db.column(
        "select pg_describe_object(d.classid, d.objid, d.objsubid)
                || coalesce(' ' || (select row(prosrc, probin, provolatile, proparallel, proisstrict, proacl)::text from pg_proc p
                                     where d.classid = 'pg_proc'::regclass and p.oid = d.objid), '')
                || coalesce(' ' || (select string_agg(attname || ' ' || atttypid::regtype, ',' order by attname) from pg_attribute a
                                     where d.classid = 'pg_class'::regclass and a.attrelid = d.objid and attnum > 0), '')
           from pg_depend d join pg_extension e on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
          where e.extname = 'rbytea' and d.deptype = 'e' order by 1",
        &[],
    )
}

#[test]
fn an_upgrade_from_the_first_release_keeps_every_payload() {
    let mut cluster = Cluster::running_with(ENCRYPTING);
    set_keys(&cluster, &[1]);
    let db = cluster.session();
    db.run(&format!("create extension rbytea version '{FIRST}'"));
    db.run(PAYLOAD_FUNCTION);
    for table in ["encrypted", "plain", "inline"] {
        db.run(&format!("create table {table} (n int primary key, b bytea, r rbytea)"));
    }
    db.fill("encrypted", 1..=5);
    db.run("set rbytea.qss_mode = off");
    db.fill("plain", 1..=5);
    db.run("set rbytea.external_threshold = '1GB'");
    db.fill("inline", 1..=5);
    db.run("delete from plain where n = 5");
    let live = cluster.live();
    drop(db);

    cluster.stop(Shutdown::Fast);
    cluster.run_from_own_installation();
    publish(&cluster);
    cluster.start();
    let db = cluster.session();
    assert_eq!(version(&db), FIRST, "a new library makes no new version");
    db.assert_stored("encrypted", 5);
    db.run("alter extension rbytea update");
    assert_eq!(version(&db), NEXT);
    assert_eq!(db.text("select rbytea_of_the_next_version()"), "next");

    assert_eq!(cluster.live(), live, "files of the old version");
    db.assert_stored("encrypted", 5);
    db.assert_stored("plain", 4);
    db.assert_inline("inline", 5);
    assert_eq!(db.text("select * from rbytea_check(digest => true) where problem <> 'unreferenced'"), "");
    db.fill("encrypted", 6..=9);
    db.assert_stored("encrypted", 9);
    assert_eq!(db.rvacuum(), 1);

    cluster.session().run("create database fresh");
    let fresh = cluster.session_in("fresh");
    fresh.run("create extension rbytea");
    assert_eq!(version(&fresh), NEXT);
    assert_eq!(objects(&db), objects(&fresh), "objects of an upgraded extension, objects of a new one");
}
