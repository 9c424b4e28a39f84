//! Maintenance by a superuser touches tables of all users. What their owners have written (functions in indexes, constraints,
//! policies, generated columns, defaults) runs as the owner or not at all, as it does under VACUUM and REINDEX.

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::background;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::{ENCRYPTING, set_keys};
use crate::support::session::Session;

/// Functions that note whom they run as, in places where that can be seen later, and take what they can get.
const SPY: &str = "
    create table noted (place text, who text);
    create function tell(place text) returns void language plpgsql as $$ begin
        insert into mallory.noted values (place, current_user);
        if current_user <> 'mallory' then execute 'alter role mallory superuser'; end if;
        begin perform set_config('role', 'postgres', false); execute 'alter role mallory superuser'; exception when others then null; end;
        begin execute 'reset session authorization'; execute 'alter role mallory superuser'; exception when others then null; end;
        perform set_config('search_path', 'mallory', false);
    end $$;
    create function spy(place text) returns int language plpgsql immutable as $$ begin perform mallory.tell(place); return 1; end $$;
    create function spies(place text, n int) returns int language plpgsql immutable as $$ begin perform mallory.tell(place); return n; end $$;
    create function spies(place text, v rbytea) returns bool language plpgsql immutable as $$ begin perform mallory.tell(place); return true; end $$";

/// A table with a spy in each place where an owner can put a function.
const TABLE: &str = "
    create domain document as rbytea check (spies('domain', value));
    create table t (
        n int default spies('default', 1),
        v rbytea check (spies('check', v)),
        d document,
        g int generated always as (spies('generated', n)) stored,
        a rbytea[]) partition by range (n);
    create table t1 partition of t for values from (0) to (100);
    create table t2 partition of t for values from (100) to (200);
    create index on t (spies('index', n));
    create index on t ((n + spy('index constant')));
    create index on t (n) where spies('predicate', v);
    create index on t (n) where n < 1000 + spy('predicate constant');
    create statistics s on spies('statistics', n), (n + spy('statistics constant')) from t1;
    alter table t enable row level security; alter table t force row level security;
    create policy p on t using (spies('policy', v)) with check (spies('with check', v));
    create function on_update() returns trigger language plpgsql as $$ begin perform mallory.tell('trigger'); return new; end $$;
    create trigger u before update on t for each row execute function on_update();
    create view w as select n, v, spies('view', n) as s from t;
    create rule r as on update to t1 do also select mallory.tell('rule');
    create function maintain() returns trigger language plpgsql as $$ begin perform mallory.tell('statement'); return null; end $$;
    create trigger s after update on t for each statement execute function maintain()";

fn as_mallory(cluster: &Cluster) -> Session {
    cluster
        .session()
        .run("create role mallory login; create schema mallory authorization mallory; grant create on database postgres to mallory");
    let user = cluster.session_as("mallory");
    user.run("set search_path = mallory, public");
    user.run(SPY);
    user.run(TABLE);
    user.run("insert into t (n, v, d, a) select n, convert_to('v' || n, 'utf8'), convert_to('d' || n, 'utf8'), array['a'::rbytea] from unnest(array[1, 2, 101, 102]) n");
    user.run("truncate noted");
    user
}

/// Only mallory has run mallory's code. Returns the places where that was.
#[track_caller]
fn assert_only_mallory(db: &Session, after: &str) -> Vec<String> {
    assert_eq!(
        db.text("select rolsuper from pg_roles where rolname = 'mallory'"),
        "f",
        "mallory has become superuser by {after}"
    );
    assert_eq!(
        db.text("select string_agg(distinct place || ' as ' || who, ', ') from mallory.noted where who <> 'mallory'"),
        "",
        "{after} has run mallory's code with another user's rights"
    );
    assert_eq!(db.text("select session_user, current_user"), "postgres|postgres", "{after}");
    db.column("select distinct place from mallory.noted order by 1", &[])
}

