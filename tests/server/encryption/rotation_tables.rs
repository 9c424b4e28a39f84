//! rbytea_reencrypt() and all that a table can be: partitioned, inherited, indexed, wide, unlogged, with triggers, rules and
//! generated columns.

use crate::encryption::rotating::tables_to_rotate;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::encryption::{counts, modes, reload, set_keys};
use crate::support::twin_tables::{Twins, assert_live_is, names, triggers};

const FILL: &str = "select n, payload(n), payload(n) from generate_series(1, 40) n";

#[test]
fn every_partition_of_every_level() {
    let (cluster, db) = tables_to_rotate(&format!(
        "create table p (n int, b bytea, r rbytea) partition by range (n);
         create table p1 partition of p for values from (1) to (11);
         create table p2 (r rbytea, gone int, n int, b bytea); alter table p2 drop gone;
         alter table p attach partition p2 for values from (11) to (21);
         create table p3 partition of p default partition by hash (r);
         create table p31 partition of p3 for values with (modulus 2, remainder 0);
         create table p32 partition of p3 for values with (modulus 2, remainder 1);
         insert into p {FILL}"
    ));
    let placed = "select string_agg(n || ' ' || tableoid::regclass, ',' order by n) from p";
    let before: String = db.one(placed, &[]);
    db.run("call rbytea_reencrypt('p', 3)");
    assert_eq!(counts(&db), "1:0 2:40");
    assert_eq!(db.one::<String>(placed, &[]), before);
    db.assert_stored("p", 40);
    assert_eq!(db.rvacuum(), 40);
    assert_live_is(&cluster, &db, &[("r", "p")]);

    set_keys(&cluster, &[1, 2, 3]);
    reload(&cluster, &[&db]);
    db.run("call rbytea_reencrypt('p2')");
    assert_eq!(counts(&db), "1:0 2:30 3:10", "one partition alone");
    db.assert_stored("p", 40);
}

#[test]
fn a_row_that_moves_to_another_partition_meanwhile_is_not_forgotten() {
    let (cluster, db) = tables_to_rotate(
        "create table p (n int, b bytea, r rbytea) partition by range (n);
         create table p1 partition of p for values from (0) to (100); create table p2 partition of p for values from (100) to (200);
         insert into p select n, payload(n), payload(n) from generate_series(1, 5) n union all select n, payload(n), payload(n) from generate_series(101, 110) n",
    );
    let (other, call) = (cluster.session(), cluster.session());
    other.run("begin; select from p where n = 105 for update");
    let pid = call.pid();
    let running = call.start("call rbytea_reencrypt('p', 2)");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    // Into a part of the table that the call has scanned already, and to a partition that it has finished.
    db.run("update p set n = 50 where n = 109");
    other.run("commit");
    running.finish().unwrap();
    db.assert_stored("p", 15);
    assert_eq!(counts(&db), "1:0 2:15", "the call has ended, and a row is as it was");
}

#[test]
fn a_row_that_moves_away_while_it_is_waited_for() {
    let (cluster, db) = tables_to_rotate(
        "create table p (n int, b bytea, r rbytea) partition by range (n);
         create table p1 partition of p for values from (0) to (100); create table p2 partition of p for values from (100) to (200);
         insert into p select n, payload(n), payload(n) from generate_series(1, 5) n union all select n, payload(n), payload(n) from generate_series(101, 110) n",
    );
    let (other, call) = (cluster.session(), cluster.session());
    other.run("begin; update p set n = 150 where n = 3");
    let pid = call.pid();
    let running = call.start("call rbytea_reencrypt('p', 2)");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    other.run("commit");
    running.finish().unwrap();
    db.assert_stored("p", 15);
    assert_eq!(counts(&db), "1:0 2:15");
}

#[test]
fn children_of_a_parent() {
    let (cluster, db) = tables_to_rotate(&format!(
        "create table p (n int, b bytea, r rbytea); create table c1 (more rbytea) inherits (p); create table c2 () inherits (c1);
         create table q (n int); create table c3 () inherits (p, q);
         insert into p {FILL}; insert into c1 select n, b, r, b from only p; insert into c2 select n, b, b, r from only p; insert into c3 {FILL}"
    ));
    assert_eq!(counts(&db), "1:160 2:0");
    db.run("call rbytea_reencrypt('p', 9)");
    // Rows that shared a file have one each.
    assert_eq!(counts(&db), "1:0 2:240");
    db.assert_stored("p", 160);
    assert_eq!(db.text("select count(*) from c1 where more::bytea is distinct from b"), "0");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "p"), ("more", "c1")]);
    db.assert_stored("p", 160);
}

