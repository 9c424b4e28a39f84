//! What rbytea_reencrypt() does not do, and how it says so.

use tokio_postgres::error::SqlState;

use crate::encryption::rotating::rows_to_rotate;
use crate::support::encryption::{counts, modes, reload, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is};

#[track_caller]
fn assert_untouched(db: &Session) {
    assert_eq!(counts(db), "1:20 2:0");
    db.assert_stored("t", 20);
}

#[test]
fn what_is_no_table_with_payloads() {
    let (_cluster, db) = rows_to_rotate(20);
    db.run(
        "create view v as select * from t; create materialized view m as select * from t; create sequence s;
         create foreign data wrapper w; create server far foreign data wrapper w; create foreign table f (n int, r rbytea) server far;
         create temp table tt (n int, r rbytea); insert into tt select n, r from t;
         create type c as (r rbytea); create table plain (n int, b bytea);
         create table parent (n int) partition by list (n); create table part partition of parent default",
    );
    for relation in ["v", "m", "s", "f", "tt", "c", "t_pkey"] {
        let error = db.error(&format!("call rbytea_reencrypt('{relation}')"));
        assert_eq!(*error.code(), SqlState::WRONG_OBJECT_TYPE, "{relation}: {error:?}");
        assert!(error.message().contains(relation), "which one? {error:?}");
    }
    assert_untouched(&db);
    for relation in ["plain", "parent", "pg_class"] {
        let error = db.error(&format!("call rbytea_reencrypt('{relation}')"));
        assert!(error.message().contains(relation), "which one? {error:?}");
    }
}

#[test]
fn what_does_not_exist() {
    let (_cluster, db) = rows_to_rotate(20);
    assert_eq!(db.sqlstate("call rbytea_reencrypt('nowhere')"), SqlState::UNDEFINED_TABLE);
    let error = db.error("call rbytea_reencrypt(4000000000)");
    assert_eq!(*error.code(), SqlState::UNDEFINED_TABLE, "{error:?}");
    for arguments in ["null", "null, 10", "'t', null"] {
        let error = db.error(&format!("call rbytea_reencrypt({arguments})"));
        assert!(
            [SqlState::NULL_VALUE_NOT_ALLOWED, SqlState::INVALID_PARAMETER_VALUE].contains(error.code()),
            "{arguments}: {error:?}"
        );
    }
    for batch in ["0", "-1", "-2147483648"] {
        let error = db.error(&format!("call rbytea_reencrypt('t', {batch})"));
        assert_eq!(*error.code(), SqlState::INVALID_PARAMETER_VALUE, "{error:?}");
    }
    assert_untouched(&db);
    db.run("call rbytea_reencrypt(relation => 't', batch => 2147483647)");
    assert_eq!(counts(&db), "1:0 2:20");
}

#[test]
fn a_call_where_nothing_can_be_committed() {
    let (_cluster, db) = rows_to_rotate(20);
    db.run(
        "create function f() returns void language plpgsql as $$ begin call rbytea_reencrypt('t'); end $$;
         create procedure definer() language plpgsql security definer as $$ begin call rbytea_reencrypt('t'); end $$;
         create procedure sets() language plpgsql set work_mem = '1MB' as $$ begin call rbytea_reencrypt('t'); end $$;
         create procedure sql() language sql as $$ call rbytea_reencrypt('t') $$",
    );
    for sql in [
        "select f()",
        "do $$ begin perform f(); end $$",
        "call definer()",
        "call sets()",
        "call sql()",
        "select 1; call rbytea_reencrypt('t')",
        "do $$ begin begin call rbytea_reencrypt('t', 5); exception when division_by_zero then null; end; end $$",
    ] {
        let error = db.error(sql);
        assert_eq!(*error.code(), SqlState::INVALID_TRANSACTION_TERMINATION, "{sql}: {error:?}");
        assert_untouched(&db);
    }
    db.run("begin");
    assert_eq!(db.sqlstate("call rbytea_reencrypt('t')"), SqlState::INVALID_TRANSACTION_TERMINATION);
    db.run("rollback");
    db.run("begin; savepoint s");
    assert_eq!(db.sqlstate("call rbytea_reencrypt('t')"), SqlState::INVALID_TRANSACTION_TERMINATION);
    db.run("rollback");
    assert_untouched(&db);
}

/// A DO block or a procedure that may commit may call it as well.
#[test]
fn a_call_from_a_procedure_that_may_commit() {
    let (cluster, db) = rows_to_rotate(20);
    db.run("create procedure all_tables() language plpgsql as $$
        declare name regclass; v rbytea;
        begin
            for name in select unnest(array['t', 'u']) loop call rbytea_reencrypt(name, 3); end loop;
            select r into v from t where n = 1; call rbytea_reencrypt('u', 1); insert into t values (100, payload(1), v);
        end $$;
        create table u (n int, b bytea, r rbytea); insert into u select n, b, b from t");
    db.run("call all_tables()");
    assert_eq!(counts(&db), "1:0 2:40");
    set_keys(&cluster, &[1, 2, 3]);
    reload(&cluster, &[&db]);
    db.run("do $$ begin call rbytea_reencrypt('t', 4); commit; call rbytea_reencrypt('u', 4); end $$");
    assert!(counts(&db).starts_with("1:0 2:0 3:"), "{}", counts(&db));
    db.assert_stored("t", 21);
    db.assert_stored("u", 20);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "u")]);
}

