//! What CREATE EXTENSION creates is what is declared here: objects, their comments, their rights, and the functions
//! of the library.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// Every object of the extension in the schema `public`, as pg_identify_object names it.
const OBJECTS: &[&str] = &[
    "cast (pg_catalog.bytea AS public.rbytea)",
    "cast (public.rbytea AS pg_catalog.bytea)",
    "function pg_catalog.\"substring\"(public.rbytea,integer)",
    "function pg_catalog.\"substring\"(public.rbytea,integer,integer)",
    "function pg_catalog.length(public.rbytea)",
    "function pg_catalog.md5(public.rbytea)",
    "function pg_catalog.octet_length(public.rbytea)",
    "function pg_catalog.rbytea_from_client(pg_catalog.bytea)",
    "function pg_catalog.rbytea_to_client(public.rbytea)",
    "function pg_catalog.substr(public.rbytea,integer)",
    "function pg_catalog.substr(public.rbytea,integer,integer)",
    "function public.bytea(public.rbytea)",
    "function public.len(public.rbytea)",
    "function public.len_full(public.rbytea)",
    "function public.md5store(public.rbytea)",
    "function public.md5sum(public.rbytea)",
    "function public.qss_mode(public.rbytea)",
    "function public.rbytea(pg_catalog.bytea)",
    "function public.bytea_cmp_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.bytea_eq_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.bytea_ge_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.bytea_gt_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.bytea_le_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.bytea_lt_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.bytea_ne_rbytea(pg_catalog.bytea,public.rbytea)",
    "function public.rbytea_btree_options(pg_catalog.internal)",
    "function public.rbytea_cmp(public.rbytea,public.rbytea)",
    "function public.rbytea_cmp_bytea(public.rbytea,pg_catalog.bytea)",
    "function public.rbytea_eq(public.rbytea,public.rbytea)",
    "function public.rbytea_eq_bytea(public.rbytea,pg_catalog.bytea)",
    "function public.rbytea_ge(public.rbytea,public.rbytea)",
    "function public.rbytea_ge_bytea(public.rbytea,pg_catalog.bytea)",
    "function public.rbytea_gt(public.rbytea,public.rbytea)",
    "function public.rbytea_gt_bytea(public.rbytea,pg_catalog.bytea)",
    "function public.rbytea_hash_bytea(pg_catalog.bytea)",
    "function public.rbytea_hash_bytea_extended(pg_catalog.bytea,bigint)",
    "function public.rbytea_le(public.rbytea,public.rbytea)",
    "function public.rbytea_le_bytea(public.rbytea,pg_catalog.bytea)",
    "function public.rbytea_lt(public.rbytea,public.rbytea)",
    "function public.rbytea_lt_bytea(public.rbytea,pg_catalog.bytea)",
    "function public.rbytea_ne(public.rbytea,public.rbytea)",
    "function public.rbytea_ne_bytea(public.rbytea,pg_catalog.bytea)",
    "aggregate public.rbytea_agg(pg_catalog.bytea)",
    "function public.rbytea_agg_append(pg_catalog.internal,pg_catalog.bytea)",
    "function public.rbytea_agg_finish(pg_catalog.internal)",
    "function public.rbytea_append(bigint,pg_catalog.bytea)",
    "function public.rbytea_begin()",
    "function public.rbytea_chunk_rows(public.rbytea,integer)",
    "function public.rbytea_chunks(public.rbytea,integer)",
    "function public.rbytea_export(public.rbytea,pg_catalog.text)",
    "function public.rbytea_finish(bigint)",
    "function public.rbytea_from_lo(pg_catalog.oid)",
    "function public.rbytea_import(pg_catalog.text)",
    "function public.rbytea_larger_than(bigint,pg_catalog.regclass)",
    "function public.rbytea_read(public.rbytea,bigint,integer)",
    "function public.rbytea_store_progress()",
    "function public.rbytea_upload_row()",
    "function public.rbytea_adopt_store()",
    "function public.rbytea_attach()",
    "function public.rbytea_cat(public.rbytea,public.rbytea)",
    "function public.rbytea_clone_from(pg_catalog.name)",
    "function public.rbytea_ddl_command_end()",
    "function public.rbytea_discard_replicated()",
    "function public.rbytea_externalize()",
    "function public.rbytea_check(pg_catalog.regclass,boolean)",
    "function public.rbytea_has_keepers()",
    "function public.rbytea_hash(public.rbytea)",
    "function public.rbytea_hash_extended(public.rbytea,bigint)",
    "function public.rbytea_holders()",
    "function public.rbytea_holding()",
    "function public.rbytea_in(pg_catalog.cstring)",
    "function public.rbytea_keys()",
    "function public.rbytea_out(public.rbytea)",
    "function public.rbytea_purge_holders()",
    "function public.rbytea_purge_obstacle()",
    "function public.rbytea_recv(pg_catalog.internal)",
    "function public.rbytea_reencrypt_progress()",
    "function public.rbytea_send(public.rbytea)",
    "function public.rbytea_sql_drop()",
    "function public.rbytea_store(pg_catalog.bytea)",
    "function public.rbytea_typanalyze(pg_catalog.internal)",
    "function public.rbytea_vacuum_progress()",
    "function public.rvacuum()",
    "function public.rvacuum_plan()",
    "function public.rvacuum_purge()",
    "function public.sha256store(public.rbytea)",
    "function public.sha256sum(public.rbytea)",
    "function public.uuid(public.rbytea)",
    "event trigger rbytea_attach",
    "event trigger rbytea_detach",
    "operator class public.rbytea_ops USING btree",
    "operator class public.rbytea_ops USING hash",
    "operator family public.rbytea_ops USING btree",
    "operator family public.rbytea_ops USING hash",
    "operator pg_catalog.<(pg_catalog.bytea,public.rbytea)",
    "operator pg_catalog.<(public.rbytea,pg_catalog.bytea)",
    "operator pg_catalog.<(public.rbytea,public.rbytea)",
    "operator pg_catalog.<=(pg_catalog.bytea,public.rbytea)",
    "operator pg_catalog.<=(public.rbytea,pg_catalog.bytea)",
    "operator pg_catalog.<=(public.rbytea,public.rbytea)",
    "operator pg_catalog.<>(pg_catalog.bytea,public.rbytea)",
    "operator pg_catalog.<>(public.rbytea,pg_catalog.bytea)",
    "operator pg_catalog.<>(public.rbytea,public.rbytea)",
    "operator pg_catalog.=(pg_catalog.bytea,public.rbytea)",
    "operator pg_catalog.=(public.rbytea,pg_catalog.bytea)",
    "operator pg_catalog.=(public.rbytea,public.rbytea)",
    "operator pg_catalog.>(pg_catalog.bytea,public.rbytea)",
    "operator pg_catalog.>(public.rbytea,pg_catalog.bytea)",
    "operator pg_catalog.>(public.rbytea,public.rbytea)",
    "operator pg_catalog.>=(pg_catalog.bytea,public.rbytea)",
    "operator pg_catalog.>=(public.rbytea,pg_catalog.bytea)",
    "operator pg_catalog.>=(public.rbytea,public.rbytea)",
    "operator pg_catalog.||(public.rbytea,public.rbytea)",
    "procedure public.rbytea_reencrypt(pg_catalog.regclass,integer)",
    "schema rbytea",
    "sequence rbytea.rbytea_vacuum_history_id_seq",
    "table rbytea.rbytea_vacuum_history",
    "type public.rbytea",
    "view public.rbytea_upload",
    "view rbytea.rbytea_stat",
    "view rbytea.rbytea_stat_progress_reencrypt",
    "view rbytea.rbytea_stat_progress_store",
    "view rbytea.rbytea_stat_progress_vacuum",
];

