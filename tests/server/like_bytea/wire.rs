//! What clients see: rbytea is described and sent as bytea, and parameters are described as bytea, whatever the statement; the
//! server's own objects keep rbytea.

use tokio_postgres::types::Type;

use crate::support::cluster::Cluster;
use crate::support::session::{Session, block_on};

/// `t (id, r, b)` with a domain, an array and a few rows.
fn cluster_with(conf: &[&str]) -> (Cluster, Session) {
    let cluster = Cluster::with_extension_and(conf);
    let db = cluster.session();
    db.run(
        "create domain document as rbytea;
         create table t (id int primary key, r rbytea, b bytea, d document, a rbytea[]);
         insert into t select n, x, x, x, array[x, x] from generate_series(1, 6) n, lateral (select ('payload ' || n % 4)::bytea as x offset 0) x;
         create table sink (id int, r rbytea);
         create function one(int) returns rbytea language sql stable return (select r from t where id = $1);
         create function find(int) returns bytea language plpgsql as $$declare x rbytea; begin select r into x from t where id = $1; return x; end$$",
    );
    (cluster, db)
}

fn described(db: &Session, sql: &str) -> (Vec<Type>, Vec<Type>) {
    let statement = block_on(db.client().prepare(sql)).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    (statement.params().to_vec(), statement.columns().iter().map(|column| column.type_().clone()).collect())
}

/// Statements with a first column of ours; `{}` is the column.
const QUERIES: &[&str] = &[
    "select {} from t where id = 1",
    "select {}, id from t order by id",
    "select {} from t order by {}",
    "select distinct {} from t order by 1",
    "select distinct on (id % 2) {} from t order by id % 2, id",
    "select distinct {}, id % 2 from t order by 1, 2",
    "select {} from t group by {} order by count(*), min(id)",
    "select {}, count(*) from t group by {} having count(*) > 1 order by {}",
    "select {} from t union select {} from t order by 1",
    "select {} from t union all select {} from t where id = 3 order by 1",
    "select {} from t intersect select {} from t where id < 3 order by 1",
    "select {}, rank() over (partition by {} order by id) from t order by 1, 2",
    "select {} from t order by id for update",
    "select {} from t where id = 2 for share",
    "with w as (select {} as x, id from t) select x from w order by id",
    "with w as (select {} as x from t) select distinct x from w order by x",
    "with w as (insert into sink values (9, 'written') returning id), v as (select {} as x from t where id in (select 1 from w)) select distinct x from v union select x from v",
    "with recursive w as (select 1 as n, {} as x from t where id = 1 union all select n + 1, x from w where n < 3) select distinct x, n from w order by n",
    "select {} from t order by {} desc limit 2 offset 1",
    "select {} from t order by id fetch first 2 rows with ties",
    "select (select {} from t where id = 4)",
    "select coalesce({}, null) from t order by id",
    "select case when id > 2 then {} end from t order by id",
    "select x from (values (1, (select {} from t where id = 1)), (2, null)) v (n, x) order by n",
    "select {} from t tablesample bernoulli (100) order by id",
    "select max({}) over (), id from (select id, {} from t where false) s",
];

#[test]
fn results_of_every_kind_are_bytea() {
    let (_cluster, db) = cluster_with(&[]);
    let rows = |sql: &str| -> Vec<Option<Vec<u8>>> {
        db.rows(sql, &[]).iter().map(|row| row.get::<_, Option<Vec<u8>>>(0)).collect()
    };
    for query in QUERIES.iter().filter(|query| !query.contains("max(")) {
        let [ours, theirs] = ["r", "b"].map(|column| query.replace("{}", column));
        let (_, columns) = described(&db, &ours);
        assert_eq!(columns[0], Type::BYTEA, "{ours}");
        assert_eq!(rows(&ours), rows(&theirs), "{ours}");
        assert_eq!(db.text(&ours), db.text(&theirs), "in text: {ours}");
        let domain = query.replace("{}", "d");
        assert_eq!(described(&db, &domain).1[0], Type::BYTEA, "{domain}");
    }
    for sql in [
        "select a from t",
        "select distinct a from t",
        "select array_agg(r) from t",
        "insert into t (id, a) values (100, '{}') returning a",
    ] {
        assert_eq!(described(&db, sql).1[0], Type::BYTEA_ARRAY, "{sql}");
    }
    let arrays: Vec<Vec<u8>> = db.one("select a from t where id = 2", &[]);
    assert_eq!(arrays, [b"payload 2", b"payload 2"]);
    for sql in [
        "insert into sink (r) values ('x') returning r",
        "update sink set id = 1 where false returning r",
        "delete from sink where false returning r, id",
        "with w as (delete from sink where false returning r) select r from w",
        "select one(1)",
        "select unnest(a) from t where id = 1",
        "values ('x'::rbytea)",
    ] {
        assert_eq!(described(&db, sql).1[0], Type::BYTEA, "{sql}");
    }
}

