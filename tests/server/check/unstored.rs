//! Rows that came while a table was without its row trigger: found by rbytea_check(), stored by the background vacuum beside
//! the sessions that use the table.

use crate::check::healthy::check;
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::background::{Background, cluster_with};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::encryption::set_keys;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, triggers};

/// Takes the row trigger of a table away behind the extension's back.
fn take_trigger_away(db: &Session, table: &str) {
    db.run("alter event trigger rbytea_attach disable; alter event trigger rbytea_detach disable");
    let name: String = db
        .one(&format!("select quote_ident(tgname) from pg_trigger where tgrelid = '{table}'::regclass"), &[]);
    db.run(&format!("drop trigger {name} on {table}"));
    assert_eq!(triggers(db, table), 0);
}

fn put_event_triggers_back(db: &Session) {
    db.run(
        "alter event trigger rbytea_attach enable always; alter event trigger rbytea_detach enable always",
    );
}

/// Tables whose trigger says that rows may not be stored.
fn flagged(db: &Session) -> i64 {
    db.one(
        "select count(*) from pg_trigger where tgfoid = 'rbytea_externalize'::regproc and tgnargs > 0",
        &[],
    )
}

fn not_stored(db: &Session) -> usize {
    check(db, "").iter().filter(|finding| finding.contains("not stored")).count()
}

/// A server whose background vacuum begins when it is told.
fn waiting_cluster() -> (Cluster, Session) {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let db = cluster.session();
    (cluster, db)
}

fn begin_vacuuming(cluster: &Cluster) {
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
}

#[test]
fn payloads_that_came_without_a_trigger_are_found_and_stored() {
    let (cluster, db) = waiting_cluster();
    db.run("create table u (n int primary key, b bytea, r rbytea, s rbytea, len bigint generated always as (len(r)) stored); create index on u using hash (r)");
    db.fill("t", 1..=3);
    take_trigger_away(&db, "u");
    db.run("insert into u select n, payload(n), payload(n), case when n % 2 = 0 then payload(n) end from generate_series(1, 250) n");
    assert_eq!(cluster.live().len(), 3);
    assert_eq!(not_stored(&db), 250 + 125, "of a table without a trigger");

    put_event_triggers_back(&db);
    assert_eq!(db.one::<i64>("select rbytea_attach()", &[]), 1);
    assert_eq!((triggers(&db, "u"), flagged(&db)), (1, 1));
    assert_eq!(not_stored(&db), 375, "of a table that has its trigger back");
    // DDL keeps the note, and an UPDATE stores a row.
    db.run("alter table u add c int; update u set s = s where n <= 10");
    assert_eq!(flagged(&db), 1);
    assert_eq!(not_stored(&db), 375 - 15);

    begin_vacuuming(&cluster);
    wait_until(PATIENCE, || flagged(&db) == 0);
    db.assert_stored("u", 250);
    assert_eq!(db.one::<i64>("select count(*) from u where s is not null and uuid(s) is null", &[]), 0);
    assert_eq!(db.one::<i64>("select count(*) from u where r = payload(7)::rbytea and len = len(r)", &[]), 1);
    wait_until(PATIENCE, || check(&db, "").is_empty());
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "u"), ("s", "u")]);
    assert_eq!((triggers(&db, "u"), triggers(&db, "t")), (1, 1));
    assert!(cluster.log().contains("payloads that were in rows of table public.u"));
    proves_by_assertions(Promise::DamageIsNoticed, 250);
}

/// Smaller payloads than the threshold stay where they are, and nobody who set one for a session is overruled.
#[test]
fn what_may_be_in_its_row_stays_there() {
    let (cluster, db) = waiting_cluster();
    db.run("set rbytea.external_threshold = '1GB'; insert into t values (1, payload(1), payload(1)); reset rbytea.external_threshold");
    db.run("create table arrays (rs rbytea[]); insert into arrays values (array['inline'::rbytea]); create table tiny (n int, b bytea, r rbytea)");
    take_trigger_away(&db, "tiny");
    db.run("insert into tiny values (1, 'x', 'x'), (2, payload(2), payload(2))");
    put_event_triggers_back(&db);
    cluster.set_conf("rbytea.external_threshold = 2");
    cluster.reload();
    wait_until(PATIENCE, || db.text("show rbytea.external_threshold") == "2B");
    assert_eq!(not_stored(&db), 1);
    begin_vacuuming(&cluster);
    wait_until(PATIENCE, || triggers(&db, "tiny") == 1 && flagged(&db) == 0);
    assert_eq!(db.text("select n, uuid(r) is null from tiny order by n"), "1|t\n2|f");
    assert_eq!(db.text("select uuid(r) is null from t"), "t");
    assert_eq!(db.text("select uuid(rs[1]) is null from arrays"), "t");
}

