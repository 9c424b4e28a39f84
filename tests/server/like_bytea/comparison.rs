//! `=` and `<>`, and what PostgreSQL does with them: joins, grouping, hash indexes, partitions.

use std::fs;

use tokio_postgres::error::SqlState;

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twins::twins;

/// That the plan has this node, so that what follows tests what it says.
#[track_caller]
fn assert_plan(db: &Session, sql: &str, node: &str) {
    let plan = db.text(&format!("explain {sql}"));
    assert!(plan.contains(node), "no {node} in:\n{plan}");
}

#[test]
fn equality_is_that_of_the_bytes_in_any_two_forms() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    assert_eq!(
        db.text(
            "select x.id, x.form, y.id, y.form from twins x, twins y
             where (x.v = y.v, x.v <> y.v, x.v = y.b, x.b <> y.v, x.v is distinct from y.v)
                is distinct from (x.b = y.b, x.b <> y.b, x.b = y.b, x.b <> y.b, x.b is distinct from y.b)"
        ),
        "",
        "these compare otherwise than their bytes"
    );
    assert_eq!(
        db.text("select count(distinct b) > 50, count(*) = 3 * count(distinct b) from twins"),
        "t|t",
        "equal bytes and unequal ones were compared"
    );
    assert_eq!(
        db.text(
            "select (v = null) is null, (null <> v) is null, v is not distinct from null from stored limit 1"
        ),
        "t|t|f"
    );
}

#[test]
fn hash_joins_and_grouping_find_what_they_find_for_bytea() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("set enable_nestloop = off; set enable_mergejoin = off; set enable_sort = off; set enable_material = off");

    let join = "select x.id, x.form, y.id, y.form from twins x join twins y on x.@ = y.@";
    assert_plan(&db, &join.replace('@', "v"), "Hash Join");
    let both = |sql: &str| [sql.replace('@', "v"), sql.replace('@', "b")];
    for sql in [
        join,
        "select y.id, count(*) from (select @ from twins group by @) x join stored y on x.@ = y.@ group by y.id",
        "select count(*) from (select distinct @ from twins) x",
        "select count(*) from (select @ from in_row union select @ from stored) x",
        "select count(*) from (select @ from in_row intersect select @ from stored where id > 9) x",
        "select count(*) from (select @ from in_row except select @ from stored where id > 9) x",
        "select id, form from twins where @ in (select @ from in_row where id % 7 = 1)",
        "select id, form from twins where @ not in (select @ from stored where id % 7 = 1)",
        "select id, form from twins where @ = any (select @ from stored where id < 5)",
        "select id, form from twins where @ in ('', '\\x02', '\\x0200')",
        "select id, form from twins where @ = any ('{\"\",\"\\\\x0200\"}')",
        "select id, form from twins where case @ when '' then true when '\\x02' then true else false end",
        "select x.id from in_row x where exists (select from stored y where y.@ = x.@ and y.id > 9)",
    ] {
        let [ours, theirs] = both(sql).map(|sql| {
            let mut lines: Vec<_> = db.text(&sql).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        });
        assert!(!theirs.is_empty(), "nothing to find: {sql}");
        assert_eq!(ours, theirs, "{sql}");
    }
    assert_plan(&db, "select v from twins group by v", "HashAggregate");
    assert_plan(&db, "select v from stored union select v from in_row", "HashAggregate");
    assert_plan(&db, "select v from stored intersect select v from in_row", "HashSetOp");
}

#[test]
fn comparing_stored_payloads_reads_no_file() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("set enable_nestloop = off; set enable_mergejoin = off");
    let hidden = cluster.dir().join("hidden");
    fs::rename(cluster.store(), &hidden).unwrap();

    let count = |sql| db.one::<i64>(sql, &[]);
    let all = count("select count(*) from stored");
    assert_eq!(count("select count(*) from stored x join stored y on x.v = y.v"), all);
    assert_eq!(count("select count(*) from in_row x join stored y on x.v = y.v"), all);
    assert_eq!(count("select count(*) from (select distinct v from stored) x"), all);
    assert_eq!(count("select count(*) from stored where v <> '\\x02'"), all - 1);
    assert!(!cluster.store().exists(), "a comparison has opened the store");
    assert!(db.try_run("select v::bytea from stored").is_err(), "the files are out of reach");
    fs::rename(hidden, cluster.store()).unwrap();
}

