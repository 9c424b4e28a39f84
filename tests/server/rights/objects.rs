//! Who may do what with each object of the extension: the grants as they are, compared with those declared here, and tried by each kind
//! of user. An object that is not declared here fails the test.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::error::SqlState;

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// Kinds of users: one without special rights, a member of pg_monitor, the owner of tables, the owner of the database.
const USERS: [&str; 4] = ["alice", "monitor", "tables", "dba"];

/// What only a superuser has until he grants it.
const SUPERUSER_ONLY: &[&str] = &[
    "procedure rbytea_reencrypt(regclass,integer)",
    "function rbytea_adopt_store()",
    "function rbytea_attach()",
    "function rbytea_check(regclass,boolean)",
    "function rbytea_clone_from(name)",
    "function rbytea_ddl_command_end()",
    "function rbytea_discard_replicated()",
    "function rbytea_export(rbytea,text)",
    "function rbytea_externalize()",
    "function rbytea_holding()",
    "function rbytea_import(text)",
    "function rbytea_keys()",
    "function rbytea_larger_than(bigint,regclass)",
    "function rbytea_purge_obstacle()",
    "function rbytea_sql_drop()",
    "function rbytea_upload_row()",
    "function rvacuum()",
    "function rvacuum_plan()",
    "function rvacuum_purge()",
    "sequence rbytea.rbytea_vacuum_history_id_seq",
];

/// What members of pg_monitor may read.
const MONITORING: &[&str] = &[
    "function rbytea_has_keepers()",
    "function rbytea_holders()",
    "function rbytea_purge_holders()",
    "function rbytea_reencrypt_progress()",
    "function rbytea_store_progress()",
    "function rbytea_vacuum_progress()",
    "table rbytea.rbytea_vacuum_history",
    "view rbytea.rbytea_stat",
    "view rbytea.rbytea_stat_progress_reencrypt",
    "view rbytea.rbytea_stat_progress_store",
    "view rbytea.rbytea_stat_progress_vacuum",
];

/// What PUBLIC may insert into, and nothing else.
const UPLOADS: &str = "view rbytea_upload";

/// What PUBLIC may use.
const FOR_PUBLIC: &[&str] = &[
    "schema rbytea",
    "type rbytea",
    "function bytea(rbytea)",
    "function len(rbytea)",
    "function len_full(rbytea)",
    "function length(rbytea)",
    "function md5(rbytea)",
    "function md5store(rbytea)",
    "function md5sum(rbytea)",
    "function octet_length(rbytea)",
    "function qss_mode(rbytea)",
    "function rbytea(bytea)",
    "function bytea_cmp_rbytea(bytea,rbytea)",
    "function bytea_eq_rbytea(bytea,rbytea)",
    "function bytea_ge_rbytea(bytea,rbytea)",
    "function bytea_gt_rbytea(bytea,rbytea)",
    "function bytea_le_rbytea(bytea,rbytea)",
    "function bytea_lt_rbytea(bytea,rbytea)",
    "function bytea_ne_rbytea(bytea,rbytea)",
    "function rbytea_btree_options(internal)",
    "function rbytea_cmp(rbytea,rbytea)",
    "function rbytea_cmp_bytea(rbytea,bytea)",
    "function rbytea_eq(rbytea,rbytea)",
    "function rbytea_eq_bytea(rbytea,bytea)",
    "function rbytea_ge(rbytea,rbytea)",
    "function rbytea_ge_bytea(rbytea,bytea)",
    "function rbytea_gt(rbytea,rbytea)",
    "function rbytea_gt_bytea(rbytea,bytea)",
    "function rbytea_hash_bytea(bytea)",
    "function rbytea_hash_bytea_extended(bytea,bigint)",
    "function rbytea_le(rbytea,rbytea)",
    "function rbytea_le_bytea(rbytea,bytea)",
    "function rbytea_lt(rbytea,rbytea)",
    "function rbytea_lt_bytea(rbytea,bytea)",
    "function rbytea_ne(rbytea,rbytea)",
    "function rbytea_ne_bytea(rbytea,bytea)",
    "function rbytea_cat(rbytea,rbytea)",
    "function rbytea_from_client(bytea)",
    "function rbytea_hash(rbytea)",
    "function rbytea_hash_extended(rbytea,bigint)",
    "function rbytea_agg(bytea)",
    "function rbytea_agg_append(internal,bytea)",
    "function rbytea_agg_finish(internal)",
    "function rbytea_append(bigint,bytea)",
    "function rbytea_begin()",
    "function rbytea_chunk_rows(rbytea,integer)",
    "function rbytea_chunks(rbytea,integer)",
    "function rbytea_finish(bigint)",
    "function rbytea_from_lo(oid)",
    "function rbytea_read(rbytea,bigint,integer)",
    "function rbytea_in(cstring)",
    "function rbytea_out(rbytea)",
    "function rbytea_recv(internal)",
    "function rbytea_send(rbytea)",
    "function rbytea_store(bytea)",
    "function rbytea_to_client(rbytea)",
    "function rbytea_typanalyze(internal)",
    "function sha256store(rbytea)",
    "function sha256sum(rbytea)",
    "function substr(rbytea,integer)",
    "function substr(rbytea,integer,integer)",
    "function \"substring\"(rbytea,integer)",
    "function \"substring\"(rbytea,integer,integer)",
    "function uuid(rbytea)",
];