/// A row that a session has locked is left to a later visit; nobody waits.
#[test]
fn sessions_that_use_the_table_meanwhile_are_not_disturbed() {
    let (cluster, db) = waiting_cluster();
    take_trigger_away(&db, "t");
    db.run("insert into t select n, payload(n), payload(n) from generate_series(1, 150) n");
    put_event_triggers_back(&db);
    db.run("select rbytea_attach()");
    let [changes, deletes, reads] = [(); 3].map(|()| cluster.session());
    changes.run("begin; update t set b = payload(1000), r = payload(1000) where n = 5; update t set b = b where n = 149");
    deletes.run("begin; delete from t where n = 6");
    reads.run("begin isolation level repeatable read; select count(*) from t");
    begin_vacuuming(&cluster);
    let others = "select count(*) from t where uuid(r) is null";
    wait_until(PATIENCE, || db.one::<i64>(others, &[]) == 3);
    assert_eq!(flagged(&db), 1, "three rows are missing");
    assert_eq!(reads.one::<i64>(others, &[]), 150, "an old snapshot sees the rows as they were");
    changes.run("commit");
    deletes.run("rollback");
    wait_until(PATIENCE, || flagged(&db) == 0);
    db.assert_stored("t", 150);
    assert_eq!(db.one::<i64>("select count(*) from t where n = 5 and r = payload(1000)::rbytea", &[]), 1);
    assert_eq!(reads.one::<i64>("select count(*) from t where b = r::bytea", &[]), 150);
    reads.run("commit");
    assert_eq!(check(&db, "digest => true").len(), 0);
}

/// What has been stored is committed when somebody wants the table for himself, and the rest comes at a later visit.
#[test]
fn a_batch_ends_for_a_session_that_needs_the_table() {
    // A worker that rests after each payload: a batch takes ten seconds.
    let conf =
        ["rbytea.databases_for_vacuuming = ''", "vacuum_cost_delay = '100ms'", "vacuum_cost_limit = 1"];
    let cluster = cluster_with(&conf);
    let db = cluster.session();
    take_trigger_away(&db, "t");
    db.run("insert into t select n, payload(n), payload(n) from generate_series(1, 99) n");
    put_event_triggers_back(&db);
    db.run("select rbytea_attach()");
    begin_vacuuming(&cluster);
    let storing = "select exists (select from pg_locks l join pg_stat_activity a using (pid)
                                   where relation = 't'::regclass and mode = 'RowExclusiveLock' and granted
                                     and backend_type = 'rbytea vacuum worker')";
    wait_until(PATIENCE, || db.one(storing, &[]));
    db.run("begin; lock table t");
    let stored: i64 = db.one("select count(*) from t where uuid(r) is not null", &[]);
    assert!((1..99).contains(&stored), "{stored} payloads were stored before the session got the table");
    db.run("commit");
    cluster.set_conf("vacuum_cost_delay = 0");
    cluster.reload();
    wait_until(PATIENCE, || flagged(&db) == 0);
    db.assert_stored("t", 99);
}

/// A batch that is rolled back leaves its files behind, so it has a limit in bytes, too.
#[test]
fn a_batch_of_large_payloads_is_short() {
    let (cluster, db) = waiting_cluster();
    take_trigger_away(&db, "t");
    db.run("insert into t select n, null, convert_to(repeat(n::text, 30 << 20), 'utf8') from generate_series(1, 5) n");
    put_event_triggers_back(&db);
    db.run("select rbytea_attach()");
    begin_vacuuming(&cluster);
    wait_until(PATIENCE, || flagged(&db) == 0);
    assert_eq!(
        db.text("select array_agg(n order by n) from t group by xmin::text order by 1"),
        "{1,2,3}\n{4,5}"
    );
    assert_eq!(db.text("select distinct len(r) from t where uuid(r) is not null"), (30 << 20).to_string());
}