#[test]
fn indexes_find_their_rows() {
    let (_cluster, db) = tables_to_rotate(&format!(
        "create table i (n int primary key, b bytea, r rbytea);
         create index by_payload on i using hash (r); create index by_sum on i (md5sum(r)); create index by_length on i (len(r)) where len(r) > 0;
         create unique index by_file on i (uuid(r));
         insert into i {FILL}; insert into i values (41, '', ''), (42, null, null)"
    ));
    for newest in ["2", "0"] {
        if newest == "0" {
            db.run("set rbytea.qss_mode = off");
        }
        db.run("call rbytea_reencrypt('i', 11)");
        db.run("set enable_seqscan = off");
        for (index, condition) in [
            ("by_payload", "r = payload(7)::rbytea"),
            ("by_sum", "md5sum(r) = md5(payload(7))"),
            ("by_file", "uuid(r) = (select uuid(r) from i where n = 7)"),
            ("i_pkey", "n = 7"),
        ] {
            let query = format!("select n from i where {condition}");
            assert!(db.text(&format!("explain {query}")).contains(index), "the plan does not use {index}");
            assert_eq!(db.text(&query), "7", "{index}");
        }
        assert_eq!(db.text("select count(*) from i where len(r) > 0"), "40");
        db.run("reset enable_seqscan");
        db.assert_same("i", 42);
    }
    // Not every installation has the extension.
    if db.one("select exists (select from pg_available_extensions where name = 'amcheck')", &[]) {
        db.run("create extension if not exists amcheck; select bt_index_check(c.oid, true) from pg_class c join pg_index i on i.indexrelid = c.oid join pg_am a on a.oid = c.relam where i.indrelid = 'i'::regclass and amname = 'btree'");
    }
}

#[test]
fn a_generated_column_says_what_its_expression_says() {
    let (cluster, db) = tables_to_rotate(
        "create table g (n int, b bytea, r rbytea, sum text generated always as (md5sum(r)) stored,
            size bigint generated always as (len(r)) stored, twin rbytea generated always as (r) stored,
            file uuid generated always as (uuid(r)) stored, mode bigint generated always as (qss_mode(r)) stored,
            full_size bigint generated always as (len_full(r)) stored);
         insert into g (n, b, r) select n, payload(n, n), payload(n, n) from generate_series(1, 40) n",
    );
    let shared: String = "select count(*) from g where uuid(r) = uuid(twin)".into();
    let shared_before = db.text(&shared);
    db.run("call rbytea_reencrypt('g', 9)");
    assert_eq!(counts(&db).split(' ').next(), Some("1:0"));
    assert_eq!(db.text(&shared), shared_before, "a generated column has its source's file as before");
    db.assert_stored("g", 40);
    db.assert_stored("(select n, b, twin as r from g) s", 40);
    assert_eq!(
        db.text("select count(*) from g where (sum, size) is distinct from (md5(b), length(b)::bigint)"),
        "0"
    );
    db.run("set rbytea.qss_mode = off");
    db.run("call rbytea_reencrypt('g', 9)");
    assert_eq!(modes(&db, "g"), "0:40");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "g"), ("twin", "g")]);
    assert_eq!(
        db.text("select n from g where (file, mode, full_size) is distinct from (uuid(r), qss_mode(r), len_full(r)) order by n limit 3"),
        "",
        "generated columns have a former value"
    );
}

#[test]
fn wide_rows_and_everything_beside_the_payload_stay_as_they_are() {
    let (cluster, db) = tables_to_rotate(
        "create domain doc as rbytea; create type pair as (x int, r rbytea);
         create table w (n int, b bytea, gone rbytea, r rbytea, d doc, wide text, more text, late text default 'late', two rbytea, list rbytea[], one pair)
             with (toast_tuple_target = 128);
         alter table w alter wide set storage external, alter b set storage external, alter r set storage external;
         insert into w select n, payload(n), 'gone', payload(n), payload(n), repeat('wide', 3000 + n), string_agg(md5(i::text || n), ''), 'x', payload(-n), array[payload(n)::rbytea], row(n, payload(n)::rbytea)::pair
           from generate_series(1, 20) n, generate_series(1, 300) i group by n;
         alter table w drop gone; alter table w add added int default 7",
    );
    let rest = "select md5(string_agg(w::text, ',' order by n)) from w";
    let before: String = db.one(rest, &[]);
    let toasted = "select (select reltoastrelid from pg_class where oid = 'w'::regclass)::regclass::text";
    let toast: String = db.one(toasted, &[]);
    let chunks = format!("select count(distinct chunk_id) from {toast}");
    let values: i64 = db.one(&chunks, &[]);
    db.run("call rbytea_reencrypt('w', 7)");
    assert_eq!(db.one::<String>(rest, &[]), before, "a row has changed");
    assert_eq!(db.one::<i64>(&chunks, &[]), values, "out-of-line values were written once more");
    db.assert_stored("w", 20);
    db.assert_stored("(select n, b, d as r from w) s", 20);
    db.run("vacuum w");
    db.rvacuum();
    assert_eq!(db.one::<String>(rest, &[]), before);
    assert_live_is(&cluster, &db, &[("r", "w"), ("d", "w"), ("two", "w")]);
}

