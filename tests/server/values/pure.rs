//! I2: a value is only stored by storing it. What merely mentions a payload writes no file and takes no
//! transaction id, and the payloads that plans, defaults and views remember outlive any rollback and vacuum.

use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

#[test]
fn mentioning_a_payload_writes_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let statements = [
        r"select '\x0102'::rbytea, rbytea '\x03', cast('\x04' as rbytea), '\x05'::bytea::rbytea",
        r"select length('\x0102'::rbytea), md5('\x01'::rbytea), '\x01'::rbytea = '\x02'::rbytea, substring('\x010203'::rbytea from 2)",
        r"values ('\x01'::rbytea), ('\x02'::rbytea)",
        r"select array['\x01'::rbytea], row('\x02'::rbytea)",
        r"explain select '\x0102'::rbytea",
        r"explain insert into t values (1, '\x01', '\x01')",
        r"explain (analyze, costs off) select '\x0102'::rbytea from generate_series(1, 100)",
        r"explain verbose update t set r = '\x01'",
        r"prepare inserting as insert into t values (1, '\x01', '\x01')",
        r"prepare parameter (rbytea) as insert into t values (1, '\x01', $1)",
        r"prepare selecting as select '\x01'::rbytea; execute selecting; deallocate selecting",
        r"explain execute inserting",
        r"explain execute parameter('\x0102')",
        r"create view v as select '\x0102'::rbytea as r",
        r"select * from v; explain select * from v",
        r"create function f() returns rbytea language sql as $$ select '\x01'::rbytea $$",
        r"create function g() returns rbytea language plpgsql as $$ declare r rbytea := '\x01'; begin return r; end $$",
        r"create function h() returns rbytea language sql return '\x01'::rbytea",
        r"create function i(r rbytea default '\x0102') returns int language sql as $$ select length(r) $$",
        r"select f(), g(), h(), i()",
        r"create table d (n int, r rbytea default '\x0102' check (r <> '\x03'))",
        r"alter table d alter r set default '\x0405'",
        r"alter table d add s rbytea default '\x0405'",
        r"create table g (n int, c boolean generated always as (length('\x01'::rbytea) > n) stored)",
        r"create index on t (md5(r)) where r <> '\x01'::rbytea",
        r"create policy p on t using (r <> '\x01')",
        r"create domain dom as rbytea default '\x01' check (value <> '\x02')",
        r"select '\x01'::dom",
        r"create rule also as on delete to t do also select '\x01'::rbytea",
        r"create function tf() returns trigger language plpgsql as $$ begin return new; end $$",
        r"create trigger tr before update on t for each row when (new.r <> '\x0102') execute function tf()",
        r"do $$ declare r rbytea := '\x01'; begin perform r; end $$",
        r"begin; declare c cursor with hold for select '\x01'::rbytea; commit; fetch c; close c",
        r"create temp table temp as select '\x01'::rbytea as r; insert into temp values ('\x02')",
        r"insert into t select n, null, null from generate_series(1, 3) n; update t set n = n; delete from t where r = '\x01'",
        r"begin read only; select '\x01'::rbytea; commit",
        r"create materialized view mv as select '\x0102'::rbytea as r",
        r"comment on column t.r is 'x'; analyze t; analyze temp",
    ];

    for statement in statements {
        db.run(statement);
        let files = cluster.store_files();
        assert!(files.is_empty(), "{statement} has written {files:?}");
    }
    db.copy_out(r"copy (select '\x0102'::rbytea, '\x0304'::rbytea from generate_series(1, 10)) to stdout (format binary)");
    assert!(cluster.store_files().is_empty());
}

#[test]
fn reading_takes_no_transaction_id() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);

    db.run("begin");
    db.assert_stored("t", 3);
    db.run("select r, length(r), md5sum(r), sha256store(r), r = r from t; select '\\x01'::rbytea");
    db.run("prepare p as insert into t values (4, '', '')");
    let id: Option<String> = db.one("select pg_current_xact_id_if_assigned()::text", &[]);
    assert_eq!(id, None, "a query that only reads has become a writing transaction");
    db.run("commit");
}

#[test]
fn parallel_queries_read_payloads() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2000);
    db.run(
        "analyze t; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
         alter table t set (parallel_workers = 2)",
    );

    let query = "select count(*) from t where r::bytea = b and md5sum(r) = md5(b) and r <> '\\x01'";
    assert!(
        db.text(&format!("explain {query}")).contains("Parallel Seq Scan"),
        "the test is about parallel plans"
    );
    assert_eq!(db.one::<i64>(query, &[]), 2000);
    db.run("create table u as select n, b, r from t where r <> '\\x02'");
    db.assert_stored("u", 2000);
}

#[test]
fn literals_of_plans_defaults_and_views_survive_rollback_and_vacuum() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        r"create function add(int) returns void language plpgsql as
              $$ begin insert into t values ($1, '\x7001', '\x7001'); end $$;
          create function sql_add(int) returns void language sql as
              $$ insert into t values ($1, '\x7002', '\x7002') $$;
          create function local(int) returns void language plpgsql as
              $$ declare r constant rbytea := '\x7003'; begin insert into t values ($1, '\x7003', r); end $$;
          create view v as select '\x7004'::bytea as b, '\x7004'::rbytea as r;
          alter table t alter b set default '\x7005', alter r set default '\x7005';
          prepare add (int) as insert into t values ($1, '\x7006', '\x7006')",
    );
    let store_all = |from: i32| {
        for (at, statement) in [
            "select add(%)",
            "select sql_add(%)",
            "select local(%)",
            "insert into t select %, b, r from v",
            "insert into t values (%)",
            "execute add(%)",
        ]
        .into_iter()
        .enumerate()
        {
            db.run(&statement.replace('%', &(from + at as i32).to_string()));
        }
    };

    db.run("begin");
    store_all(1);
    db.assert_stored("t", 6);
    db.run("rollback");
    assert_eq!(db.rvacuum(), 6, "what was rolled back is garbage");
    assert_eq!(cluster.live().len(), 0);
    store_all(10);
    db.assert_stored("t", 6);
    store_all(20);
    db.run("delete from t where n < 20");
    assert_eq!(db.rvacuum(), 6);
    for file in cluster.trash() {
        std::fs::remove_file(file).unwrap();
    }
    store_all(30);
    db.assert_stored("t", 12);
    assert_live_is(&cluster, &db, &[("r", "t")]);
    assert_eq!(db.one::<i64>("select count(distinct b) from t", &[]), 6);
}
