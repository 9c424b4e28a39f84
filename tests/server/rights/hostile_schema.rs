//! Functions and operators with built-in names in another user's schema: neither the extension's script nor what runs later calls
//! them.

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::encryption::{ENCRYPTING, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

/// Functions that the script must not call: they fit better than the built-in ones, which take `VARIADIC "any"` or need a cast.
const DECOYS: &str = "
    create function age(xid8) returns int language sql as 'select 1';
    create function concat(text, text) returns text language sql as 'select null::text';
    create function \"=\"(bigint, int) returns bool language sql as 'select false';
    create function generate_series(int, bigint) returns setof bigint language sql as 'select 1::bigint';
    create function now(int default 1) returns timestamptz language sql as 'select null::timestamptz'";

#[test]
fn objects_of_a_hostile_schema_have_no_part_in_the_extension() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("create role mallory login; create schema theirs authorization mallory");
    let user = cluster.session_as("mallory");
    user.run("set search_path = theirs");
    user.run(DECOYS);
    db.run("create extension rbytea schema theirs");
    let foreign: Vec<String> = db.column(
        "with own (classid, objid) as (select classid, objid from pg_depend where refclassid = 'pg_extension'::regclass and deptype = 'e'),
              parts (classid, objid) as (
                  table own union all
                  select 'pg_rewrite'::regclass, r.oid from pg_rewrite r join own on (classid, objid) = ('pg_class'::regclass, ev_class))
         select distinct pg_describe_object(classid, objid, 0) || ' uses ' || pg_describe_object(refclassid, refobjid, 0)
           from pg_depend d join parts using (classid, objid)
          where d.refobjid >= 16384 and d.deptype = 'n'
            and refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_class'::regclass)
            and (refclassid, refobjid) not in (table own) order by 1",
        &[],
    );
    assert!(foreign.is_empty(), "the extension has bound itself to what was in its schema: {foreign:#?}");
    // Every line of the views and of the functions behind them is run.
    let (other, slot) = (cluster.session(), cluster.session());
    slot.run("select pg_create_physical_replication_slot('s', true); select pg_create_logical_replication_slot('l', 'pgoutput')");
    other.run(
        "create table theirs.t (n int, b bytea, r theirs.rbytea); insert into theirs.t values (1, 'x', 'x')",
    );
    slot.run("begin; insert into theirs.t values (2, 'y', 'y'); prepare transaction 'p'");
    other.run("begin isolation level repeatable read; select pg_current_xact_id()");
    db.run("delete from theirs.t; set search_path = theirs, pg_catalog");
    for call in
        ["rvacuum()", "rvacuum_purge()", "rvacuum_plan()", "rbytea_holders()", "rbytea_purge_holders()"]
    {
        db.run(&format!("select count(*) from theirs.{call}"));
    }
    db.run("select * from rbytea.rbytea_stat; select * from theirs.rbytea_check()");
    db.run("select c.* from (values ('x'::bytea::theirs.rbytea)) v (r), theirs.rbytea_chunks(r) c");
    assert_eq!(
        db.text("select rolsuper from pg_catalog.pg_roles where rolname = 'mallory'"),
        "f",
        "mallory has become superuser"
    );
    other.run("rollback");
    db.run("rollback prepared 'p'");
    proves_by_assertions(Promise::BadInput, 7);
}

