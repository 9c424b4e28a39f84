//! A cluster with payloads of every kind, all in order, and what rbytea_check() says of it.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::{Cluster, PATIENCE, POSTGRES, wait_until};
use crate::support::encryption::{ENCRYPTING, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::cluster_with;

/// Relations with payloads that nothing else refers to, and how to find the uuid of each.
pub const HOLDERS: &[(&str, &str)] = &[
    ("plain", "uuid(r)"),
    ("encrypted", "uuid(r)"),
    ("wide", "uuid(r60)"),
    ("arrays", "uuid(rs[1])"),
    ("long_arrays", "uuid(rs[60])"),
    ("composites", "uuid((f).r)"),
    ("nested", "uuid(fs[2].r)"),
    ("domains", "uuid(d)"),
    ("generated", "uuid(g)"),
    ("missing", "uuid(late)"),
    ("p1", "uuid(r)"),
    ("p2a", "uuid(r)"),
    ("child", "uuid(r)"),
    ("seen", "uuid(r)"),
    ("own", "uuid(r)"),
    ("unlogged", "uuid(r)"),
    ("\"odd \"\"name\"", "uuid(\"r ö\")"),
];

const SETUP: &str = r#"
    set rbytea.qss_mode = off;
    create table plain (n int primary key, b bytea, r rbytea);
    insert into plain select n, payload(n), payload(n) from generate_series(1, 20) n;
    insert into plain values (21, null, null), (22, '', '');
    create table encrypted (n int, r rbytea);
    set rbytea.qss_mode = on;
    insert into encrypted select n, payload(100 + n) from generate_series(1, 5) n;
    set rbytea.qss_mode = off;
    create function fresh(seed int) returns rbytea language sql as $$ select rbytea_store(payload(seed)) $$;

    set rbytea.external_threshold = '1GB';
    create table inlines (n int, r rbytea);
    insert into inlines select n, payload(n, n * 700) from generate_series(0, 12) n;
    reset rbytea.external_threshold;

    -- More than a page: even references are TOASTed.
    do $$ begin
        execute (select 'create table wide (' || string_agg('r' || i || ' rbytea', ',') || ')' from generate_series(1, 150) i);
        execute (select 'insert into wide select ' || string_agg('fresh(1000 + ' || i || ')', ',') from generate_series(1, 150) i);
    end $$;
    create table arrays (n int, rs rbytea[]);
    insert into arrays select n, array[fresh(200 + n), null, 'inline', fresh(210 + n)] from generate_series(1, 3) n;
    create table long_arrays (n int, rs rbytea[]);
    insert into long_arrays select 1, array_agg(fresh(300 + i)) from generate_series(1, 80) i;
    create type f as (x int, r rbytea);
    create table composites (n int, f f);
    insert into composites select n, row(n, fresh(400 + n))::f from generate_series(1, 3) n;
    create table nested (n int, fs f[]);
    insert into nested select n, array[row(1, null)::f, row(n, fresh(410 + n))::f] from generate_series(1, 3) n;
    create domain d as rbytea check (len(value) > 0);
    create table domains (n int, d d, ds d[]);
    insert into domains select n, payload(420 + n), array['in an array'::d] from generate_series(1, 3) n;
    create function other_of(rbytea) returns rbytea language plpgsql immutable as $$ begin
        return substring($1 from 2)::rbytea; end $$;
    create function same(rbytea) returns rbytea language sql immutable as 'select $1';
    create table generated (n int, r rbytea, g rbytea generated always as (same(r)) stored,
        inline rbytea generated always as (other_of(r)) stored);
    insert into generated select n, payload(430 + n) from generate_series(1, 3) n;

    -- A default that older rows do not have on disk.
    create function noted(int) returns rbytea language plpgsql stable as $$ begin
        return (select r from source where n = $1); end $$;
    create table source (n int, r rbytea);
    insert into source values (1, payload(440));
    create table missing (n int);
    insert into missing values (1), (2);
    alter table missing add column late rbytea default noted(1);
    insert into missing values (3, payload(441));
    delete from source;

    create table p (n int, r rbytea) partition by list (n);
    create table p1 partition of p for values in (1);
    create table p2 partition of p for values in (2, 3) partition by list (n);
    create table p2a partition of p2 for values in (2);
    create table p2b partition of p2 for values in (3);
    insert into p select n, payload(450 + n) from generate_series(1, 3) n;
    create table parent (n int, r rbytea);
    create table child (extra text) inherits (parent);
    insert into parent values (1, payload(460));
    insert into child values (2, payload(461));
    create table to_be_seen (n int, r rbytea);
    insert into to_be_seen values (1, payload(470)), (2, payload(471));
    create materialized view seen as select * from to_be_seen;
    delete from to_be_seen;
    create temp table own as select 1 as n, fresh(480) as r union all select 2, 'inline';
    create unlogged table unlogged (n int, r rbytea);
    insert into unlogged values (1, payload(490));
    create table "odd ""name" (n int, gone rbytea, "r ö" rbytea);
    insert into "odd ""name" values (1, payload(500), payload(501));
    alter table "odd ""name" drop column gone;
    create view looks as select * from plain;
    analyze;
"#;

/// See [`healthy`].
pub struct Healthy {
    pub cluster: Cluster,
    /// The session whose temporary table `own` has a payload.
    pub db: Session,
    /// One holds an old snapshot, one is in the midst of a transaction, one has a temporary table.
    others: Vec<Session>,
}

/// A cluster with payloads of every kind, all in order: stored, inline, encrypted, in containers, in TRASH, of a transaction
/// that is going on or prepared, of rows that only an old snapshot sees, under two names. What no row needs has been collected.
pub fn healthy() -> Healthy {
    let cluster = cluster_with(ENCRYPTING);
    set_keys(&cluster, &[1, 2]);
    let db = cluster.session();
    db.run(SETUP);
    // What the statements above have left behind.
    assert!(db.one::<i64>("select rvacuum()", &[]) > 0);

    let old = cluster.session();
    let open = cluster.session();
    let temporary = cluster.session();
    db.run("create table busy (n int, r rbytea); insert into busy select n, payload(600 + n) from generate_series(1, 9) n");
    db.run("create table emptied (n int, r rbytea); insert into emptied values (1, payload(620))");
    old.run("begin isolation level repeatable read; select count(*) from busy");
    db.run("delete from busy where n = 1; update busy set r = payload(630) where n = 2");
    open.run("set rbytea.qss_mode = off");
    open.run(
        "begin; insert into busy values (10, payload(640)); delete from busy where n = 3;
         savepoint s; insert into busy values (11, payload(641)); rollback to s;
         update busy set r = payload(642) where n = 4; insert into arrays select 9, array_agg(r) from busy",
    );
    db.run("begin; insert into busy values (20, payload(650)); delete from busy where n = 5; prepare transaction 'p'");
    // A copy of a reference whose source goes, in another session's temporary table, which only that session can read: TRASH can be read.
    temporary.run("create temp table hidden as select * from busy where n = 6");
    Healthy { cluster, db, others: vec![old, open, temporary] }
}

impl Healthy {
    /// Directory of the database `postgres`, below the root.
    pub fn database(&self) -> String {
        self.db.one("select oid::text from pg_database where datname = current_database()", &[])
    }

    /// Ends all other sessions and the prepared transaction.
    pub fn alone(self) -> (Cluster, Session) {
        let Self { cluster, db, others } = self;
        drop(others);
        db.run("rollback prepared 'p'");
        let gone = "select not exists (select from pg_stat_activity where state like 'idle in transaction%')";
        wait_until(PATIENCE, || db.one(gone, &[]));
        (cluster, db)
    }

    /// Where something is of which a finding tells.
    pub fn path(&self, finding: &str) -> PathBuf {
        self.cluster.store().join(finding)
    }

    /// The first payload of a holder: uuid, and the path of its file below the root.
    pub fn payload(&self, (relation, uuid): (&str, &str)) -> (String, String) {
        let uuid: String = self
            .db
            .one(&format!("select {uuid}::text from {relation} where {uuid} is not null limit 1"), &[]);
        let file = self.cluster.store_files().values().find_map(|files| files.find(&uuid).cloned());
        let file = file.unwrap_or_else(|| panic!("{relation}: payload {uuid} has no file"));
        let path = file.strip_prefix(self.cluster.store()).unwrap().to_str().unwrap().to_owned();
        (uuid, path)
    }
}

/// What rbytea_check() with these arguments finds, sorted: `problem|relation|uuid|path`.
#[track_caller]
pub fn check(db: &Session, arguments: &str) -> Vec<String> {
    let mut found: Vec<String> = db.column(
        &format!(
            "select concat_ws('|', problem, coalesce(relation::text, ''), coalesce(uuid::text, ''), coalesce(path, ''))
               from rbytea_check({arguments})"
        ),
        &[],
    );
    found.sort();
    found
}

/// It finds this, in any order, and nothing else; whichever way the whole database is checked.
#[track_caller]
pub fn finds(db: &Session, expected: &[String]) {
    finds_with(db, "", expected);
    finds_with(db, "digest => true", expected);
}

/// The same for these arguments alone.
#[track_caller]
pub fn finds_with(db: &Session, arguments: &str, expected: &[String]) {
    let mut expected = expected.to_vec();
    expected.sort();
    let found = check(db, arguments);
    let (missed, surplus) = (without(&expected, &found), without(&found, &expected));
    assert!(
        missed.is_empty() && surplus.is_empty(),
        "rbytea_check({arguments}) has not found {missed:#?}\nand has found {surplus:#?}"
    );
}

/// What is left of the lines when each of the others has taken one that is equal.
fn without(lines: &[String], others: &[String]) -> Vec<String> {
    let mut left = lines.to_vec();
    for other in others {
        if let Some(at) = left.iter().position(|line| line == other) {
            left.remove(at);
        }
    }
    left
}

/// Finds nothing.
#[track_caller]
pub fn finds_nothing(db: &Session) {
    finds(db, &[]);
}

/// Does something to what is at a path, calls `judge`, and puts back what was there: bytes, owner, mode, dates.
pub fn while_damaged(path: &Path, damage: impl FnOnce(&Path), judge: impl FnOnce()) {
    let saved = save(path);
    damage(path);
    judge();
    put_back(&saved, path);
}

/// Puts aside what is at a path and leaves a copy.
pub fn save(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap().to_string_lossy();
    // Outside of the store, on the same file system.
    let data = path.ancestors().find(|dir| dir.join("PG_VERSION").exists()).unwrap();
    let saved = data.parent().unwrap().join(format!("saved-{name}"));
    fs::rename(path, &saved).unwrap();
    copy(&saved, path);
    saved
}

/// The inverse of [`save`].
pub fn put_back(saved: &Path, path: &Path) {
    remove(path);
    fs::rename(saved, path).unwrap();
}

/// With owner, mode and dates.
pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Whatever it is.
pub fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes something belong to the server's user, whom it would belong to if the server had made it.
pub fn give(cluster: &Cluster, path: &Path) {
    if let Some((uid, gid)) = cluster.installation().server_user {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A session in another database with the extension and a table `t (n int, r rbytea)` with three rows.
pub fn other_database(cluster: &Cluster, name: &str) -> Session {
    let db = cluster.session();
    db.run(&format!("create database \"{}\"", name.replace('"', "\"\"")));
    let other = Session::connect(&cluster.config(POSTGRES, name));
    other.run("create extension rbytea; create table t (n int, r rbytea)");
    other.run("insert into t select n, convert_to(repeat(n::text, 50), 'UTF8') from generate_series(1, 3) n");
    other
}

/// Gives a file or directory this mode.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
