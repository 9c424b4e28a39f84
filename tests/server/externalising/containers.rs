//! Payloads inside of arrays and composite values, in generated columns, below the threshold and in rows so wide
//! that even the headers are toasted.

use crate::support::twin_tables::{Twins, assert_live_is, cluster, cluster_with_table, triggers};

#[test]
fn arrays_and_composites_keep_payloads_and_references() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create type doc as (n int, r rbytea);
         create table arrays (b bytea, rs rbytea[]);
         create table docs (b bytea, d doc);
         create table rows (old t)",
    );
    db.run(
        "insert into arrays select payload(n), array[payload(n), payload(n)]::rbytea[] from generate_series(1, 3) n;
         insert into docs select payload(n), row(n, payload(n))::doc from generate_series(1, 3) n",
    );
    assert_eq!(cluster.live().len(), 0, "a payload inside of another value stays where it is");
    db.assert_same("(select b, rs[2] as r from arrays) s", 3);
    db.assert_same("(select b, (d).r from docs) s", 3);

    db.fill("t", 1..=6);
    db.run(
        "insert into arrays select b, array[null, r] from t where n <= 2;
         insert into docs select b, row(n, r)::doc from t where n in (3, 4);
         insert into rows select t from t where n in (5, 6);
         truncate t",
    );
    assert_eq!(db.rvacuum(), 0, "the containers refer to the files");
    db.assert_same("(select b, rs[2] as r from arrays) s", 5);
    db.assert_same("(select b, (d).r from docs) s", 5);
    db.assert_stored("(select (old).* from rows) s", 2);

    db.run("insert into t select (old).* from rows; insert into t select (d).n, b, (d).r from docs where uuid((d).r) is null");
    db.assert_stored("t", 5);
    db.run(
        "update arrays set rs = rs[1:1]; delete from docs; truncate rows; update t set r = null, b = null",
    );
    assert_eq!(db.rvacuum(), 9);
    assert_eq!(cluster.live().len(), 0);
}

#[test]
fn generated_columns_are_computed_from_the_stored_value() {
    let cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (
             n int primary key, b bytea, r rbytea,
             sum text generated always as (md5sum(r)) stored,
             copy rbytea generated always as (r) stored,
             back bytea generated always as (r::bytea) stored);
         create table plain (n int, b bytea, r rbytea generated always as (b::rbytea) stored)",
    );
    let twins = "select count(*) from t where sum is distinct from md5(b)
                     or copy::bytea is distinct from b or back is distinct from b";

    db.fill("t", 1..=3);
    db.assert_stored("t", 3);
    assert_eq!(db.one::<i64>(twins, &[]), 0);
    assert_eq!(db.uuids("copy", "t"), db.uuids("r", "t"), "a generated copy is the same file");
    db.run("update t set b = payload(-n), r = payload(-n) where n < 3; update t set r = null, b = null where n = 1");
    assert_eq!(db.one::<i64>(twins, &[]), 0);

    db.run("insert into plain select n, payload(n) from generate_series(1, 3) n");
    db.assert_inline("plain", 3);
    assert_eq!(triggers(&db, "plain"), 0, "what is computed after the triggers cannot be stored by one");
    db.run("alter table plain alter r drop expression; insert into plain values (4, payload(4), payload(4))");
    assert_eq!(triggers(&db, "plain"), 1);
    db.run("update plain set n = n");
    db.assert_stored("plain", 4);

    db.run("alter table t alter copy drop expression; alter table t drop column r cascade, add q rbytea; alter table t rename q to r; update t set r = copy");
    db.assert_stored("t", 3);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t"), ("copy", "t"), ("r", "plain")]);
    db.assert_stored("t", 3);
}

#[test]
fn payloads_below_the_threshold_stay_in_their_rows() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("set rbytea.external_threshold = '1kB'; insert into t select n, payload(n, n), payload(n, n) from generate_series(1020, 1030) n");
    db.assert_inline("(select * from t where n < 1024) s", 4);
    db.assert_stored("(select * from t where n >= 1024) s", 7);
    db.run("create table made as select n, b, b::rbytea as r from t; create table changed as select n, b, b as r from t");
    db.run("alter table changed alter r type rbytea");
    for table in ["made", "changed"] {
        db.assert_inline(&format!("(select * from {table} where n < 1024) s"), 4);
        db.assert_stored(&format!("(select * from {table} where n >= 1024) s"), 7);
    }

    db.run("set rbytea.external_threshold = 0; update t set n = n");
    db.assert_stored("t", 11);
    db.run("set rbytea.external_threshold = '1GB'; update t set n = n");
    db.assert_stored("t", 11);
    db.run("update t set b = payload(-n, n), r = payload(-n, n)");
    db.assert_inline("t", 11);
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "made"), ("r", "changed")]);
}

#[test]
fn a_row_with_hundreds_of_payloads_reads_back() {
    const COLUMNS: i32 = 300;
    let cluster = cluster();
    let db = cluster.session();
    let each =
        |part: &str| (1..=COLUMNS).map(|n| part.replace('%', &n.to_string())).collect::<Vec<_>>().join(", ");
    db.run(&format!("create table t (id int, {})", each("r% rbytea")));

    db.run(&format!(
        "insert into t select id, {} from generate_series(1, 3) id",
        each("payload(id * 1000 + %)")
    ));
    let toast: i64 =
        db.one("select pg_relation_size(reltoastrelid) from pg_class where oid = 't'::regclass", &[]);
    assert!(toast > 0, "the test is about rows whose headers are toasted");
    let check = format!(
        "select count(*) from t where not ({})",
        (1..=COLUMNS)
            .map(|n| format!("r{n}::bytea = payload(id * 1000 + {n})"))
            .collect::<Vec<_>>()
            .join(" and ")
    );
    assert_eq!(db.one::<i64>(&check, &[]), 0, "a header has changed in the TOAST table");
    assert_eq!(cluster.live().len(), 3 * COLUMNS as usize);

    db.run("update t set id = id where id = 2; create table u as select * from t where id = 2; delete from t where id <= 2");
    assert_eq!(db.rvacuum(), i64::from(COLUMNS), "the vacuum reads toasted headers");
    assert_eq!(db.one::<i64>(&check, &[]), 0);
    assert_eq!(db.one::<i64>(&check.replace("from t", "from u"), &[]), 0);
}
