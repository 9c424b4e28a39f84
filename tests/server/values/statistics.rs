//! ANALYZE learns how many values are NULL and how wide they are, and keeps none of them: pg_stats would show payloads,
//! and read files that are long gone.

use tokio_postgres::error::SqlState;

use crate::support::cluster::Cluster;

/// What pg_stats could know of the values of a column.
const VALUES: &str = "most_common_vals::text, most_common_freqs, histogram_bounds::text, correlation,
                      most_common_elems::text, most_common_elem_freqs, elem_count_histogram";

#[test]
fn analyze_keeps_null_fraction_and_width_and_no_value() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create domain document as rbytea; create domain contract as document;
         create table stored (n int, v rbytea, d document, dd contract, a rbytea[], b bytea);
         create temp table in_row (like stored);
         create table parent (like stored) partition by range (n);
         create table child partition of parent for values from (0) to (1000);",
    );
    for table in ["stored", "in_row", "parent"] {
        db.run(&format!(
            "insert into {table} select n, x, x, x, case when x is not null then array[x, x] end, x
             from generate_series(1, 100) n, lateral (select case when n % 4 > 0 then decode(repeat(md5((n % 5)::text), 10), 'hex') end as x) l"
        ));
    }
    db.run("create materialized view kept as select * from stored; analyze");

    let known = "select tablename, attname, null_frac, n_distinct from pg_stats
                 where tablename in ('stored', 'in_row', 'parent', 'child', 'kept') and attname = 'b'";
    assert_eq!(
        db.text(&format!("select count(*), min(null_frac), max(null_frac), count(*) filter (where n_distinct = 0) from ({known}) x")),
        "5|0.25|0.25|0",
        "ANALYZE has not seen the twins"
    );
    assert_eq!(
        db.text("select count(*) from pg_stats where attname = 'b' and most_common_vals is null and histogram_bounds is null"),
        "0",
        "of a bytea ANALYZE keeps values, so there is something to test"
    );
    assert_eq!(
        db.text(&format!(
            "select tablename, attname, inherited, {VALUES} from pg_stats where attname in ('v', 'd', 'dd', 'a')
             and (null_frac <> 0.25 or n_distinct <> 0 or num_nonnulls({VALUES}) > 0)"
        )),
        "",
        "statistics that show values, or none of NULLs"
    );
    assert_eq!(
        db.text("select count(*) from pg_stats where attname in ('v', 'd', 'dd', 'a') and tablename in ('stored', 'in_row', 'parent', 'child', 'kept')"),
        "20",
        "the planner knows nothing of a column"
    );
    assert_eq!(
        db.text(
            "select distinct avg_width between 79 and 80 from pg_stats
             where attname in ('v', 'd', 'dd') and tablename in ('stored', 'parent', 'child', 'kept')"
        ),
        "t",
        "a stored payload is as wide as a reference"
    );
    assert_eq!(
        db.text("select distinct avg_width > 100 from pg_stats where attname in ('v', 'd', 'dd') and tablename = 'in_row'"),
        "t",
        "a payload in the row is as wide as it is"
    );
    assert_eq!(
        db.text(
            "select count(*) from pg_statistic s join pg_attribute a on attrelid = starelid and attnum = staattnum
             where attname in ('v', 'd', 'dd', 'a') and num_nonnulls(stavalues1, stavalues2, stavalues3, stavalues4, stavalues5) > 0"
        ),
        "0",
        "the catalog holds values that the view does not show"
    );
}

#[test]
fn analyze_of_nothing_and_of_nulls_alone_says_so() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table t (v rbytea); analyze t");
    assert_eq!(db.text("select count(*) from pg_stats where tablename = 't'"), "0");
    db.run("insert into t select null from generate_series(1, 10); analyze t");
    assert_eq!(db.text("select null_frac, avg_width from pg_stats where tablename = 't'"), "1|0");
    db.run("delete from t; insert into t values (''); analyze t");
    assert_eq!(
        db.text("select null_frac, avg_width between 79 and 80 from pg_stats where tablename = 't'"),
        "0|t"
    );
}

/// Composite types belong to their users; where PostgreSQL keeps their values, the references inside stay good.
#[test]
fn statistics_of_composites_never_refer_to_a_lost_payload() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create table docs (v rbytea); insert into docs values ('\\x0102');
         create table rows (r docs); insert into rows select docs from docs, generate_series(1, 10);
         analyze rows; delete from docs; delete from rows",
    );
    db.run("vacuum docs");
    db.run("vacuum rows");
    db.one::<i64>("select rvacuum()", &[]);
    let shown = db.text("select most_common_vals from pg_stats where tablename = 'rows'");
    assert!(shown.is_empty() || shown.contains("0102"), "the view shows something else: {shown}");

    db.run("drop table rows");
    assert_eq!(
        db.one::<i64>("select rvacuum()", &[]),
        cluster.trash().len() as i64,
        "nothing keeps the file any more"
    );
    assert!(cluster.live().is_empty());
}

#[test]
fn extended_statistics_are_refused() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table t (n int, v rbytea)");
    for kinds in ["ndistinct", "dependencies", "mcv"] {
        let sql = format!("create statistics s ({kinds}) on n, v from t");
        assert_eq!(db.sqlstate(&sql), SqlState::FEATURE_NOT_SUPPORTED, "{kinds} would keep payloads");
    }
    db.run("create type pair as (n int, v rbytea); alter table t add column p pair, add column b bytea; create statistics bytes on n, b from t");
    for sql in [
        "create statistics s on n, p from t",
        "create statistics s on n, (coalesce(v, '')) from t",
        "create statistics s on (n + 1), (p) from t",
        "alter table t alter b type rbytea",
    ] {
        assert_eq!(db.sqlstate(sql), SqlState::FEATURE_NOT_SUPPORTED, "{sql} would keep payloads");
    }
    assert_eq!(db.text("select count(*) from pg_statistic_ext"), "1", "what was refused is there");
}