/// In the schema `hostile`: every operator and every function of pg_catalog that can be written down, each an error.
const SHADOWS: &str = r#"
    do $$ declare f record; made int := 0; begin
        for f in select oid, oprname, oprleft, oprright, oprresult from pg_catalog.pg_operator
                  where oid < 16384 and oprresult <> 0
                    and not exists (select from pg_type where oid in (oprleft, oprright, oprresult) and typtype = 'p') loop
            begin
                execute format('create function hostile.%I(%s) returns %s language plpgsql as ''begin raise exception ''''hijacked operator %s''''; end''',
                    'op_' || f.oid, concat_ws(',', nullif(f.oprleft, 0)::regtype, f.oprright::regtype), f.oprresult::regtype, replace(f.oprname, '%', '%%'));
                execute format('create operator hostile.%s (function = hostile.%I %s, rightarg = %s)', f.oprname, 'op_' || f.oid,
                    case when f.oprleft <> 0 then ', leftarg = ' || f.oprleft::regtype end, f.oprright::regtype);
                made := made + 1;
            end;
        end loop;
        for f in select p.oid, p.proname, p.prokind, pg_get_function_identity_arguments(p.oid) args, pg_get_function_result(p.oid) result
                   from pg_catalog.pg_proc p
                  where p.oid < 16384 and p.prokind in ('f', 'w', 'a') and p.pronamespace = 'pg_catalog'::regnamespace and p.provariadic = 0
                    and not exists (select from pg_type t where t.typtype = 'p' and t.oid = any (p.proargtypes::oid[] || p.prorettype))
                    and p.proargmodes is null and not p.proretset and p.proname !~ '[^a-z0-9_]' loop
            execute format('create function hostile.%I(%s) returns %s language plpgsql as ''begin raise exception ''''hijacked function %s''''; end''',
                f.proname, (select string_agg(format_type(a, null), ',') from unnest((select proargtypes::oid[] from pg_proc where oid = f.oid)) a), f.result, f.proname);
            made := made + 1;
        end loop;
        raise notice 'made %', made;
        if made < 2000 then raise exception 'only % names are in the way', made; end if;
    end $$"#;

