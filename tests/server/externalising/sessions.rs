//! Payloads are stored for every kind of session that writes them, and however triggers are set: ordinary users, replicas, restores.

use crate::support::twin_tables::{Twins, assert_live_is, cluster, cluster_with_table, triggers};

#[test]
fn ordinary_users_have_all_of_it() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create role alice login; create role bob login; grant create on schema public to alice");
    let alice = cluster.session_as("alice");
    alice.run(
        "create table t (n int primary key, b bytea, r rbytea);
         create domain d as rbytea check (len(value) < 10000);
         create table parts (n int, b bytea, r d) partition by hash (n);
         create table part partition of parts for values with (modulus 1, remainder 0);
         create table old (n int, b bytea, r bytea)",
    );

    for table in ["t", "parts", "old"] {
        alice.fill(table, 1..=3);
    }
    alice.run("alter table old alter r type rbytea; alter table old alter r type d");
    alice.run("create table made as select n, b, b::rbytea as r from t; create materialized view m as select * from t");
    alice.copy_in("copy t from stdin", b"4\t\\\\x00ff\t\\\\x00ff\n");
    alice.run("update t set b = payload(5), r = payload(5) where n = 1; delete from t where n = 2");
    for (table, rows) in [("t", 3), ("parts", 3), ("old", 3), ("made", 3), ("m", 3)] {
        alice.assert_stored(table, rows);
    }
    assert_eq!(
        alice.sqlstate("alter table t disable trigger all").code(),
        "42501",
        "system triggers are not the owner's"
    );
    alice.run("alter table t disable trigger user");
    alice.run("alter table t drop column r cascade; drop table parts, made");
    assert_eq!(triggers(&db, "t"), 0);

    alice.run(
        "grant select, insert, update on old to bob; alter table old enable row level security;
               create policy few on old to bob using (n < 10)",
    );
    let bob = cluster.session_as("bob");
    bob.fill("old", 4..=5);
    bob.run("update old set b = payload(-n), r = payload(-n) where n < 3");
    bob.assert_stored("old", 5);
    assert_eq!(bob.sqlstate("insert into old values (10, '', '')").code(), "42501");
    bob.run("select 'the abort is over'");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "old")]);
}

#[test]
fn an_extension_in_a_schema_of_its_own_works_with_an_empty_search_path() {
    let cluster = crate::support::cluster::Cluster::running();
    let db = cluster.session();
    db.run(
        "create schema \"Odd one\"; create extension rbytea schema \"Odd one\"; create role alice login;
         grant create on schema public to alice; grant usage on schema \"Odd one\" to alice",
    );
    let alice = cluster.session_as("alice");
    alice.run(
        "set search_path = '';
         create table public.t (n int, b bytea, r \"Odd one\".rbytea, s bytea);
         insert into public.t values (1, '\\x01', '\\x01', '\\x01'), (2, null, null, null);
         alter table public.t alter s type \"Odd one\".rbytea;
         create table public.made as select n, b, b::\"Odd one\".rbytea as r from public.t",
    );

    let same: i64 = alice.one(
        "select count(*) from public.t join public.made m using (n)
          where \"Odd one\".uuid(t.r) <> \"Odd one\".uuid(s) and \"Odd one\".uuid(s) <> \"Odd one\".uuid(m.r)
            and t.r = s and s = m.r and s::bytea = t.b",
        &[],
    );
    assert_eq!(same, 1, "three columns, three files, the same bytes");
    assert_eq!(cluster.live().len(), 3);
    db.run("delete from made");
    assert_eq!(db.one::<i64>("select \"Odd one\".rvacuum()", &[]), 1);
}

#[test]
fn replicas_store_what_they_apply() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create function fail() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;
         create trigger a before insert on t for each row execute function fail();
         set session_replication_role = replica",
    );

    db.fill("t", 1..=2);
    db.assert_stored("t", 2);
    db.run(
        "create table u (n int, b bytea, r rbytea);
         create table made as select n, payload(n) as b, payload(n)::rbytea as r from generate_series(1, 2) n",
    );
    db.fill("u", 1..=2);
    db.assert_stored("u", 2);
    db.assert_stored("made", 2);
}

#[test]
fn disabling_triggers_does_not_disable_storing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create function fail() returns trigger language plpgsql as $$ begin raise 'fired'; end $$;
         create trigger a before insert on t for each row execute function fail()",
    );

    let mut rows = 0;
    for how in ["disable trigger user", "disable trigger all"] {
        db.run(&format!("alter table t {how}"));
        rows += 1;
        db.fill("t", rows..=rows);
        db.assert_stored("t", rows.into());
        assert_eq!(triggers(&db, "t"), 1, "{how}");
    }
    for how in ["enable trigger all", "enable trigger user"] {
        db.run(&format!("alter table t {how}"));
        assert_eq!(triggers(&db, "t"), 1, "{how}");
        assert_eq!(
            db.sqlstate("insert into t values (100, '', '')").code(),
            "P0001",
            "the user's trigger is on again"
        );
        db.run("alter table t disable trigger a");
        rows += 1;
        db.fill("t", rows..=rows);
        db.run("set session_replication_role = replica");
        rows += 1;
        db.fill("t", rows..=rows);
        db.run("reset session_replication_role");
        db.assert_stored("t", rows.into());
    }
}

#[test]
fn rbytea_attach_puts_lost_triggers_back() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table parts (n int, b bytea, r rbytea) partition by hash (n);
         create table part partition of parts for values with (modulus 1, remainder 0);
         create domain d as rbytea; create domain dd as d; create table u (n int, b bytea, r dd);
         create temp table temp (n int, b bytea, r rbytea)",
    );
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0, "nothing was missing");

    // Gone, as after pg_upgrade.
    db.run(
        "set allow_system_table_mods = on;
         delete from pg_depend where classid = 'pg_trigger'::regclass
            and objid in (select oid from pg_trigger where tgfoid = 'rbytea_externalize'::regproc);
         delete from pg_trigger where tgfoid = 'rbytea_externalize'::regproc;
         reset allow_system_table_mods",
    );
    let db = cluster.session();
    for table in ["t", "parts", "u"] {
        db.fill(table, 1..=2);
        db.assert_inline(table, 2);
    }
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 3);
    for table in ["t", "part", "u"] {
        assert_eq!(triggers(&db, table), 1, "{table}");
        db.fill(table, 3..=4);
        db.run(&format!("update {table} set r = r"));
        db.assert_stored(table, 4);
    }

    // Disabled, or made to fire at the origin only.
    for state in ["D", "O", "R"] {
        db.run(&format!(
            "update pg_trigger set tgenabled = '{state}' where tgrelid in ('t'::regclass, 'u'::regclass)"
        ));
        // A new session: the UPDATE of pg_trigger has invalidated no other session's relation cache.
        assert_eq!(cluster.session().one::<i64>("select rbytea_attach()", &[]), 2, "{state}");
        assert_eq!(triggers(&db, "t") + triggers(&db, "part") + triggers(&db, "u"), 3);
    }
    // Dropped by its name: it is back at once.
    let name: String = db.one("select tgname::text from pg_trigger where tgrelid = 't'::regclass", &[]);
    db.run(&format!("drop trigger \"{name}\" on t"));
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0);
    // Not created by an event trigger.
    db.run("alter event trigger rbytea_attach disable; create table late (n int, b bytea, r rbytea)");
    db.run("alter event trigger rbytea_attach enable always");
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0);
    for table in ["t", "late"] {
        db.fill(table, 5..=6);
    }
    db.assert_stored("t", 6);
    db.assert_stored("late", 2);
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 0);
}