/// What stands in the way is logged, once, and the rows stay as they are: what users have declared is not run by the worker.
#[test]
fn rows_that_cannot_be_updated_stay_complete() {
    let (cluster, db) = waiting_cluster();
    db.run(
        "create function twice(int) returns int language plpgsql immutable as 'begin return 2 * $1; end';
         create table u (n int, b bytea, r rbytea, twice int generated always as (twice(n)) stored);
         create table v (n int, b bytea, r rbytea, constraint of_users check (twice(n) > 0)); create index on v (length(b));
         create table w (n int, b bytea, r rbytea);
         create role alice; alter function twice owner to alice",
    );
    for table in ["t", "u", "v", "w"] {
        take_trigger_away(&db, table);
        db.run(&format!(
            "insert into {table} (n, b, r) select n, payload(n), payload(n) from generate_series(1, 3) n"
        ));
    }
    db.run("alter table v add constraint false_now check (uuid(r) is null and n < 2) not valid; create publication p for table w");
    put_event_triggers_back(&db);
    begin_vacuuming(&cluster);
    let in_rows =
        |table: &str| db.one::<i64>(&format!("select count(*) from {table} where uuid(r) is null"), &[]);
    wait_until(PATIENCE, || in_rows("t") == 0 && in_rows("v") == 0);
    let refusals = || cluster.log().matches("stay in their rows").count();
    wait_until(PATIENCE, || refusals() == 2);
    for table in ["u", "w"] {
        assert_eq!(
            db.text(&format!("select count(*), bool_and(b = r::bytea and uuid(r) is null) from {table}")),
            "3|t"
        );
    }
    assert_eq!(not_stored(&db), 6);
    // A later visit does not try again, until it is told to.
    db.run("alter table u alter twice drop expression; drop publication p");
    let visits =
        || cluster.log().matches("starting background worker process \"rbytea vacuum worker").count();
    let before = visits();
    wait_until(PATIENCE, || visits() > before + 1);
    assert_eq!((in_rows("u"), in_rows("w"), refusals()), (3, 3, 2));
    db.run("select rbytea_attach()");
    wait_until(PATIENCE, || flagged(&db) == 0);
    ["t", "u", "v", "w"].iter().for_each(|table| db.assert_stored(table, 3));
    assert_eq!(check(&db, "").len(), 0);
}

/// What an ordinary user owns is not called, however an index or a generated column comes to it.
#[test]
fn the_worker_runs_no_code_of_users() {
    let (cluster, db) = waiting_cluster();
    db.run(
        "create role alice; create type mood as enum ('good'); create domain word as text check (value <> '');
         create function own(int) returns int language plpgsql immutable as 'begin return $1; end';
         create function hers(int) returns int language plpgsql immutable as 'begin return $1; end';
         create function difference(int, int) returns float8 language plpgsql immutable as 'begin return $1 - $2; end';
         create function less(int, int) returns boolean language plpgsql immutable as 'begin return $1 < $2; end';
         create type her_range as range (subtype = int, subtype_diff = difference);
         create type of_her_range as (r her_range); create domain her_domain as her_range;
         create operator <<<< (function = less, leftarg = int, rightarg = int);
         alter function hers owner to alice; alter function difference owner to alice; alter function less owner to alice;
         alter extension plpgsql add function hers(int)",
    );
    let ways = [
        (
            "i1",
            false,
            "create index on i1 (own(n)); create index on i1 (lower(b::text)); create index on i1 ((n::text::word))",
        ),
        (
            "i2",
            true,
            "alter table i2 add m mood, add d word, add i int4range; create index on i2 (m, d); create index on i2 using gist (i)",
        ),
        ("i3", false, "create index on i3 (hers(n))"),
        ("i4", false, "create index on i4 (n) where hers(n) > 0"),
        ("i5", false, "alter table i5 add g int generated always as (hers(n)) stored"),
        ("i6", false, "alter table i6 add x her_range; create index on i6 using gist (x)"),
        ("i7", false, "alter table i7 add x her_domain; create index on i7 using gist (x)"),
        ("i8", false, "alter table i8 add x her_multirange; create index on i8 using gist (x)"),
        ("i9", false, "create index on i9 using gist (her_range(n, n + 1))"),
        ("i10", false, "create index on i10 ((n <<<< 1))"),
        (
            "i11",
            true,
            "create index on i11 (own(n), abs(n)); alter table i11 add g int generated always as (own(n)) stored",
        ),
    ];
    for (table, ..) in ways {
        db.run(&format!("create table {table} (n int, b bytea, r rbytea)"));
        take_trigger_away(&db, table);
        db.run(&format!("insert into {table} select n, payload(n), payload(n) from generate_series(1, 2) n"));
    }
    for (_, _, sql) in ways {
        db.run(sql);
    }
    put_event_triggers_back(&db);
    db.run("select rbytea_attach()");
    begin_vacuuming(&cluster);
    wait_until(PATIENCE, || {
        let waiting = "select count(*) from pg_trigger where tgfoid = 'rbytea_externalize'::regproc and tgargs = 'unstored\\000'::bytea";
        db.one::<i64>(waiting, &[]) == 0
    });
    for (table, stored, sql) in ways {
        let found: i64 = db.one(&format!("select count(*) from {table} where uuid(r) is not null"), &[]);
        assert_eq!(found, if stored { 2 } else { 0 }, "{sql}: {}", cluster.log());
    }
}

