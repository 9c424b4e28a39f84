//! Partitioned tables and inheritance: a payload is stored in whichever table the row ends up.

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster, triggers};

/// `t`, partitioned in each of the four ways, with room for the numbers 1 to 99.
const PARTITIONED: [(&str, &str); 4] = [
    (
        "range",
        "create table t (n int, b bytea, r rbytea) partition by range (n);
         create table t1 partition of t for values from (1) to (20);
         create table t2 partition of t for values from (20) to (100)",
    ),
    (
        "list, with a default partition",
        "create table t (n int, b bytea, r rbytea) partition by list (n);
         create table t1 partition of t for values in (1, 2, 3);
         create table t2 partition of t default",
    ),
    (
        "hash of the number",
        "create table t (n int, b bytea, r rbytea) partition by hash (n);
         create table t1 partition of t for values with (modulus 2, remainder 0);
         create table t2 partition of t for values with (modulus 2, remainder 1)",
    ),
    (
        "hash of the payload",
        "create table t (n int, b bytea, r rbytea) partition by hash (r);
         create table t1 partition of t for values with (modulus 2, remainder 0);
         create table t2 partition of t for values with (modulus 2, remainder 1)",
    ),
];

fn partitioned() -> (Cluster, Session) {
    let cluster = cluster();
    let db = cluster.session();
    db.run(PARTITIONED[0].1);
    (cluster, db)
}

#[test]
fn partitions_of_every_kind_store_their_rows() {
    let cluster = cluster();
    let db = cluster.session();
    for (kind, ddl) in PARTITIONED {
        db.run(ddl);
        db.fill("t", 1..=40);
        db.assert_stored("t", 40);
        for leaf in ["t1", "t2"] {
            assert!(
                db.one::<bool>(&format!("select exists (select from {leaf})"), &[]),
                "{kind}: {leaf} is empty"
            );
            assert_eq!(triggers(&db, leaf), 1, "{kind}: {leaf}");
        }
        assert_eq!(triggers(&db, "t"), 0, "a table without storage of its own needs no trigger");

        // A payload of its own for a row that is written to the partition by name, or that must move for it.
        let seed: i32 = db.one("select n from t1 order by n limit 1", &[]);
        db.run(&format!(
            "delete from t1 where n = {seed}; insert into t1 values ({seed}, payload({seed}), payload({seed}))"
        ));
        db.run("update t set b = payload(-n), r = payload(-n)");
        db.assert_stored("t", 40);
        db.run("drop table t");
        db.rvacuum();
        assert_eq!(cluster.live().len(), 0, "{kind}: files without rows");
    }
}

#[test]
fn partitions_hashed_by_payload_keep_to_their_bound() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(PARTITIONED[3].1);
    db.fill("t", 1..=50);

    db.run(
        "alter table t detach partition t1; alter table t detach partition t2;
         alter table t attach partition t1 for values with (modulus 2, remainder 0);
         alter table t attach partition t2 for values with (modulus 2, remainder 1)",
    );
    db.assert_stored("t", 50);
    let found: i64 = db.one("select count(*) from t where r = payload(7)::rbytea", &[]);
    assert_eq!(found, 1, "the planner looks in the wrong partition");
    let swapped = "alter table t detach partition t1; alter table t detach partition t2;
                   alter table t attach partition t1 for values with (modulus 2, remainder 1)";
    assert_eq!(db.sqlstate(swapped).code(), "23514", "rows of one partition are taken for the other's");
}

#[test]
fn a_row_that_moves_to_another_partition_takes_its_file_along() {
    let (cluster, db) = partitioned();
    db.fill("t", 1..=10);
    let before = db.uuids("r", "t");

    db.run("update t set n = n + 50");
    db.assert_stored("t2", 10);
    assert_eq!(db.uuids("r", "t2"), before, "moving a row has written its payload again");
    db.run("update t set n = n - 50, b = payload(-n), r = payload(-n) where n > 55");
    db.assert_stored("t1", 5);
    db.assert_stored("t2", 5);
    assert_eq!(db.rvacuum(), 5, "the replaced payloads");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 10);
}

