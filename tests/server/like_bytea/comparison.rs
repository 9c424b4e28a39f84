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

/// There is no order on purpose; a query that needs one casts to bytea.
#[test]
fn order_is_that_of_the_cast() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    for sql in [
        "select v from stored order by v",
        "select greatest(v, v) from stored",
        "create index on stored (v)",
        "select from stored where v < '\\x02'::rbytea order by v",
    ] {
        let state = db.sqlstate(sql);
        assert!(
            [SqlState::UNDEFINED_FUNCTION, SqlState::UNDEFINED_OBJECT].contains(&state),
            "{sql}: {state:?}"
        );
    }
    // bytea has had max() since 18.
    if cluster.installation().major >= 18 {
        assert_eq!(db.text("select max(v) from stored"), db.text("select max(b) from stored"));
    } else {
        assert_eq!(db.sqlstate("select max(v) from stored"), SqlState::UNDEFINED_FUNCTION);
    }
    assert_eq!(
        db.text("select string_agg(id::text, ',' order by v::bytea) from stored"),
        db.text("select string_agg(id::text, ',' order by b) from stored")
    );
    assert_eq!(
        db.text("select id from stored where v < '\\x02'::bytea"),
        db.text("select id from stored where b < '\\x02'")
    );
}