/// Every object of the extension that rights can be granted on, with what each user may do: `alice=execute`.
const GRANTS: &str = "
    with own as (
        select d.classid, d.objid from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname = 'rbytea'
         where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'),
    objects (class, oid, name, kind) as (
        select 'p', p.oid, case p.prokind when 'p' then 'procedure ' else 'function ' end || p.oid::regprocedure, array['execute']
          from pg_proc p join own on classid = 'pg_proc'::regclass and objid = p.oid
        union all
        select 'n', n.oid, 'schema ' || n.oid::regnamespace, array['usage', 'create']
          from pg_namespace n join own on classid = 'pg_namespace'::regclass and objid = n.oid
        union all
        select 't', t.oid, 'type ' || t.oid::regtype, array['usage']
          from pg_type t join own on classid = 'pg_type'::regclass and objid = t.oid
         where typrelid = 0 and typcategory <> 'A'
        union all
        select 's', c.oid, 'sequence ' || c.oid::regclass, array['usage', 'select', 'update']
          from pg_class c join own on classid = 'pg_class'::regclass and objid = c.oid where relkind = 'S'
        union all
        select 'r', c.oid, case relkind when 'v' then 'view ' else 'table ' end || c.oid::regclass,
               array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']
          from pg_class c join own on classid = 'pg_class'::regclass and objid = c.oid where relkind <> 'S')
    select o.name, u.name as who, coalesce(string_agg(k, ' '), '') as rights
      from objects o cross join unnest($1::text[]) u (name)
      left join lateral (select k from unnest(o.kind) k where case o.class
           when 'p' then has_function_privilege(u.name, o.oid, k) when 't' then has_type_privilege(u.name, o.oid, k)
           when 'n' then has_schema_privilege(u.name, o.oid, k)
           when 's' then has_sequence_privilege(u.name, o.oid, k) else has_table_privilege(u.name, o.oid, k) end) k on true
     group by 1, 2";

fn cluster() -> (Cluster, Session) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create role alice login; create role monitor login; grant pg_monitor to monitor; create role tables login; create role dba login;
         alter database postgres owner to dba; create schema things authorization tables; grant create on schema public to tables",
    );
    cluster
        .session_as("tables")
        .run("create table things.t (n int, r rbytea); insert into things.t values (1, 'one')");
    (cluster, db)
}