/// What only superusers may call, until they grant it.
const CLOSED: &[&str] = &[
    "rbytea_adopt_store()",
    "rbytea_attach()",
    "rbytea_check(regclass,boolean)",
    "rbytea_clone_from(name)",
    "rbytea_ddl_command_end()",
    "rbytea_discard_replicated()",
    "rbytea_export(rbytea,text)",
    "rbytea_externalize()",
    "rbytea_has_keepers()",
    "rbytea_holders()",
    "rbytea_holding()",
    "rbytea_import(text)",
    "rbytea_keys()",
    "rbytea_larger_than(bigint,regclass)",
    "rbytea_purge_holders()",
    "rbytea_purge_obstacle()",
    "rbytea_reencrypt(regclass,integer)",
    "rbytea_reencrypt_progress()",
    "rbytea_sql_drop()",
    "rbytea_store_progress()",
    "rbytea_upload_row()",
    "rbytea_vacuum_progress()",
    "rvacuum()",
    "rvacuum_plan()",
    "rvacuum_purge()",
];

/// What the server looks for in the library besides functions of SQL: its own entry points, and background workers.
const OTHER_SYMBOLS: &[&str] = &[
    "Pg_magic_func",
    "_PG_init",
    "rbytea_keeper",
    "rbytea_vacuum_failure",
    "rbytea_vacuum_launcher",
    "rbytea_vacuum_worker",
];

