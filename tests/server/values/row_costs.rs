//! What a payload costs where it is not: at most 80 bytes in the row and 300 bytes of WAL.

use crate::support::twin_tables::cluster;

/// Most bytes of a row that a value may take.
const ROW_BYTES: i64 = 80;
/// Most bytes of WAL that a value may add to the insertion of its row.
const WAL_BYTES: i64 = 300;

#[test]
fn a_value_costs_80_bytes_of_its_row_whatever_its_size() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create table t (b bytea, r rbytea); create table plain (n int, m int); create table with_r (n int, r rbytea, m int)");

    for len in [0, 1, 100, 2_000, 10_000, 1_000_000, 20_000_000] {
        db.run(&format!("insert into t select b, b from (select payload({len}, {len}) as b) s"));
    }
    let sizes: Vec<i32> = db.column("select pg_column_size(r) from t", &[]);
    assert_eq!(sizes.len(), 7);
    for size in sizes {
        assert!(i64::from(size) <= ROW_BYTES, "a value takes {size} bytes of its row");
    }
    let toast: i64 = db.one(
        "select count(*) from pg_class c where oid = 't'::regclass and pg_relation_size(reltoastrelid) > 30000000",
        &[],
    );
    assert_eq!(toast, 0, "a copy of the payloads of r is in the TOAST table, besides that of b");

    db.run(
        "insert into plain select n, n from generate_series(1, 5000) n;
         insert into with_r select n, '\\x01', n from generate_series(1, 5000) n",
    );
    let row = |table: &str| -> i32 { db.one(&format!("select max(pg_column_size(x)) from {table} x"), &[]) };
    let added = i64::from(row("with_r") - row("plain"));
    assert!(added <= ROW_BYTES, "a row grows by {added} bytes");
    // Rows of the heap start at multiples of 8 bytes.
    let bytes = |table: &str| -> i64 { db.one(&format!("select pg_relation_size('{table}')"), &[]) };
    let added = (bytes("with_r") - bytes("plain")) / 5_000;
    assert!(added <= ROW_BYTES + 7, "a row of the heap grows by {added} bytes");
}

/// Besides the payload itself, where that is in the WAL.
#[test]
fn a_value_adds_at_most_300_bytes_of_wal() {
    for logged in [false, true] {
        adds_at_most_300_bytes_of_wal(logged);
    }
}

fn adds_at_most_300_bytes_of_wal(logged: bool) {
    const ROWS: i64 = 1000;
    let cluster = cluster();
    cluster.set_conf(if logged { "rbytea.wal_payload_limit = -1" } else { "rbytea.wal_payload_limit = 0" });
    cluster.reload();
    let most = if logged { WAL_BYTES + 20_000 } else { WAL_BYTES };
    let db = cluster.session();
    db.run("create table plain (n int, m int); create table t (n int, m int, r rbytea)");
    let wal = |statements: &[String]| -> i64 {
        // Pages that are written for the first time after a checkpoint go to the WAL as a whole.
        db.run("truncate plain, t; checkpoint");
        db.run("insert into plain values (0, 0); insert into t values (0, 0)");
        let before: String = db.one("select pg_current_wal_insert_lsn()::text", &[]);
        for statement in statements {
            db.run(statement);
        }
        db.one("select (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::bigint", &[&before])
    };

    let series = format!("generate_series(1, {ROWS}) n");
    let at_once = wal(&[format!("insert into t select n, n, payload(n, 20000) from {series}")])
        - wal(&[format!("insert into plain select n, n from {series}")]);
    assert!(at_once <= most * ROWS, "{} bytes of WAL for each value of one statement", at_once / ROWS);

    let each = |table: &str, column: &str| -> Vec<String> {
        (1..=ROWS / 10)
            .map(|n| format!("insert into {table} values ({n}, {n}{})", column.replace('%', &n.to_string())))
            .collect()
    };
    let one_by_one = wal(&each("t", ", payload(%, 20000)")) - wal(&each("plain", ""));
    assert!(
        one_by_one <= most * ROWS / 10,
        "{} bytes of WAL for each row of its own",
        one_by_one * 10 / ROWS
    );

    let update = |table: &str, column: &str| {
        vec![
            format!("insert into {table} select n, n from {series}"),
            format!("update {table} set m = 0{column}"),
        ]
    };
    let updated = wal(&update("t", ", r = payload(n, 20000)")) - wal(&update("plain", ""));
    assert!(updated <= most * (ROWS + 1), "{} bytes of WAL for each value of an update", updated / ROWS);
}
