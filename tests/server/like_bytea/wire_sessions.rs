//! What clients see where other libraries look at statements as well, in pipelines, in sessions that change their minds, in
//! databases where the extension comes and goes, and where the library is loaded late.

use tokio_postgres::types::Type;

use crate::support::cluster::Cluster;
use crate::support::installation::Installation;
use crate::support::session::{Params, Session, block_on};

const TABLE: &str = "create table t (id int primary key, r rbytea, b bytea);
    insert into t select n, ('payload ' || n % 4)::bytea, ('payload ' || n % 4)::bytea from generate_series(1, 6) n";

fn types_of(db: &Session, sql: &str) -> Vec<Type> {
    let statement = block_on(db.client().prepare(sql)).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    statement.columns().iter().map(|column| column.type_().clone()).collect()
}

#[test]
fn other_libraries_may_come_before_and_after() {
    let installation = Installation::from_environment();
    if !installation.pkglibdir.join("pg_stat_statements.so").exists() {
        // The package for 16 and 18 has no contrib modules, and what is to be seen here is the same in all majors.
        assert!(matches!(installation.major, 16 | 18), "where is contrib?");
        return;
    }
    for order in ["pg_stat_statements,auto_explain,rbytea", "rbytea,auto_explain,pg_stat_statements"] {
        let cluster = Cluster::with_extension_and(&[
            &format!("shared_preload_libraries = '{order}'"),
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_verbose = on",
            "auto_explain.log_nested_statements = on",
            "pg_stat_statements.track = all",
        ]);
        let db = cluster.session();
        db.run("create extension pg_stat_statements");
        db.run(TABLE);
        db.run("select pg_stat_statements_reset()");
        for sql in [
            "select {} from t where id = 3",
            "select distinct {} from t order by 1",
            "select {} from t union select {} from t order by 1",
            "with w as (select {} as x from t) select x from w group by x order by x",
        ] {
            let [ours, theirs] = ["r", "b"].map(|column| sql.replace("{}", column));
            assert_eq!(types_of(&db, &ours), [Type::BYTEA], "{order}: {ours}");
            assert_eq!(db.text(&ours), db.text(&theirs), "{order}: {ours}");
            // Once in each protocol, with other constants: one statement.
            db.rows(&ours, &[]);
        }
        db.text("select r from t where id = 4");
        let bytes = b"payload 2".to_vec();
        assert_eq!(db.one::<i64>("select count(*) from t where r = $1", &[&bytes]), 2);
        db.execute("insert into t (id, r) values ($1, $2)", &[&100, &bytes]);
        assert_eq!(
            db.text(
                "select calls, rows from pg_stat_statements where query = 'select r from t where id = $1'"
            ),
            "3|3",
            "{order}"
        );
        assert_eq!(
            db.text("select calls, rows from pg_stat_statements where query = 'select distinct r from t order by 1'"),
            "2|8",
            "{order}"
        );
        assert_eq!(
            db.text(
                "select calls from pg_stat_statements where query = 'insert into t (id, r) values ($1, $2)'"
            ),
            "1",
            "{order}"
        );
        assert!(cluster.log().contains("rbytea_to_client"), "{order}: auto_explain shows the plan as it is");
    }
}

#[test]
fn statements_in_a_pipeline_are_each_their_own() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(TABLE);
    let client = db.client();
    let (insert, read, plain) = block_on(async {
        tokio::try_join!(
            client.prepare("insert into t (id, r) values ($1, $2) returning r"),
            client.prepare("select r, id from t where r = $1 order by r, id"),
            client.prepare("select id from t where id = $1"),
        )
    })
    .unwrap();
    let payload = |n: i32| format!("C:\\new\\{n}\\101").into_bytes();
    for n in 0..20 {
        let (new, id) = (payload(n), 1000 + n);
        let (first, second, third): (Params<'_>, Params<'_>, Params<'_>) = (&[&id, &new], &[&new], &[&id]);
        let (inserted, found, ids) = block_on(async {
            tokio::try_join!(
                client.query(&insert, first),
                client.query(&read, second),
                client.query(&plain, third),
            )
        })
        .unwrap();
        assert_eq!(inserted[0].get::<_, Vec<u8>>(0), new);
        assert_eq!((found[0].get::<_, Vec<u8>>(0), found[0].get::<_, i32>(1)), (new, id));
        assert_eq!(ids.len(), 1);
    }
}