/// The functions of the extension, as `p`.
const FUNCTIONS: &str =
    "pg_proc p join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
                         join pg_extension e on d.refobjid = e.oid and e.extname = 'rbytea'";

fn set(db: &Session, sql: &str) -> BTreeSet<String> {
    db.column::<String>(sql, &[]).into_iter().collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_extension_is_what_is_declared() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    // From 18 on, the types of arrays and rows that come with a type and a table count too.
    let members = "pg_depend d join pg_extension e on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and extname = 'rbytea',
                   pg_identify_object(d.classid, d.objid, d.objsubid) o
                   where d.deptype = 'e' and not (d.classid = 'pg_type'::regclass
                       and exists (select from pg_type t where t.oid = d.objid and (typrelid <> 0 or typcategory = 'A')))";
    let found = set(&db, &format!("select o.type || ' ' || o.identity from {members}"));
    let declared = names(OBJECTS);
    let surplus: Vec<_> = found.difference(&declared).collect();
    let lost: Vec<_> = declared.difference(&found).collect();
    assert!(
        surplus.is_empty() && lost.is_empty(),
        "undeclared objects: {surplus:#?}, missing ones: {lost:#?}"
    );

    let silent = set(
        &db,
        &format!(
            "select o.type || ' ' || o.identity from {members} and coalesce(obj_description(d.objid, d.classid::regclass::name), '') = ''"
        ),
    );
    assert!(silent.is_empty(), "\\dx+ and \\df+ say nothing about {silent:#?}");
    assert_ne!(
        db.text("select obj_description(oid, 'pg_extension') from pg_extension where extname = 'rbytea'"),
        ""
    );
}

#[test]
fn rights_are_those_that_are_declared() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create role ordinary");
    let closed = format!(
        "select p.oid::regprocedure::text from {FUNCTIONS} where not has_function_privilege('ordinary', p.oid, 'execute')"
    );
    assert_eq!(set(&db, &closed), names(CLOSED), "functions without EXECUTE for PUBLIC");
    assert_eq!(
        db.text("select has_schema_privilege('ordinary', 'rbytea', 'usage'), has_schema_privilege('ordinary', 'rbytea', 'create')"),
        "t|f"
    );
    assert!(db.one::<bool>("select has_type_privilege('ordinary', 'rbytea', 'usage')", &[]));
    let history = "select string_agg(p, ', ') from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
                   where has_table_privilege('ordinary', 'rbytea.rbytea_vacuum_history', p)";
    assert_eq!(db.one::<Option<String>>(history, &[]), None, "rights of PUBLIC to the history");
    assert_eq!(
        set(&db, &format!("select p.proname::text from {FUNCTIONS} where p.prosecdef")),
        names(&[
            "rbytea_holders",
            "rbytea_holding",
            "rbytea_purge_holders",
            "rvacuum",
            "rvacuum_plan",
            "rvacuum_purge"
        ]),
        "functions that run with their owner's rights"
    );
    assert_eq!(
        db.text(&format!("select count(*) from {FUNCTIONS} where p.prosecdef and not coalesce(p.proconfig::text, '') ~ 'search_path'")),
        "0",
        "a function with its owner's rights looks where its caller says"
    );
}