#[test]
fn each_object_is_granted_as_declared_and_none_is_undeclared() {
    let (_cluster, db) = cluster();
    let users: Vec<&str> = USERS.to_vec();
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in db.rows(GRANTS, &[&users]) {
        found.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    let declared: BTreeSet<&str> =
        [SUPERUSER_ONLY, MONITORING, FOR_PUBLIC, &[UPLOADS]].concat().into_iter().collect();
    let undeclared: Vec<_> = found.keys().filter(|name| !declared.contains(name.as_str())).collect();
    let gone: Vec<_> = declared.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(undeclared.is_empty() && gone.is_empty(), "undeclared: {undeclared:#?}, gone: {gone:#?}");
    let mut cases = 0;
    for (name, rights) in &found {
        for (who, what) in rights {
            let usual =
                if name.starts_with("type") || name.starts_with("schema") { "usage" } else { "execute" };
            let reading = if name.starts_with("function") { "execute" } else { "select" };
            let expected = match name.as_str() {
                UPLOADS => "insert",
                name if FOR_PUBLIC.contains(&name) => usual,
                name if MONITORING.contains(&name) && who == "monitor" => reading,
                _ => "",
            };
            assert_eq!(what, expected, "{who}'s rights to {name}");
            cases += 1;
        }
    }
    proves_by_assertions(Promise::BadInput, cases);
}

/// A call of each function and procedure that is closed, and each thing that can be done to a relation.
fn attempts() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for name in SUPERUSER_ONLY.iter().chain(MONITORING) {
        let (kind, object) = name.split_once(' ').unwrap();
        let function = object.split('(').next().unwrap();
        match kind {
            "procedure" => all.push((*name, "call rbytea_reencrypt('things.t')".to_owned())),
            "function" if object.contains("(name)") => {
                all.push((*name, format!("select {function}('template1')")))
            }
            "function" if object.contains("(text)") => {
                all.push((*name, format!("select {function}('/etc/passwd')")))
            }
            "function" if object.contains("(rbytea,text)") => {
                all.push((*name, format!("select {function}('x', '/tmp/x')")))
            }
            "function" => all.push((*name, format!("select {function}()"))),
            "sequence" => {
                let statements = [
                    "select nextval('{}')",
                    "select setval('{}', 1)",
                    "select last_value from {}",
                    "alter sequence {} restart",
                    "drop sequence {}",
                ];
                all.extend(statements.map(|sql| (*name, sql.replace("{}", object))));
            }
            _ => {
                let statements = [
                    "select * from {}",
                    "select count(*) from {}",
                    "copy (select * from {}) to stdout",
                    "table {}",
                    "delete from {}",
                    "truncate {}",
                    "update {} set pid = 1",
                    "lock table {}",
                    "create trigger x before insert on {} for each row execute function suppress_redundant_updates_trigger()",
                    "create rule x as on insert to {} do nothing",
                    "alter table {} rename to gone",
                    "drop table {}",
                    "comment on table {} is 'mine'",
                    "grant all on {} to alice",
                    "create policy x on {}",
                    "vacuum {}",
                ];
                all.extend(statements.map(|sql| (*name, sql.replace("{}", object))));
            }
        }
    }
    // Objects whose rights cannot be granted.
    let others = [
        "drop extension rbytea cascade",
        "alter extension rbytea update",
        "alter extension rbytea drop function rvacuum()",
        "alter extension rbytea set schema pg_temp",
        "drop schema rbytea cascade",
        "alter schema rbytea rename to mine",
        "create table rbytea.mine (n int)",
        "alter table rbytea.rbytea_vacuum_history disable trigger all",
        "drop trigger rbytea_discard_replicated on rbytea.rbytea_vacuum_history",
        "drop type rbytea cascade",
        "alter type rbytea rename to mine",
        "alter type rbytea set (storage = external)",
        "drop cast (rbytea as bytea)",
        "drop operator = (rbytea, rbytea)",
        "alter operator = (rbytea, rbytea) set (restrict = none)",
        "drop operator class rbytea_ops using hash",
        "alter operator family rbytea_ops using hash drop function 1 (rbytea, rbytea)",
        "drop event trigger rbytea_attach",
        "alter event trigger rbytea_detach disable",
        "alter function rvacuum() owner to current_user",
        "alter function md5sum(rbytea) leakproof",
        "create or replace function rvacuum() returns bigint language sql as 'select 0::bigint'",
        "create or replace view rbytea.rbytea_stat as select 1 as one",
        "create or replace function rbytea_holders(out holder text, out age integer) returns setof record language sql as 'select null::text, 1'",
        "create trigger x before insert on things.t for each row execute function rbytea_externalize()",
        "create or replace view rbytea_upload as select null::bigint as upload, null::bytea as chunk",
        "create trigger x instead of insert on rbytea_upload for each row execute function rbytea_upload_row()",
        "delete from rbytea_upload",
        "select * from rbytea_upload",
        "create event trigger x on ddl_command_end execute function rbytea_ddl_command_end()",
    ];
    all.extend(others.map(|sql| ("the extension", sql.to_owned())));
    all
}