#[test]
fn a_session_may_change_what_it_wants() {
    let cluster = Cluster::with_extension();
    let (db, other) = (cluster.session(), cluster.session());
    db.run(TABLE);
    let client = db.client();
    let as_bytea = block_on(client.prepare("select r from t where id = $1")).unwrap();
    db.run("prepare p as select r from t where id = 1; set rbytea.client_type = rbytea");
    let as_itself = block_on(client.prepare("select r from t where id = $1 and true")).unwrap();
    assert_eq!(as_itself.columns()[0].type_().name(), "rbytea");
    assert_eq!(types_of(&db, "select r from t")[0].name(), "rbytea");
    // What was prepared before stays as it was described.
    assert_eq!(block_on(client.query(&as_bytea, &[&1])).unwrap()[0].get::<_, Vec<u8>>(0), b"payload 1");
    assert_eq!(db.text("execute p"), "\\x7061796c6f61642031");
    // One that has to be planned anew cannot change its type, which is an error rather than a wrong value.
    other.run("alter table t add c int");
    let replanned = block_on(client.query(&as_bytea, &[&1]));
    assert_eq!(replanned.unwrap_err().code().unwrap().code(), "0A000");
    db.run("reset rbytea.client_type");
    assert_eq!(block_on(client.query(&as_bytea, &[&2])).unwrap()[0].get::<_, Vec<u8>>(0), b"payload 2");
    // For one transaction, or for a function.
    db.run("begin; set local rbytea.client_type = rbytea");
    assert_eq!(types_of(&db, "select r from t")[0].name(), "rbytea");
    db.run("rollback");
    assert_eq!(types_of(&db, "select r from t"), [Type::BYTEA]);
    db.run("create function own() returns rbytea language sql set rbytea.client_type = rbytea as 'select r from t where id = 2'");
    assert_eq!(types_of(&db, "select own()"), [Type::BYTEA]);
    db.run("alter database postgres set rbytea.client_type = rbytea");
    assert_eq!(types_of(&cluster.session(), "select r from t")[0].name(), "rbytea");
}

/// A parameter is a bytea wherever the statement means the same with it when it is analysed again, and stays what it was
/// inferred to be everywhere else.
#[test]
fn statements_mean_the_same_when_they_are_analysed_again() {
    let cluster = Cluster::with_extension();
    let (db, other) = (cluster.session(), cluster.session());
    db.run(TABLE);
    db.run(
        "create table u (id int, r rbytea);
         create function sizes(bigint, rbytea) returns bigint language sql as 'select $1 + len($2)';
         create aggregate size_of_all(rbytea) (sfunc = sizes, stype = bigint, initcond = 0);
         create function same_size(rbytea, rbytea) returns boolean language sql as 'select len($1) = len($2)';
         create function which(rbytea) returns text language sql as $$select 'rbytea'$$;
         create function which(bytea) returns text language sql as $$select 'bytea'$$;
         create operator ### (function = same_size, leftarg = rbytea, rightarg = rbytea)",
    );
    let own = "rbytea";
    for (sql, of_parameter, answer) in [
        ("select r from t where r = $1 order by id limit 1", "bytea", r"\x7061796c6f61642031"),
        ("select coalesce(r, $1) from t where id = 1", "bytea", r"\x7061796c6f61642031"),
        ("select case when id = 2 then r else $1 end from t where id = 1", "bytea", r"\x7061796c6f61642031"),
        ("select id from t where r in ($1, 'payload 2') order by id limit 1", "bytea", "1"),
        (
            "insert into u values (1, coalesce($1, null::rbytea)), (2, $1) returning r, id",
            "bytea",
            r"\x7061796c6f61642031|1",
        ),
        ("update u set r = coalesce($1, r) where id = 1 returning r", "bytea", r"\x7061796c6f61642031"),
        (
            "with w as (select $1 as r union all select r from t where false) select id from t, w where t.r = w.r order by id",
            "bytea",
            "1",
        ),
        ("insert into u select 3, $1::rbytea returning r", "bytea", r"\x7061796c6f61642031"),
        ("select len(coalesce(r, $1)) from t where id = 1", own, "9"),
        ("select len(case when id = 2 then r else $1 end) from t where id = 1", own, "9"),
        ("select len(p) from (values ($1), ((select r from t where id = 1))) v (p) limit 1", own, "9"),
        ("select len(p) from (select r from t where id = 1 union all select $1) v (p) limit 1", own, "9"),
        (
            "with recursive w as (select r, 1 as n from t where id = 1 union all select coalesce($1, r), n + 1 from w where n < 3) select n, r from w order by n",
            own,
            r"1|\x7061796c6f61642031",
        ),
        ("select size_of_all($1) from t", own, "54"),
        ("select r ### $1 from t where id = 1", own, "t"),
        ("select len($1)", own, "9"),
        ("select which(coalesce(r, $1)) from t where id = 1", own, "rbytea"),
        (
            "select length(coalesce(r, $1)), md5(r || $1) from t where id = 1",
            "bytea",
            "9|c2d59cb2622f388372a5e03d4f7bf485",
        ),
        // Each parameter for itself.
        ("insert into u values (len($1), 'x'), (4, $2) returning id", own, "9"),
    ] {
        let statement = block_on(db.client().prepare(sql)).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let parameters: Vec<_> = statement.params().iter().map(Type::name).collect();
        assert_eq!(parameters[0], of_parameter, "{sql}");
        assert!(parameters[1..].iter().all(|name| *name == "bytea"), "{sql}: {parameters:?}");
        let arguments = ["'payload 1'"; 2][..parameters.len()].join(", ");
        db.run(&format!("prepare p as {sql}"));
        for time in ["once", "again"] {
            let found = db.text(&format!("execute p({arguments})"));
            assert_eq!(found.lines().next().unwrap(), answer, "{time}: {sql}");
            other.run("alter table t add c int; alter table t drop c; alter table u add c int; alter table u drop c");
        }
        db.run("deallocate p");
        // The client's own, which is described once.
        if of_parameter == "bytea" {
            let bytes = b"payload 1".to_vec();
            let rows = block_on(db.client().query(&statement, &[&bytes])).unwrap();
            assert!(!rows.is_empty(), "{sql}");
        }
    }
    // What a function has prepared, or a session that wants the type, goes on returning the type.
    for prepare in [
        "do $$begin execute 'prepare q as select r from t where id = 1'; end$$",
        "set rbytea.client_type = rbytea; prepare q as select r from t where id = 1; reset rbytea.client_type",
    ] {
        db.run(prepare);
        for _ in 0..2 {
            assert_eq!(types_of(&db, "execute q")[0].name(), "rbytea", "{prepare}");
            assert_eq!(db.text("execute q"), r"\x7061796c6f61642031");
            other.run("alter table t add c int; alter table t drop c");
        }
        db.run("deallocate q");
    }
}