#[test]
fn parameters_are_bytea_and_take_its_bytes() {
    let (_cluster, db) = cluster_with(&[]);
    let bytes: Vec<u8> = (0..=255).chain(*b"\\101\\\\x").collect();
    for (sql, at) in [
        ("insert into sink values (1, $1)", 0),
        ("insert into sink values ($1, $2)", 1),
        ("update sink set r = $1", 0),
        ("select id from t where r = $1", 0),
        ("select id from t where r in ($1, $2)", 1),
        ("select $1::rbytea", 0),
        ("select coalesce(r, $1) from t", 0),
        ("insert into sink (r) select $1 from t", 0),
        ("with w as (update sink set r = $1 returning id) select id from w", 0),
    ] {
        assert_eq!(described(&db, sql).0[at], Type::BYTEA, "{sql}");
    }
    assert_eq!(
        described(&db, "select len($1)").0[0].name(),
        "rbytea",
        "a bytea would not be found as its argument"
    );

    for sql in [
        "select id from t where r = any ($1)",
        "select id from t where r <> all ($1) and b = any ($1)",
        "insert into t (a) values ($1)",
        "update t set a = $1 where r = any ($1)",
        "select $1::rbytea[]",
        "select array_append($1, r) from t",
    ] {
        assert_eq!(described(&db, sql).0[0], Type::BYTEA_ARRAY, "{sql}");
    }
    assert_eq!(
        described(&db, "select id from t where a = $1").0[0].name(),
        "_rbytea",
        "no operator takes both types"
    );
    db.execute("insert into t (id, r, a) values (7, $1, $2)", &[&bytes, &vec![bytes.clone(), vec![]]]);
    assert_eq!(db.column::<i32>("select id from t where r = any ($1)", &[&vec![bytes.clone()]]), [7]);
    assert_eq!(db.one::<Vec<Vec<u8>>>("select a from t where id = 7", &[]), [bytes.clone(), vec![]]);

    db.execute("insert into sink values (1, $1)", &[&bytes]);
    assert_eq!(db.one::<Vec<u8>>("select r from sink where r = $1", &[&bytes]), bytes);
    db.execute("update sink set r = $1", &[&b"C:\\\\new\\101".to_vec()]);
    assert_eq!(db.one::<Vec<u8>>("select r from sink", &[]), b"C:\\\\new\\101");
    assert_eq!(db.text("select uuid(r) is not null from sink"), "t", "it was not stored");
}