/// Changes to the type's own row, and to the store, say nothing of the rows.
#[test]
fn what_passes_keeps_nothing_in_its_row() {
    let (cluster, db) = waiting_cluster();
    take_trigger_away(&db, "t");
    db.run("insert into t select n, payload(n), payload(n) from generate_series(1, 3) n");
    db.run("create table u (n int, b bytea, r rbytea)");
    take_trigger_away(&db, "u");
    db.run("insert into u select n, payload(n), payload(n) from generate_series(1, 3) n");
    put_event_triggers_back(&db);
    db.run("select rbytea_attach(); create role alice; grant usage on type rbytea to alice");
    assert_eq!(not_stored(&db), 6);
    ["vacuum freeze pg_cast", "vacuum freeze u"].iter().for_each(|vacuum| db.run(vacuum));
    assert_eq!(not_stored(&db), 6);
    // A key file that is not there yet.
    cluster.set_conf("rbytea.key_file = 'keys'");
    cluster.set_conf("rbytea.qss_mode = on");
    begin_vacuuming(&cluster);
    cluster.await_log("The worker tries again at its next visit.");
    assert_eq!(not_stored(&db), 6);
    set_keys(&cluster, &[1]);
    wait_until(PATIENCE, || flagged(&db) == 0);
    ["t", "u"].iter().for_each(|table| db.assert_stored(table, 3));
}

/// A rewrite between two batches moves rows to where the pass has been.
#[test]
fn rewrites_meanwhile_lose_no_row_and_no_note() {
    let (cluster, db) = waiting_cluster();
    take_trigger_away(&db, "t");
    db.run("insert into t select n, payload(n), payload(n) from generate_series(1, 2500) n");
    put_event_triggers_back(&db);
    db.run("select rbytea_attach()");
    db.run("delete from t where n <= 1000");
    begin_vacuuming(&cluster);
    // Again and again until the worker says that it is through; most often several times, between its batches.
    loop {
        db.run("vacuum full t");
        if flagged(&db) == 0 {
            break;
        }
    }
    db.assert_stored("t", 1500);
    assert_eq!(check(&db, "").iter().filter(|finding| finding.contains("not stored")).count(), 0);
}

/// An ordinary user fills a table of his own; no event trigger is there that would store what is in it.
#[test]
fn tables_that_are_filled_below_sql_say_what_is_to_be_stored() {
    let (cluster, db) = waiting_cluster();
    db.run("create role alice login; grant create on schema public to alice");
    let alice = cluster.session_as("alice");
    alice.run("create table whole as select n, n::text::bytea as b, n::text::bytea::rbytea as r from generate_series(1, 4) n");
    db.assert_stored("whole", 4);
    assert_eq!(flagged(&db), 0);
    alice.run("explain analyze create table explained as table whole");
    db.run("alter event trigger rbytea_attach disable");
    alice.run("create table silent as select n, b, b::rbytea as r from whole");
    db.run("alter event trigger rbytea_attach enable always");
    assert_eq!(flagged(&db), 2);
    assert_eq!(not_stored(&db), 4);
    begin_vacuuming(&cluster);
    wait_until(PATIENCE, || flagged(&db) == 0);
    ["whole", "explained", "silent"].iter().for_each(|table| db.assert_stored(table, 4));
}