#[test]
fn an_extension_that_comes_and_goes_is_noticed() {
    let cluster = Cluster::running();
    let db = cluster.session();
    assert_eq!(db.text("select 1"), "1");
    for schema in ["public", "\"My Files\""] {
        db.run(&format!("create schema if not exists {schema}; create extension rbytea schema {schema}"));
        db.run(&format!("create table t (id int, r {schema}.rbytea); insert into t values (1, 'x')"));
        let other = cluster.session();
        for session in [&db, &other] {
            assert_eq!(types_of(session, "select r from t"), [Type::BYTEA], "{schema}");
            session.execute("update t set r = $1", &[&b"\\101".to_vec()]);
            session.run("set search_path = ''");
            assert_eq!(session.one::<Vec<u8>>("select distinct r from public.t", &[]), b"\\101");
            session.run("reset search_path");
        }
        other.run("drop extension rbytea cascade; drop table t");
        assert_eq!(db.text("select 1"), "1");
    }
}

/// Loaded in the middle of a session, the library changes no types; loaded at its start, it does.
#[test]
fn only_what_is_loaded_at_the_start_changes_types() {
    let cluster = Cluster::with_extension_and(&["shared_preload_libraries = ''"]);
    let db = cluster.session();
    db.run(TABLE);
    let late = cluster.session();
    assert_eq!(types_of(&late, "select r from t")[0].name(), "rbytea");
    late.run("load 'rbytea'");
    assert_eq!(types_of(&late, "select r from t")[0].name(), "rbytea");
    db.run("alter database postgres set session_preload_libraries = 'rbytea'");
    let early = cluster.session();
    assert_eq!(types_of(&early, "select r from t"), [Type::BYTEA]);
    early.execute("insert into t (id, r) values (50, $1)", &[&b"C:\\new".to_vec()]);
    assert_eq!(early.one::<Vec<u8>>("select r from t where id = 50", &[]), b"C:\\new");
    early.run("create table c as select r from t");
    assert_eq!(early.text("select pg_typeof(r) from c limit 1"), "rbytea");
}