#[test]
fn a_plan_that_is_made_anew_describes_the_same() {
    let (cluster, db) = cluster_with(&[]);
    let other = cluster.session();
    let client = db.client();
    for sql in [
        "select r from t where id = $1",
        "select distinct r from t where id <= $1",
        "insert into sink values ($1, 'x') returning r",
    ] {
        let statement = block_on(client.prepare(sql)).unwrap();
        for n in 0..8 {
            other.run(&format!("create index x on t (id); analyze t; drop index x; alter table sink add column c{n} int; alter table sink drop column c{n}"));
            let rows =
                block_on(client.query(&statement, &[&1])).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            rows[0].get::<_, Vec<u8>>(0);
        }
    }
    let sought = vec![b"payload 1".to_vec(), b"payload 2".to_vec()];
    for (sql, rows) in [
        ("select r from t where r = any ($1) order by id", 4),
        ("update t set a = $1 where r = any ($1) returning r", 4),
    ] {
        let statement = block_on(client.prepare(sql)).unwrap();
        for _ in 0..8 {
            other.run("create index x on t (id); drop index x");
            assert_eq!(block_on(client.query(&statement, &[&sought])).unwrap().len(), rows, "{sql}");
        }
    }
    assert_eq!(db.one::<Vec<Vec<u8>>>("select a from t where id = 1", &[]), sought);
    let insert = block_on(client.prepare("insert into sink (id, r) values ($1, $2)")).unwrap();
    other.run("alter table sink add column c int");
    block_on(client.execute(&insert, &[&70, &b"after".to_vec()])).unwrap();
    assert_eq!(db.one::<Vec<u8>>("select r from sink where id = 70", &[]), b"after");

    let any = block_on(client.prepare("select id from t where r = any ($1)")).unwrap();
    for n in 0..8 {
        other.run(&format!("alter table t add column n{n} int"));
        let rows = block_on(client.query(&any, &[&vec![b"payload 1".to_vec()]])).unwrap();
        assert_eq!(rows.len(), 2);
    }

    // A column that becomes an rbytea after the statement was prepared is a bytea for the client before and afterwards.
    db.run("create table later (id int, c bytea); insert into later values (1, 'as it was')");
    let statement = block_on(client.prepare("select c from later where id = $1")).unwrap();
    db.run("prepare q as select c from later");
    other.run("alter table later alter c type rbytea");
    assert_eq!(db.text("execute q"), "\\x617320697420776173");
    let rows = block_on(client.query(&statement, &[&1])).unwrap();
    assert_eq!(rows[0].get::<_, Vec<u8>>(0), b"as it was");

    db.run("prepare p (int) as select r, id from t where id >= $1 order by r");
    let before = db.text("execute p (2)");
    for _ in 0..8 {
        other.run("create index x on t (id); drop index x");
        assert_eq!(db.text("execute p (2)"), before);
    }
    if cluster.installation().major >= 16 {
        let types = db.text("select result_types from pg_prepared_statements where name = 'p'");
        assert_eq!(types, "{bytea,integer}");
    }
}

#[test]
fn the_server_s_own_objects_keep_the_type() {
    let (_cluster, db) = cluster_with(&[]);
    db.run(
        "create view v as select r, id from t; create materialized view m as select distinct r from t; create table c as select r, a from t;
         select r into into_c from t; create rule x as on insert to c do also select r from t;
         create function body() returns setof rbytea language sql begin atomic select r from t; end",
    );
    assert_eq!(
        db.text("select attrelid::regclass, attname, atttypid::regtype from pg_attribute where attrelid = any ('{v,m,c,into_c}'::regclass[]) and attnum > 0 and atttypid <> 'int'::regtype order by 1, 2"),
        "v|r|rbytea\nm|r|rbytea\nc|a|rbytea[]\nc|r|rbytea\ninto_c|r|rbytea"
    );
    assert_eq!(
        db.text("select pg_typeof(r), pg_typeof(d), pg_typeof(a) from t limit 1"),
        "rbytea|document|rbytea[]"
    );
    assert_eq!(db.one::<Vec<u8>>("select find(3)", &[]), b"payload 3");
    assert_eq!(db.copy_out("copy (select r from t where id = 1) to stdout"), b"\\\\x7061796c6f61642031\n");
    let view = db.text("select pg_get_viewdef('v')");
    assert!(!view.contains("client"), "a view shows what clients get: {view}");
    db.run("begin; declare c cursor for select r from t order by r; declare d scroll cursor with hold for select distinct r from t order by 1");
    assert_eq!(described(&db, "fetch all from c").1[0], Type::BYTEA);
    assert_eq!(db.text("fetch all from c"), db.text("select b from t order by b"));
    db.run("commit");
    assert_eq!(db.text("fetch all from d"), db.text("select distinct b from t order by b"));
    assert!(db.text("explain (verbose) select r from t").contains("rbytea_to_client"));
}