#[test]
fn a_read_only_session_writes_nothing() {
    let (cluster, db) = rows_to_rotate(20);
    db.run("set default_transaction_read_only = on");
    let files = cluster.live();
    assert_eq!(db.sqlstate("call rbytea_reencrypt('t')"), SqlState::READ_ONLY_SQL_TRANSACTION);
    assert_eq!(cluster.live(), files);
    db.run("set default_transaction_read_only = off");
    assert_untouched(&db);
}

#[test]
fn any_isolation_level_will_do() {
    let (_cluster, db) = rows_to_rotate(20);
    for (level, mode) in [("repeatable read", "off"), ("serializable", "on")] {
        db.run(&format!("set default_transaction_isolation = '{level}'; set rbytea.qss_mode = {mode}"));
        db.run("call rbytea_reencrypt('t', 3)");
        db.assert_stored("t", 20);
    }
    assert_eq!(counts(&db), "1:0 2:20");
}

#[test]
fn a_call_without_the_rights() {
    let (cluster, db) = rows_to_rotate(20);
    db.run(
        "create role alice login; create role bob login; grant usage, create on schema public to alice, bob;
         grant all on t to alice; set role alice; create table hers (n int, b bytea, r rbytea);
         insert into hers select n, payload(n), payload(n) from generate_series(1, 5) n; grant all on hers to bob; reset role",
    );
    let (alice, bob) = (cluster.session_as("alice"), cluster.session_as("bob"));
    for session in [&alice, &bob] {
        assert_eq!(session.sqlstate("call rbytea_reencrypt('hers')"), SqlState::INSUFFICIENT_PRIVILEGE);
    }
    db.run("grant execute on procedure rbytea_reencrypt to alice, bob");
    let error = bob.error("call rbytea_reencrypt('hers')");
    assert_eq!(*error.code(), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(error.message(), "must be owner of table hers");
    assert_eq!(alice.sqlstate("call rbytea_reencrypt('t')"), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(counts(&db), "1:20 2:5");
    db.run("set rbytea.qss_mode = off");
    db.run("call rbytea_reencrypt('hers')");
    assert_eq!(modes(&db, "hers"), "0:5", "a superuser may everywhere");
    alice.run("call rbytea_reencrypt('hers', 2)");
    assert_eq!(modes(&alice, "hers"), "1:5");
    alice.assert_stored("hers", 5);

    // An expression of an index is evaluated as the owner of the table, not as who calls.
    db.run("alter role alice superuser");
    alice.run(
        "create function whoami(r rbytea) returns text language plpgsql immutable as $$ begin
             if current_user <> 'alice' then raise exception 'as %', current_user; end if; return public.md5sum(r); end $$;
         create index on hers (whoami(r))",
    );
    db.run("alter role alice nosuperuser");
    db.run("call rbytea_reencrypt('hers', 2)");
    assert_eq!(modes(&db, "hers"), "0:5");
}

#[test]
fn a_superuser_sees_which_key_file_is_wrong_also_if_another_user_owns_the_table() {
    let (cluster, db) = rows_to_rotate(20);
    db.run("create role alice; alter table t owner to alice");
    set_keys(&cluster, &[2]);
    reload(&cluster, &[&db]);
    let error = db.error("call rbytea_reencrypt('t')");
    assert_eq!(*error.code(), SqlState::CONFIG_FILE_ERROR);
    let path = crate::support::encryption::default_key_file(&cluster);
    assert_eq!(error.message(), format!("encryption key 1 is not in key file \"{}\"", path.display()));
}

#[test]
fn a_publication_without_a_replica_identity() {
    let (cluster, db) = rows_to_rotate(20);
    db.run("create table k (n int, b bytea, r rbytea); insert into k select n, b, b from t where n <= 5; create publication p for table k");
    let files = cluster.live();
    let theirs = db.error("update k set n = n");
    for _ in 0..2 {
        let error = db.error("call rbytea_reencrypt('k')");
        // Those of 5 rows were written under key 2 already.
        assert_eq!(
            (error.code(), error.message(), error.hint()),
            (theirs.code(), theirs.message(), theirs.hint())
        );
    }
    assert_eq!(cluster.live(), files);
    db.run("alter table k replica identity full; set rbytea.qss_mode = off");
    db.run("call rbytea_reencrypt('k')");
    assert_eq!(modes(&db, "k"), "0:5");
    db.assert_stored("k", 5);
}