#[test]
fn hash_indexes_and_exclusion_constraints_work() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("create index on stored using hash (v); set enable_seqscan = off; set enable_bitmapscan = off");
    let lookup = "select s.id, s.id = r.id from in_row r, lateral (select id from stored where stored.v = r.v offset 0) s";
    assert_plan(&db, lookup, "Index Scan using stored_v_idx");
    assert_eq!(
        db.text(&format!(
            "select count(*) = (select count(*) from stored), bool_and(x) from ({lookup}) l (id, x)"
        )),
        "t|t"
    );

    db.run(
        "create table once (v rbytea, exclude using hash (v with =)); insert into once select v from in_row",
    );
    assert_eq!(
        db.sqlstate("insert into once select v from stored where id = 5"),
        SqlState::EXCLUSION_VIOLATION
    );
    assert_eq!(
        db.sqlstate("insert into once select b from stored where id = 5"),
        SqlState::EXCLUSION_VIOLATION
    );
    db.run("delete from once where v = (select v from stored where id = 5); insert into once select b from stored where id = 5");
}

#[test]
fn hash_partitions_hold_a_payload_in_every_form() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run(
        "create table parts (id int, v rbytea) partition by hash (v);
         create table part0 partition of parts for values with (modulus 3, remainder 0);
         create table part1 partition of parts for values with (modulus 3, remainder 1);
         create table part2 partition of parts for values with (modulus 3, remainder 2);
         insert into parts select id, v from twins",
    );
    assert_eq!(
        db.text("select count(*), count(distinct tableoid) from parts"),
        db.text("select count(*), 3 from twins")
    );
    assert_eq!(
        db.text("select id from parts group by id having count(distinct tableoid) <> 1 or count(*) <> 3"),
        "",
        "equal payloads lie in different partitions"
    );
    assert_plan(&db, "select from parts where v = '\\x02'", "Seq Scan on part");
    assert_eq!(
        db.text("select count(*) from parts where v = '\\x0200'"),
        "3",
        "partition pruning looks into another partition than the rows went to"
    );
    assert_eq!(
        db.text(
            "select count(*) from parts p
             where not satisfies_hash_partition('parts'::regclass, 3, right(tableoid::regclass::text, 1)::int, v)"
        ),
        "0",
        "a stored payload no longer belongs to its partition"
    );
}

/// Pairs of payloads whose comparison reads little, or that are next to each other.
const PAIRS: &str =
    "twins x, twins y where (length(x.b) < 9000 and length(y.b) < 9000 or abs(x.id - y.id) < 2)";

#[test]
fn order_is_that_of_the_bytes_in_any_two_forms() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    for (left, right) in [("v", "v"), ("v", "b"), ("b", "v")] {
        let compared = |x: &str, y: &str| {
            ["<", "<=", "=", ">=", ">", "<>"].map(|operator| format!("x.{x} {operator} y.{y}")).join(", ")
        };
        let (ours, theirs) = (compared(left, right), compared("b", "b"));
        let differing = format!(
            "select x.id, x.form, y.id, y.form from {PAIRS} and ({ours}) is distinct from ({theirs})"
        );
        assert_eq!(db.text(&differing), "", "{left} and {right} compare otherwise than their bytes");
    }
    assert_eq!(
        db.text(&format!("select bool_or(x.b < y.b), bool_or(x.b > y.b), bool_or(x.b = y.b) from {PAIRS}")),
        "t|t|t",
        "payloads of one order were compared"
    );
}

#[test]
fn what_sorts_says_what_it_says_of_bytea() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    for sql in [
        "select id from stored order by @",
        "select id, form from twins where length(b) < 9000 order by @ desc nulls first, form",
        "select string_agg(id::text, ',' order by @) from stored",
        "select count(distinct @) from twins",
        "select count(distinct @), array_agg(id order by id) from twins where length(b) < 100 group by @ order by @",
        "select id, rank() over (order by @), count(*) over (partition by length(b) order by @) from stored order by id",
        "select distinct on (@) id from twins order by @, id",
        "select id, greatest(@, '\\x02'), least(@, '\\x02') from stored where length(b) < 100 order by id",
        "select id from stored where (@, id) < ('\\x0200'::bytea, 5) order by id",
        "select id from stored where row(id, @) in (select id, @ from in_row) order by id",
        "select id from stored where @ between '\\x02' and '\\x03' order by id",
        "select id from stored where @ > all (select @ from in_row where length(b) < 10) order by id",
        "with recursive r as (select @ as x, 1 as n from stored where length(b) < 10 union select x, n % 2 + 1 from r) select * from r order by 1, 2",
        "select min(id), percentile_disc(0.5) within group (order by @) from stored where length(b) < 10",
        "select array_agg(@ order by @) < array['\\x03'::@type] from stored where length(b) < 10",
    ] {
        let [ours, theirs] = [("v", "rbytea"), ("b", "bytea")]
            .map(|(column, ty)| db.text(&sql.replace("@type", ty).replace('@', column)));
        assert!(!theirs.is_empty(), "nothing to sort: {sql}");
        assert_eq!(ours, theirs, "{sql}");
    }
    // bytea has had max() since 18.
    if cluster.installation().major >= 18 {
        assert_eq!(db.text("select max(v) from stored"), db.text("select max(b) from stored"));
    } else {
        assert_eq!(db.sqlstate("select max(v) from stored"), SqlState::UNDEFINED_FUNCTION);
    }
}