#[test]
fn whoever_wants_the_type_itself_gets_it() {
    let (cluster, db) = cluster_with(&[]);
    db.run("set rbytea.client_type = rbytea");
    assert_eq!(described(&db, "select r from t").1[0].name(), "rbytea");
    assert_eq!(described(&db, "insert into sink values (1, $1) returning r").0[0].name(), "rbytea");
    db.run("reset rbytea.client_type");
    assert_eq!(described(&db, "select r from t").1[0], Type::BYTEA);

    db.run("create database empty");
    let empty = cluster.session_in("empty");
    empty.run("create domain rbytea as bytea; create table t (r rbytea)");
    assert_eq!(
        described(&empty, "select r from t").1[0],
        Type::BYTEA,
        "a domain over bytea is its own base type on the wire"
    );
    empty.run("drop domain rbytea cascade; create type rbytea as (n int); create table u (r rbytea)");
    assert_eq!(described(&empty, "select r from u").1[0].name(), "rbytea", "somebody else's type");
    empty.run("drop type rbytea cascade; create extension rbytea; create table w (r rbytea)");
    assert_eq!(described(&empty, "select r from w").1[0], Type::BYTEA);
    empty.run("drop extension rbytea cascade");
    assert_eq!(empty.text("select 1"), "1");
}

/// A table that is made of a prepared statement has the type itself, whoever has prepared it.
#[test]
fn a_table_made_of_a_prepared_statement_keeps_the_type() {
    let (_cluster, db) = cluster_with(&[]);
    db.run("prepare p (int) as select r, a, d, id from t where id >= $1; prepare q as select r from t where r = $1");
    let described = db.text("execute p (5)");
    for (n, create) in [
        "create table {} as execute p (5)",
        "create table {} (x, y, z, w) as execute p (2 + 3)",
        "create temp table {} as execute p (5)",
        "explain analyze create table {} as execute p (5)",
        "explain (analyze, costs off) create table {} as execute p (5)",
        "do 'begin create table {} as execute p (5); end'",
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("made_{n}");
        db.run(&create.replace("{}", &table));
        assert_eq!(
            db.text(&format!("select string_agg(atttypid::regtype::text, ' ' order by attnum) from pg_attribute where attrelid = '{table}'::regclass and attnum > 0")),
            "rbytea rbytea[] document integer",
            "{create}"
        );
        assert_eq!(db.one::<i64>(&format!("select count(*) from {table}"), &[]), 2, "{create}");
        assert_eq!(db.text("execute p (5)"), described);
    }
    db.run("create table of_parameter as execute q ('payload 1')");
    assert_eq!(db.text("select pg_typeof(r), count(*) from of_parameter group by 1"), "rbytea|2");
    assert_eq!(
        db.sqlstate("create table of_parameter as execute p (1)").code(),
        "42P07",
        "an error leaves nothing"
    );
    assert_eq!(db.sqlstate("create table x as execute p ('x')").code(), "22P02");
    assert_eq!(db.sqlstate("create table x as execute nothing").code(), "26000");
    assert_eq!(db.text("select count(*) from pg_prepared_statements"), "2");
    db.run("create table x as execute p (5)");
    let statement = block_on(db.client().prepare_typed("select r from t where id = 1", &[])).unwrap();
    let name: String = db.one(
        "select name from pg_prepared_statements where statement like 'select r from t where id = 1'",
        &[],
    );
    db.run(&format!("create table y as execute {name}"));
    assert_eq!(db.text("select pg_typeof(r) from y"), "rbytea");
    drop(statement);
}

/// What functions do is theirs, also if its text is that of a statement that the client has prepared.
#[test]
fn functions_keep_the_type_whatever_the_client_has_prepared() {
    let (_cluster, db) = cluster_with(&[]);
    let client = db.client();
    const TEXT: &str = "select r from t where id = 3";
    let prepared = block_on(client.prepare(TEXT)).unwrap();
    db.run(&format!(
        "create function found() returns setof rbytea language plpgsql as $$ begin return query execute '{TEXT}'; end $$;
         create function plain() returns setof rbytea language sql as '{TEXT}';
         create function make() returns int language plpgsql as $$ begin execute 'create table made as execute p'; return 1; end $$;
         create table deferred (id int);
         create function late() returns trigger language plpgsql as
             $$ begin insert into sink select 5, r from (select found() as r) x; return null; end $$;
         create constraint trigger late after insert on deferred initially deferred for each row execute function late();
         prepare p as {TEXT}; prepare counted as select count(*) from found(); prepare made_it as select make();
         prepare referred as select uuid(x) is not null from plain() x where random() >= 0",
    ));
    for _ in 0..2 {
        assert_eq!(db.text("execute counted"), "1");
        assert_eq!(db.text("execute referred"), "t", "the reference was lost");
        db.run("execute made_it");
        assert_eq!(db.text("select pg_typeof(r) from made"), "rbytea");
        db.run("drop table made; discard plans");
        // A transaction of its own, which commits when no text is known.
        let insert = block_on(client.prepare("insert into deferred values ($1)")).unwrap();
        block_on(client.execute(&insert, &[&1])).unwrap();
        block_on(client.query(&prepared, &[])).unwrap()[0].get::<_, Vec<u8>>(0);
    }
    assert_eq!(db.text("select count(*), count(uuid(r)) from sink where id = 5"), "2|2");
    assert_eq!(db.text("select count(distinct uuid(r)) from (select r from sink where id = 5 union all select r from t where id = 3) x"), "1");
}