/// I2: a value is computed without side effects, so the planner may compute it when it likes and in any process.
#[test]
fn values_are_pure_to_the_planner() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let changing = set(
        &db,
        &format!(
            "select p.proname::text from {FUNCTIONS} where (provolatile, proisstrict, proparallel) <> ('i', true, 's')
             and prorettype <> all (array['trigger', 'event_trigger']::regtype[])"
        ),
    );
    let expected = [
        "rbytea_adopt_store",
        "rbytea_agg",
        "rbytea_agg_append",
        "rbytea_agg_finish",
        "rbytea_append",
        "rbytea_attach",
        "rbytea_begin",
        "rbytea_check",
        "rbytea_chunk_rows",
        "rbytea_chunks",
        "rbytea_clone_from",
        "rbytea_export",
        "rbytea_finish",
        "rbytea_from_client",
        "rbytea_from_lo",
        "rbytea_has_keepers",
        "rbytea_holders",
        "rbytea_holding",
        "rbytea_import",
        "rbytea_keys",
        "rbytea_larger_than",
        "rbytea_purge_holders",
        "rbytea_purge_obstacle",
        "rbytea_reencrypt",
        "rbytea_reencrypt_progress",
        "rbytea_store",
        "rbytea_store_progress",
        "rbytea_to_client",
        "rbytea_typanalyze",
        "rbytea_vacuum_progress",
        "rvacuum",
        "rvacuum_plan",
        "rvacuum_purge",
    ];
    assert_eq!(changing, names(&expected), "functions that are not immutable, strict and parallel safe");
    let unsafe_ones = set(
        &db,
        &format!("select p.proname::text from {FUNCTIONS} where proparallel = 'u' and provolatile = 'v'"),
    );
    let writing = [
        "rbytea_adopt_store",
        "rbytea_agg_append",
        "rbytea_agg_finish",
        "rbytea_append",
        "rbytea_attach",
        "rbytea_begin",
        "rbytea_check",
        "rbytea_clone_from",
        "rbytea_ddl_command_end",
        "rbytea_discard_replicated",
        "rbytea_export",
        "rbytea_externalize",
        "rbytea_finish",
        "rbytea_from_lo",
        "rbytea_import",
        "rbytea_keys",
        "rbytea_larger_than",
        "rbytea_reencrypt",
        "rbytea_sql_drop",
        "rbytea_store",
        "rbytea_upload_row",
        "rvacuum",
        "rvacuum_plan",
        "rvacuum_purge",
    ];
    assert_eq!(unsafe_ones, names(&writing), "functions that only a leader may run");
}

#[test]
fn the_library_exports_the_functions_of_the_script_and_no_others() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let c = format!("{FUNCTIONS} join pg_language l on l.oid = p.prolang and l.lanname = 'c'");
    assert_eq!(db.text(&format!("select distinct probin from {c}")), "$libdir/rbytea");
    let named = set(&db, &format!("select p.prosrc from {c}"));

    let library = cluster.installation().pkglibdir.join("rbytea.so");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
    assert!(output.status.success(), "nm {}", library.display());
    let symbols = String::from_utf8(output.stdout).unwrap();
    let symbols: BTreeSet<_> = symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let infos: BTreeSet<_> =
        symbols.iter().filter_map(|symbol| symbol.strip_prefix("pg_finfo_")).map(str::to_owned).collect();
    assert_eq!(named, infos, "functions of the script, functions of the library");
    for function in &named {
        assert!(symbols.contains(function.as_str()), "{function} has an info record and no code");
    }
    let others: Vec<_> = symbols
        .iter()
        .filter(|symbol| !named.contains(symbol.trim_start_matches("pg_finfo_")))
        .filter(|symbol| !OTHER_SYMBOLS.contains(symbol))
        .collect();
    assert!(others.is_empty(), "the library also exports {others:?}");
}