#[test]
fn each_kind_of_user_is_refused_what_is_not_granted() {
    let (cluster, db) = cluster();
    db.run("grant create on schema public to alice, monitor, tables, dba");
    let mut cases = 0;
    for who in USERS {
        let user = cluster.session_as(who);
        for (name, sql) in attempts() {
            let reads = ["select", "table", "copy"].iter().any(|verb| sql.starts_with(verb))
                && name != "sequence rbytea.rbytea_vacuum_history_id_seq";
            user.run("begin");
            let outcome = if sql.starts_with("copy") {
                crate::support::session::block_on(user.client().copy_out(&sql)).map(drop)
            } else if sql.starts_with("vacuum") {
                user.run("rollback");
                user.try_run(&sql)
            } else {
                user.try_run(&sql)
            };
            let _ = user.try_run("rollback");
            let allowed = (who == "monitor" && MONITORING.contains(&name) && reads)
                // Warnings, and nothing done.
                || sql.starts_with("vacuum")
                || (who == "monitor" && MONITORING.contains(&name) && sql.starts_with("grant"));
            match outcome {
                Ok(()) => assert!(allowed, "{who} may: {sql}"),
                Err(error) => {
                    let code = error.code().cloned();
                    assert!(!allowed, "{who} may not: {sql}: {error:?}");
                    // For some objects the server says first that the operation is impossible for every user.
                    let refused = [
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        SqlState::WRONG_OBJECT_TYPE,
                        SqlState::UNDEFINED_COLUMN,
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        // The owner of a schema may drop what is in it, but no part of an extension: from 15 on `public` is
                        // the database owner's.
                        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                    ];
                    assert!(code.is_some_and(|code| refused.contains(&code)), "{who}: {sql}: {error:?}");
                }
            }
            cases += 1;
        }
    }
    assert_eq!(db.text("select count(*) from pg_extension where extname = 'rbytea'"), "1");
    assert_eq!(db.text("select convert_from(r, 'utf8') from things.t"), "one");
    assert_eq!(cluster.live().len(), 1);
    proves_by_assertions(Promise::BadInput, cases);
}

/// The owner of a table may not do to his own what a superuser may do to all; a grant gives just what it says.
#[test]
fn a_grant_of_reencryption_goes_no_further_than_ones_own_tables() {
    let (cluster, db) = cluster();
    db.run("create table secret (n int, r rbytea); insert into secret values (1, 'secret'); grant all on secret to tables, dba");
    db.run("grant execute on procedure rbytea_reencrypt to tables, dba");
    for (who, table) in [
        ("tables", "secret"),
        ("dba", "things.t"),
        ("dba", "secret"),
        ("dba", "rbytea.rbytea_vacuum_history"),
    ] {
        let state = cluster.session_as(who).sqlstate(&format!("call rbytea_reencrypt('{table}')"));
        assert!(
            [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::WRONG_OBJECT_TYPE].contains(&state),
            "{who} has re-encrypted {table}: {state:?}"
        );
    }
    cluster.session_as("tables").run("call rbytea_reencrypt('things.t')");
    proves_by_assertions(Promise::BadInput, 5);
}