#[test]
fn the_order_does_not_make_the_planner_sort() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("analyze");
    assert_plan(&db, "select distinct v from stored", "HashAggregate");
    assert_plan(&db, "select v, count(*) from stored group by v", "HashAggregate");
    assert_plan(&db, "select v from stored union select v from in_row", "HashAggregate");
    db.run("set enable_nestloop = off");
    assert_plan(&db, "select from stored x join in_row y on x.v = y.v", "Hash Join");
    assert_plan(&db, "select from stored x join in_row y on x.v = y.b", "Hash Join");
}

#[test]
fn a_bytea_finds_a_stored_payload_by_its_digest() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("create index on stored using hash (v)");
    let payload: Vec<u8> = db.one("select b from stored where id = 5", &[]);
    let hidden = cluster.dir().join("hidden");
    fs::rename(cluster.store(), &hidden).unwrap();
    for (scan, node) in [("seqscan", "Index Scan using stored_v_idx"), ("indexscan", "Seq Scan on stored")] {
        db.run(&format!("reset all; set enable_bitmapscan = off; set enable_{scan} = off"));
        for condition in ["v = $1::bytea", "$1::bytea = v", "v = any (array[$1::bytea])"] {
            let sql = format!("select id from stored where {condition}");
            assert_eq!(db.column::<i32>(&sql, &[&payload]), [5], "{sql} by {node}");
        }
        assert_plan(&db, "select id from stored where '\\x02'::bytea = v", node);
    }
    let all: i64 = db.one("select count(*) from stored", &[]);
    db.run("reset all; set enable_nestloop = off; set enable_mergejoin = off");
    for on in ["x.v = y.b", "y.b = x.v"] {
        let join = format!("select count(*) from stored x join in_row y on {on}");
        assert_plan(&db, &join, "Hash Join");
        assert_eq!(db.one::<i64>(&join, &[]), all, "{join}");
    }
    assert_eq!(db.one::<i64>("select count(*) from stored where v <> $1::bytea", &[&payload]), all - 1);
    assert!(!cluster.store().exists(), "a comparison has opened the store");
    fs::rename(hidden, cluster.store()).unwrap();
}

#[test]
fn operators_are_found_without_a_search_path() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("create table texts (t text)");
    let sql = "select pg_typeof(v || '\\x42'), pg_typeof(v || v), v = '\\x02', v = b, b = v, v <> '\\x02', v < '\\x03', b >= v, count(*)
               from public.stored where v = '\\x02' group by v, b order by v";
    let with = db.text(sql);
    assert_eq!(with, "bytea|bytea|t|t|t|f|t|t|1");
    db.run("set search_path = ''");
    assert_eq!(db.text(sql), with);
}

#[test]
fn no_index_holds_values_however_it_is_made() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run(
        "create domain document as rbytea; create type pair as (n int, v rbytea); create type span as range (subtype = rbytea);
         create table t (id int, v rbytea, d document, a rbytea[], p pair, s span, plain pair);
         create table parted (id int, v rbytea) partition by range (id);
         create table part partition of parted for values from (0) to (10);
         create table texts (b bytea primary key, c bytea[]); create index on texts using gin (c)",
    );
    let before = "select (select count(*) from pg_class where relkind in ('i', 'I')), (select count(*) from pg_constraint)";
    let count = db.text(before);
    for sql in [
        "create index on t (v)",
        "create index on t (v desc) where id > 5",
        "create unique index on t (v)",
        "create index concurrently on t (v)",
        "create unique index concurrently on t (id, v)",
        "create index on t (d)",
        "create index on t (coalesce(v, d))",
        "alter table t add unique (v)",
        "alter table t add primary key (v)",
        "alter table t add constraint x exclude (v with =)",
        "create table u (v rbytea primary key)",
        "create table u (v document unique)",
        "create index on parted (v)",
        "create table v partition of parted (unique (v)) for values from (10) to (20)",
        "alter table texts alter b type rbytea",
        "create index on t (a)",
        "create index on t (p)",
        "create index on t (s)",
        "create index on t using gin (a)",
        "create index on t using gist (s)",
        "create index on t ((t.*))",
        "create table u (a rbytea[] unique)",
        "alter table texts alter c type rbytea[] using c::rbytea[]",
        "create schema x create table u (a rbytea[] unique)",
    ] {
        let error = db.error(sql);
        assert_eq!(*error.code(), SqlState::FEATURE_NOT_SUPPORTED, "{sql}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("hash index")), "{sql}: {error:?}");
        assert_eq!(db.text(before), count, "{sql} has left something behind");
    }
    db.run(
        "create index on t using hash (v); create index on t using hash (a); create index on t (id) include (v);
         create index on t ((v::bytea)); create unique index on t (sha256sum(v)); create index on t (len(v))",
    );
}