/// Every function and command that looks something up in the catalogs, or in tables of the extension, in a session whose
/// search_path begins with another user's schema.
#[test]
fn a_hostile_search_path_changes_nothing() {
    let cluster = Cluster::with_extension_and(&[ENCRYPTING, &["max_locks_per_transaction = 1000"]].concat());
    set_keys(&cluster, &[1]);
    let db = cluster.session();
    db.run(crate::support::twin_tables::PAYLOAD_FUNCTION);
    db.run("create table t (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=4);
    db.run(
        "create role mallory login; create schema hostile authorization mallory; grant mallory to postgres",
    );
    let user = cluster.session_as("mallory");
    user.run(SHADOWS);
    user.run("create table hostile.pg_class (oid oid); create table hostile.pg_depend (x int); create table hostile.rbytea_vacuum_history (x int);
              create view hostile.pg_extension as select 1 as extnamespace; create domain hostile.oid as text; create domain hostile.xid8 as text");
    set_keys(&cluster, &[1, 2]);
    cluster.reload();

    let hostile = cluster.session();
    hostile.run("set search_path = hostile, pg_catalog, public");
    assert_eq!(
        hostile.error("select now()").message(),
        "hijacked function now",
        "the hostile schema hides no function"
    );
    assert_eq!(
        hostile.error("select 1 + 1").message(),
        "hijacked operator +",
        "the hostile schema hides no operator"
    );
    let statements = [
        "select * from public.rvacuum()",
        "select * from public.rvacuum_plan()",
        "select * from public.rvacuum_purge()",
        "select * from public.rbytea_attach()",
        "select * from public.rbytea_adopt_store()",
        "select * from public.rbytea_keys()",
        "select * from public.rbytea_check(digest => true)",
        "select * from public.rbytea_check('public.t')",
        "select * from public.rbytea_holders()",
        "select * from public.rbytea_purge_holders()",
        "select * from rbytea.rbytea_stat",
        "select * from rbytea.rbytea_stat_progress_vacuum",
        "select * from rbytea.rbytea_stat_progress_reencrypt",
        "call public.rbytea_reencrypt('public.t')",
        "create table public.made (n int, r public.rbytea default 'x')",
        "alter table public.made add column a public.rbytea[]",
        "alter table public.made disable trigger all",
        "select * from public.rbytea_attach()",
        "create type public.pair as (n int, v public.bytea)",
        "create type public.pair as (n int)",
        "create table public.typed of public.pair",
        "alter type public.pair add attribute v public.rbytea cascade",
        "create table public.holder (p public.pair)",
        "create table public.taken as select n, r from public.t",
        "select n, r into public.taken2 from public.t",
        "create materialized view public.seen as select n, r from public.t",
        "refresh materialized view public.seen",
        "alter table public.made alter r type bytea",
        "alter table public.made alter r type public.rbytea using public.rbytea_store(r)",
        "create table public.parts (n int, r public.rbytea) partition by list (n)",
        "create table public.part1 partition of public.parts for values in (1)",
        "insert into public.parts values (1, 'one')",
        "insert into public.made (r) select r from public.t",
        "update public.made set a = array[r]",
        "select public.md5sum(r), public.sha256sum(r), public.uuid(r), public.len(r), public.len_full(r), pg_catalog.substring(r, 1, 2), r::bytea from public.t",
        "select distinct r from public.t",
        "select t.n from public.t join public.made m using (r)",
        "analyze public.t",
        "drop type public.pair cascade",
        "alter table public.made drop column r",
        "create database fromhere",
        "drop database fromhere",
        "delete from public.t",
        "select * from public.rvacuum()",
        "select * from public.rvacuum_purge()",
    ];
    let mut ran = 0;
    for sql in statements {
        match hostile.try_run(sql) {
            Ok(()) => ran += 1,
            Err(error) => {
                let error = error.as_db_error().unwrap();
                assert!(!error.message().contains("hijacked"), "{sql}: {error:?}");
                assert_eq!(sql, "create type public.pair as (n int, v public.bytea)", "{error:?}");
            }
        }
    }
    assert_eq!(db.text("select rolsuper from pg_roles where rolname = 'mallory'"), "f");
    assert_eq!(
        db.text("select count(*) > 3 from rbytea.rbytea_vacuum_history"),
        "t",
        "runs are not in the extension's history"
    );
    assert_eq!(triggers(&db), "made|part1|t|taken|taken2");
    proves_by_assertions(Promise::BadInput, ran);
}

fn triggers(db: &Session) -> String {
    db.text("select distinct tgrelid::regclass::text from pg_trigger where tgfoid = 'rbytea_externalize'::regproc order by 1").replace('\n', "|")
}

/// The extension's queries have a search_path of their own. The session keeps its one, and code of users runs under that: also where
/// such a query fails, and whatever handler catches the error.
#[test]
fn the_search_path_of_a_session_stays_as_it_is() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create schema mine; set search_path = mine, public;
         create function path(int) returns text immutable language plpgsql as $$ begin return current_setting('search_path'); end $$;
         create table t (n int, b bytea, path text generated always as (path(n)) stored);
         insert into t select n, 'payload' from generate_series(1, 3) n",
    );
    let path = |why: &str| assert_eq!(db.text("show search_path"), "mine, public", "{why}");
    // Stores what is in the rows, and computes the generated column once more.
    db.run("alter table t alter b type rbytea using b::rbytea");
    assert_eq!(db.text("select distinct path from t"), "mine, public");
    path("after DDL");
    for call in
        ["select rbytea_attach()", "select rbytea_check()", "select rvacuum()", "call rbytea_reencrypt('t')"]
    {
        db.run(call);
    }
    path("after functions");
    db.run("begin; set local search_path = mine, pg_catalog, public; create table u (r rbytea)");
    assert_eq!(db.text("show search_path"), "mine, pg_catalog, public");
    db.run("commit");
    path("after a transaction with its own");
    // Fails in the middle of a query: there is no list of dropped objects in another kind of event trigger.
    db.run("create event trigger wrong on ddl_command_end execute function rbytea_sql_drop()");
    let message = db.error("create table v (n int)").message().to_string();
    assert!(message.contains("sql_drop"), "{message}");
    path("after an error");
    db.run("begin; set local search_path = mine; savepoint s");
    db.error("create table v (n int)");
    db.run("rollback to s");
    assert_eq!(db.text("show search_path"), "mine");
    db.run("rollback");
    path("after a rollback");
    db.run(
        "do $$ begin
             begin create table v (n int); exception when others then null; end;
             assert current_setting('search_path') = 'mine, public';
         end $$",
    );
    path("after an error that was caught");
    proves_by_assertions(Promise::BadInput, 8);
}