#[test]
fn partitions_that_come_and_go_go_on_storing() {
    let (cluster, db) = partitioned();
    db.fill("t", 1..=30);

    db.run("alter table t detach partition t2");
    db.fill("t2", 31..=35);
    db.assert_stored("t2", 16);
    db.run(
        "create table t3 (like t); create table older (b bytea, dropped int, r rbytea, n int);
         alter table older drop column dropped",
    );
    db.fill("t3", 101..=105);
    db.fill("older", -5..=0);
    db.run(
        "alter table t attach partition t2 for values from (20) to (100);
         alter table t attach partition t3 for values from (100) to (200);
         alter table t attach partition older for values from (-100) to (1);
         create table t4 partition of t for values from (200) to (300);
         create table rest partition of t default",
    );
    db.run("insert into t select n, payload(n), payload(n) from generate_series(-20, 400, 20) n");
    db.assert_stored("t", 30 + 5 + 5 + 6 + 22);
    for leaf in ["t1", "t2", "t3", "t4", "older", "rest"] {
        assert_eq!(triggers(&db, leaf), 1, "{leaf}");
    }

    db.run("alter table t detach partition rest; drop table t3");
    db.run("alter table t detach partition t4 concurrently");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "t4"), ("r", "rest")]);
    for table in ["t", "t4", "rest"] {
        db.assert_stored(table, db.one(&format!("select count(*) from {table}"), &[]));
    }
}

#[test]
fn partitions_of_partitions_store() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int, kind text default 'x', b bytea, r rbytea) partition by range (n);
         create table low partition of t for values from (0) to (100) partition by list (kind);
         create table low_x partition of low for values in ('x') partition by hash (r);
         create table low_x0 partition of low_x for values with (modulus 2, remainder 0);
         create table low_x1 partition of low_x for values with (modulus 2, remainder 1);
         create table low_y partition of low default;
         create table high (n int, kind text, b bytea, r rbytea) partition by range (n);
         create table high_1 partition of high for values from (100) to (200);
         alter table t attach partition high for values from (100) to (300);
         create table high_2 partition of high for values from (200) to (300)",
    );

    db.run(
        "insert into t select n, case n % 3 when 0 then 'y' else 'x' end, payload(n), payload(n)
           from generate_series(0, 290, 10) n",
    );
    db.assert_stored("t", 30);
    let before = db.uuids("r", "t");
    db.run("update t set n = 299 - n, kind = case kind when 'x' then 'y' else 'x' end");
    db.assert_stored("t", 30);
    assert_eq!(db.uuids("r", "t"), before);
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn columns_of_a_partitioned_table_come_and_go_with_their_triggers() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int, b bytea) partition by range (n);
         create table t1 partition of t for values from (1) to (20);
         create table t2 partition of t for values from (20) to (100) partition by list (n);
         create table t21 partition of t2 default;
         insert into t select n, payload(n) from generate_series(1, 30) n",
    );

    db.run("alter table t add column r rbytea");
    db.run("update t set r = b");
    db.assert_stored("t", 30);
    db.run("alter table t drop column r");
    for table in ["t1", "t21"] {
        assert_eq!(triggers(&db, table), 0, "{table} has kept its trigger");
    }
    db.run("alter table t add column r rbytea default payload((random() * 0)::int)");
    db.run("update t set b = payload(0)");
    db.assert_stored("t", 30);
    db.run("alter table t drop column r; alter table t add column r bytea; update t set b = payload(n), r = payload(n)");
    db.run("alter table t alter column r type rbytea");
    db.assert_stored("t", 30);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    assert_eq!(cluster.live().len(), 30);
}

#[test]
fn tables_that_inherit_store_too() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int, b bytea, r rbytea);
         create table child (extra text) inherits (t);
         create table grandchild (more rbytea) inherits (child);
         create table stranger (n int, b bytea, r rbytea)",
    );
    for table in ["t", "child", "grandchild", "stranger"] {
        db.fill(table, 1..=3);
    }
    db.assert_stored("t", 9);

    db.run("alter table stranger inherit t; alter table child no inherit t");
    db.assert_stored("t", 6);
    db.fill("child", 4..=5);
    db.assert_stored("child", 8);
    db.run("alter table child inherit t");

    db.run("alter table t add column second rbytea; update t set second = payload(n + 1)");
    let stored: i64 = db
        .one("select count(*) from t where second::bytea = payload(n + 1) and uuid(second) is not null", &[]);
    assert_eq!(stored, 14, "a column that a table inherits stores nothing");

    db.run("alter table t drop column second; alter table only t drop column r");
    assert_eq!(triggers(&db, "t"), 0);
    assert_eq!(triggers(&db, "child"), 1, "the column is the child's own now");
    db.assert_stored("child", 8);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "child"), ("r", "stranger")]);
}
