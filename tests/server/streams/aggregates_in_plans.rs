//! rbytea_agg() wherever a plan may put it: executed many times, read again without being computed again, beside itself, and in what stores.

use super::client::{Uploads, live, open_files};
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

/// Pieces of three groups, of which the first stays in memory.
fn with_pieces() -> (Cluster, Session) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table pieces as
             select k, n, payload(k * 100 + n, k * 40000) p from generate_series(1, 3) k, generate_series(1, 5) n;
         create table expected as
             select k, encode(sha256(string_agg(p, ''::bytea order by n)), 'hex') as digest from pieces group by k;
         analyze",
    );
    (cluster, db)
}

#[test]
fn a_subquery_that_is_executed_many_times_has_the_right_bytes_each_time() {
    let (cluster, db) = with_pieces();
    let wrong = db.text(
        "select count(*) from generate_series(1, 30) i, expected e
          where (select sha256sum(rbytea_agg(p order by n)) from pieces where k = e.k and i > 0) <> digest",
    );
    assert_eq!(wrong, "0");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    let lateral = db.text(
        "select count(*) from generate_series(1, 10) i, expected e,
             lateral (select rbytea_agg(p order by n) r from pieces where k = e.k and i > 0 offset 0) s
          where sha256sum(r) <> digest",
    );
    assert_eq!(lateral, "0");
    // A scan that is given up before its end is begun again.
    let given_up = db.text(
        "select count(*) from generate_series(1, 10) i
          where exists (select rbytea_agg(p) from pieces where i > 0 group by k having len(rbytea_agg(p)) > 300000)",
    );
    assert_eq!(given_up, "10");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    db.run("select rvacuum()");
    assert_eq!(live(&cluster).0, 0);
}

/// PostgreSQL keeps the table of a hash aggregate, and asks each state for its result once more.
#[test]
fn a_hash_aggregate_that_is_read_again_answers_the_same() {
    let (cluster, db) = with_pieces();
    db.run("set enable_sort = off; set enable_material = off; set enable_hashjoin = off; set enable_mergejoin = off");
    let condition = "select i, (select string_agg(k || ' ' || len(r) || ' ' || (sha256sum(r) is not null), ', ' order by k)
                                  from (select k, rbytea_agg(p) as r from pieces group by k) s where len(r) > i) as found
                       from generate_series(1, 3) i";
    let plan = db.text(&format!("explain (costs off) {condition}"));
    assert!(plan.contains("HashAggregate"), "{plan}");
    let answers: Vec<String> = db.column(&format!("select found from ({condition}) s"), &[]);
    assert_eq!(answers, ["1 200000 true, 2 400000 true, 3 600000 true"; 3]);
    let join = "select e.k, s.k as of, len(s.r) from expected e, (select k, rbytea_agg(p) as r from pieces group by k) s
                 where s.k + len(s.r) > e.k order by 1, 2";
    let plan = db.text(&format!("explain (costs off) {join}"));
    assert!(plan.contains("Nested Loop") && plan.contains("HashAggregate"), "{plan}");
    let sizes: Vec<i64> = db.rows(join, &[]).iter().map(|row| row.get(2)).collect();
    assert_eq!(sizes, [200_000, 400_000, 600_000].repeat(3));
    // Stored from each time, it is one payload.
    db.run("insert into t (n, r) select e.k * 10 + s.k, s.r from expected e, (select k, rbytea_agg(p) as r from pieces group by k) s
                      where s.k + len(s.r) > e.k");
    assert_eq!(db.text("select count(*) from t where len(r) = n % 10 * 200000"), "9");
    db.assert_healthy(9);
    db.run("select rvacuum()");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

#[test]
fn several_aggregates_of_one_query_do_not_mix() {
    let (cluster, db) = with_pieces();
    db.run(
        "insert into t (n, b, r)
         select k * 10 + i, case i when 1 then b1 else b2 end, case i when 1 then r1 else r2 end
           from (select k, string_agg(p, ''::bytea order by n) b1, string_agg(p, ''::bytea order by n desc) b2,
                        rbytea_agg(p order by n) r1, rbytea_agg(p order by n desc) r2
                   from pieces group by k) s, generate_series(1, 2) i",
    );
    db.assert_stored("t", 6);
    // The same one twice is one state; grouping sets have several for each row.
    let sets = db.text(
        "select count(*) filter (where k is null), sum(len(a)), sum(len(b))
           from (select k, rbytea_agg(p order by n) a, rbytea_agg(p order by n) b from pieces group by rollup (k)) s",
    );
    assert_eq!(sets, "1|2400000|2400000");
    let mixed = db.text(
        "select count(*), sum(len(r)) from (select k, n % 2, rbytea_agg(p) r from pieces group by grouping sets ((k), (n % 2), ())) s",
    );
    assert_eq!(mixed, "6|3600000");
    db.run("select rvacuum()");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

/// What spills to disk comes back, group by group.
#[test]
fn a_hash_aggregate_that_spills_has_the_right_bytes() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table pieces as select k, payload(k, 10000) p from generate_series(1, 4) n, generate_series(1, 800) k; analyze;
         set work_mem = '1MB'; set enable_sort = off",
    );
    let plan =
        db.text("explain (analyze, costs off, timing off) select k, rbytea_agg(p) from pieces group by k");
    assert!(plan.contains("HashAggregate") && plan.contains("Disk Usage"), "{plan}");
    let wrong = db.text(
        "select count(*), count(*) filter (where sha256sum(r) <> encode(sha256(b), 'hex'))
           from (select k, rbytea_agg(p) r, string_agg(p, ''::bytea) b from pieces group by k) s",
    );
    assert_eq!(wrong, "800|0");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

/// Out of the rows of an upload's own chunks, and of what comes from elsewhere in the same statement.
#[test]
fn payloads_are_made_of_payloads() {
    let (cluster, db) = with_pieces();
    db.run(
        "insert into t (n, r) select k, rbytea_agg(p order by n) from pieces group by k;
         insert into t (n, r) select 10, rbytea_agg(chunk order by t.n, no) from t, rbytea_chunks(r, 77777);
         with made as (insert into t (n, r) select 11, rbytea_agg(chunk order by no) from t, rbytea_chunks(r) where n = 10 returning r)
         update t set r = (select r from made) where n = 1",
    );
    let whole = "select encode(sha256(string_agg(p, ''::bytea order by k, n)), 'hex') from pieces";
    assert_eq!(
        db.text(&format!("select count(*) from t where n in (1, 10, 11) and sha256sum(r) = ({whole})")),
        "3"
    );
    assert_eq!(db.rvacuum(), 1, "what row 1 had before");
    db.run("create table made as select k, rbytea_agg(p order by n) r from pieces group by k");
    assert_eq!(db.text("select count(*) from made join expected using (k) where sha256sum(r) = digest and uuid(r) is not null"), "3");
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "made")]);
}