/// PREPARE may come in either protocol, and statements may have any name.
#[test]
fn statements_that_are_prepared_in_sql_are_presented() {
    let (_cluster, db) = cluster_with(&[]);
    db.rows("prepare extended as select r from t where id = 2", &[]);
    assert_eq!(described(&db, "execute extended").1[0], Type::BYTEA);
    assert_eq!(db.one::<Vec<u8>>("execute extended", &[]), b"payload 2");
    db.run("prepare \"rbytea: CREATE TABLE AS 0\" as select 1; create table x as execute extended");
    assert_eq!(db.text("select pg_typeof(r) from x"), "rbytea");
    assert_eq!(db.text("execute \"rbytea: CREATE TABLE AS 0\""), "1");
    db.run("prepare one (int) as select r from t where id = $1");
    let wrong = db.error("create table y as execute one (1, 2)");
    assert!(wrong.message().contains("\"one\""), "{wrong:?}");
    db.run("create table ignored as execute extended (1)");
    assert_eq!(db.text("select pg_typeof(r) from ignored"), "rbytea");
    db.run(
        "create function nested() returns int language plpgsql as $$ begin execute 'create table inside as execute extended'; return 1; end $$;
         prepare outside as select r, nested() as n from t where id = 2; create table around as execute outside",
    );
    assert_eq!(
        db.text("select pg_typeof(r) from inside union all select pg_typeof(r) from around"),
        "rbytea\nrbytea"
    );
}

#[test]
fn domains_are_bytea_too() {
    let (_cluster, db) = cluster_with(&[]);
    db.run("create table d (id int, d document, ds document[])");
    let bytes = b"\\101".to_vec();
    for sql in [
        "insert into d (d) values ($1)",
        "update d set d = $1",
        "select id from d where d = $1",
        "select $1::document",
    ] {
        assert_eq!(described(&db, sql).0[0], Type::BYTEA, "{sql}");
    }
    db.execute("insert into d (d, ds) values ($1, array['x'::document])", &[&bytes]);
    assert_eq!(db.one::<Vec<u8>>("select d from d where d = $1", &[&bytes]), bytes);
    assert_eq!(db.one::<Vec<Vec<u8>>>("select ds from d", &[]), [b"x"]);
    db.run("create domain small as rbytea check (len(value) < 10); create table s (s small); insert into s values ('x')");
    assert_eq!(db.error_with("update s set s = $1", &[&vec![0_u8; 20]]).code().code(), "23514");
    // A role that may execute no function of the extension reads, as it would a bytea.
    db.run("create role reader; grant select on t to reader; revoke execute on all functions in schema public from public; set role reader");
    assert_eq!(db.one::<Vec<u8>>("select r from t where id = 1", &[]), b"payload 1");
}

/// What is sorted, grouped or made distinct are references; payloads are read for the rows that come out.
#[test]
fn sorts_carry_no_payloads() {
    let (_cluster, db) = cluster_with(&[]);
    for query in [
        "select r, id from t order by -id",
        "select r, id from t order by r",
        "select distinct r from t order by r",
        "select r, count(*) from t group by r order by r",
        "select r from t union select r from t order by 1",
        "select r, a from t order by -id limit 1",
        "select r, rank() over (order by r) from t",
    ] {
        let plan = db.text(&format!("explain (verbose, costs off) {query}"));
        let at = ["Sort\n", "HashAggregate\n"].iter().filter_map(|node| plan.find(node)).min().unwrap();
        let (computed, sorted) = plan.split_at(at);
        assert!(computed.contains("rbytea_to_client"), "{query}: {plan}");
        assert!(!sorted.contains("rbytea_to_client"), "{query}: {plan}");
    }
}