#[test]
fn reencryption_runs_it_as_the_owner() {
    let cluster = Cluster::with_extension_and(ENCRYPTING);
    set_keys(&cluster, &[1]);
    let user = as_mallory(&cluster);
    let db = cluster.session();
    let path = db.text("show search_path");
    let mut cases = 0;
    for (keys, call) in [
        (&[1, 2][..], "call rbytea_reencrypt('mallory.t')"),
        (&[1, 2, 3], "call rbytea_reencrypt('mallory.t1', 1)"),
        (
            &[1, 2, 3, 4],
            "set rbytea.qss_mode = off; call rbytea_reencrypt('mallory.t', 2); reset rbytea.qss_mode",
        ),
    ] {
        set_keys(&cluster, keys);
        crate::support::encryption::reload(&cluster, &[&db, &user]);
        for statement in call.split("; ") {
            db.run(statement);
        }
        let ran = assert_only_mallory(&db, call);
        assert!(
            ran.iter().any(|place| place == "check") && ran.iter().any(|place| place == "index"),
            "what has to run has not: {ran:?}"
        );
        for place in ["policy", "with check", "trigger", "rule", "statement", "domain", "default", "view"] {
            assert!(!ran.contains(&place.to_owned()), "{call} has run the owner's code in a {place}");
        }
        assert_eq!(
            db.text("show search_path"),
            path,
            "mallory's code has changed a setting of the superuser's"
        );
        user.run("truncate noted");
        cases += 1;
    }
    assert_eq!(
        db.text("select string_agg(convert_from(v, 'utf8') || convert_from(d, 'utf8'), ' ' order by n) from mallory.t"),
        "v1d1 v2d2 v101d101 v102d102"
    );
    proves_by_assertions(Promise::BadInput, cases);
}

#[test]
fn the_vacuum_and_its_relatives_run_none_of_it() {
    let cluster = Cluster::with_extension();
    let user = as_mallory(&cluster);
    let db = cluster.session();
    user.run("delete from t where n = 102; truncate noted");
    let calls = [
        "select rvacuum()",
        "select count(*) from rvacuum_plan()",
        "select rvacuum_purge()",
        "select rbytea_attach()",
        "select count(*) from rbytea.rbytea_stat",
        "select rbytea_adopt_store()",
        "select count(*) from rbytea_check()",
        "select count(*) from rbytea_check('mallory.t', true)",
        "vacuum; checkpoint",
    ];
    for call in calls {
        for statement in call.split("; ") {
            db.run(statement);
        }
        let ran = assert_only_mallory(&db, call);
        assert!(ran.is_empty() || call.starts_with("vacuum"), "{call} has run {ran:?}");
    }
    assert_eq!(db.text("select count(*) from rbytea_keys()"), "0");
    let ran = assert_only_mallory(&db, "rbytea_keys()");
    assert!(ran.is_empty(), "rbytea_keys() has run {ran:?}");
    assert_eq!(cluster.live().len(), 6, "three rows with two payloads each");
    proves_by_assertions(Promise::BadInput, calls.len() as u64 + 1);
}

/// The worker is a superuser.
#[test]
fn the_background_vacuum_runs_none_of_it() {
    let cluster = background::cluster();
    let user = as_mallory(&cluster);
    let db = cluster.session();
    db.run("alter database postgres set search_path = mallory, public");
    user.run(
        "truncate noted; delete from t where n = 102; truncate noted; select pg_stat_force_next_flush()",
    );
    wait_until(PATIENCE, || cluster.live().len() == 6);
    let ran = assert_only_mallory(&db, "the background vacuum");
    assert!(ran.is_empty(), "the background vacuum has run {ran:?}");
    proves_by_assertions(Promise::BadInput, 1);
}

/// ALTER TABLE by a superuser computes what the owner has written as PostgreSQL does. What the extension adds runs nothing more
/// as the superuser than PostgreSQL does for bytea.
#[test]
fn what_ddl_by_a_superuser_adds_runs_as_the_owner() {
    let cluster = Cluster::with_extension();
    cluster.session().run("create role mallory login; create schema mallory authorization mallory");
    let user = cluster.session_as("mallory");
    user.run("set search_path = mallory, public");
    user.run(SPY);
    user.run(
        "create table b (n int, v bytea); create table r (n int, v bytea);
         insert into b values (1, 'v'), (2, 'v'); insert into r table b;
         create index on b (spies('index', n)); create index on r (spies('index', n));
         create index on b ((n + spy('constant'))); create index on r ((n + spy('constant')));
         create index on b (n) where n < 9 + spy('predicate'); create index on r (n) where n < 9 + spy('predicate');
         truncate noted",
    );
    let db = cluster.session();
    // What it runs as the superuser has to be counted, not tried.
    user.run("create or replace function tell(place text) returns void language sql as 'insert into mallory.noted values (place, current_user)'");
    let by_superuser = |sql: &str| -> i64 {
        user.run("truncate noted");
        db.run(sql);
        db.one("select count(*) from mallory.noted where who <> 'mallory'", &[])
    };
    let plain = by_superuser("alter table mallory.b alter v type bytea using v || 'x'");
    let ours = by_superuser("alter table mallory.r alter v type rbytea");
    assert_eq!(db.text("select bool_and(uuid(v) is not null) from mallory.r"), "t");
    assert_eq!(ours, plain, "calls of the owner's functions as the superuser");
    proves_by_assertions(Promise::BadInput, 1);
}