#[test]
fn an_unlogged_table() {
    let (cluster, db) = tables_to_rotate(&format!(
        "create unlogged table u (n int, b bytea, r rbytea); insert into u {FILL}"
    ));
    db.run("call rbytea_reencrypt('u', 9)");
    assert_eq!(counts(&db), "1:0 2:40");
    db.assert_stored("u", 40);
    assert_eq!(db.rvacuum(), 40);
    assert_live_is(&cluster, &db, &[("r", "u")]);
}

#[test]
fn no_trigger_rule_or_policy_is_applied() {
    let (cluster, db) = tables_to_rotate(&format!(
        "create table s (n int primary key, b bytea, r rbytea, changed timestamptz);
         create table log (what text);
         create function note() returns trigger language plpgsql as $$ begin insert into log values (tg_op); new.changed := now(); return new; end $$;
         insert into s {FILL};
         create trigger note before update on s for each row execute function note();
         create trigger note_after after update on s for each row execute function note();
         create trigger note_statement after update on s execute function note(); alter table s enable always trigger note;
         create rule no_updates as on update to s do instead nothing;
         alter table s enable row level security; alter table s force row level security"
    ));
    let before = names(&cluster.live());
    db.run("call rbytea_reencrypt('s', 9)");
    assert_eq!(
        db.text("select count(*), count(changed) from s, (select from log) l"),
        "0|0",
        "a trigger has fired"
    );
    assert_eq!(db.text("select count(*) from s where changed is not null"), "0");
    assert_eq!(counts(&db), "1:0 2:40");
    db.assert_stored("s", 40);
    db.rvacuum();
    assert!(names(&cluster.live()).is_disjoint(&before));
    assert_eq!(triggers(&db, "s"), 1);
}

/// No session can read another session's temporary tables; each re-encrypts its own.
#[test]
fn a_temporary_child_of_another_session_is_left_alone() {
    let (cluster, db) =
        tables_to_rotate(&format!("create table p (n int, b bytea, r rbytea); insert into p {FILL}"));
    let other = cluster.session();
    other.run("create temp table child () inherits (p); insert into child select n + 100, b, r from only p where n = 1");
    db.run("call rbytea_reencrypt('p', 9)");
    assert_eq!(db.text("select count(*) from only p where uuid(r) is not null"), "40");
    db.assert_stored("(select * from only p) s", 40);
    other.assert_same("p", 41);
    other.run("drop table child");
    assert_eq!(counts(&db), "1:0 2:40");
}

/// A check that only encrypted payloads meet is a way to enforce them.
#[test]
fn a_constraint_on_the_mode_holds_for_every_row() {
    let (_cluster, db) = tables_to_rotate(&format!(
        "create table c (n int, b bytea, r rbytea check (qss_mode(r) = 1)); insert into c {FILL}"
    ));
    db.run("set rbytea.qss_mode = off");
    let call = db.try_run("call rbytea_reencrypt('c')");
    let violations = db.text("select count(*) from c where qss_mode(r) <> 1");
    assert_eq!(violations, "0", "rows violate a constraint after a call that returned {call:?}");
    db.assert_stored("c", 40);
}

#[test]
fn a_partition_that_is_dropped_or_detached_meanwhile() {
    let (cluster, db) = tables_to_rotate(&format!(
        "create table p (n int, b bytea, r rbytea) partition by range (n);
         create table p1 partition of p for values from (1) to (11); create table p2 partition of p for values from (11) to (21);
         create table p3 partition of p default; insert into p {FILL}"
    ));
    let (other, call) = (cluster.session(), cluster.session());
    other.run("begin; select from p1 where n = 5 for update");
    let pid = call.pid();
    let running = call.start("call rbytea_reencrypt('p', 3)");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    db.run("drop table p2; truncate p3");
    other.run("commit");
    running.finish().unwrap();
    db.assert_stored("p1", 10);
    assert_eq!(counts(&db).split(' ').next(), Some("1:0"));
}
