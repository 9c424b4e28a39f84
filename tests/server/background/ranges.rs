//! What a visit of the background vacuum looks at: nothing when nothing can have changed, what is new, or everything.

use crate::support::background::{Background, Point, Watching, cluster, cluster_with, create_database};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is};

/// Rows of the history.
fn runs(db: &Session) -> i64 {
    db.one("select count(*) from rbytea.rbytea_vacuum_history", &[])
}

/// Whole sweeps among them.
fn whole_sweeps(db: &Session) -> i64 {
    db.one("select count(*) from rbytea.rbytea_vacuum_history where lower = '0' and error is null", &[])
}

/// The next transaction id of the cluster.
fn next_transaction(db: &Session) -> String {
    db.one("select pg_snapshot_xmax(pg_current_snapshot())::text", &[])
}

/// Waits until visits find nothing to do any more.
fn await_rest(cluster: &Cluster, db: &Session) {
    wait_until(PATIENCE, || {
        let before = next_transaction(db);
        cluster.await_visit("postgres");
        before == next_transaction(db)
    });
}

#[test]
fn the_first_visit_sweeps_the_whole_store() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''"]);
    let db = cluster.session();
    db.fill("t", 1..=5);
    db.run("delete from t where n <= 2");
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    wait_until(PATIENCE, || runs(&db) > 0);
    let first =
        "select origin, lower, trashed, error is null from rbytea.rbytea_vacuum_history order by id limit 1";
    assert_eq!(db.text(first), "background|0|2|t");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn an_idle_cluster_is_left_alone() {
    // It uses up transaction ids, after a minute.
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'postgres'", "autovacuum = off"]);
    let db = cluster.session();
    db.fill("t", 1..=3);
    await_rest(&cluster, &db);

    let (rows, transaction) = (runs(&db), next_transaction(&db));
    let lsn: String = db.one("select pg_current_wal_insert_lsn()::text", &[]);
    for _ in 0..3 {
        cluster.await_visit("postgres");
    }
    assert_eq!(runs(&db), rows, "visits with nothing to do fill the history");
    assert_eq!(next_transaction(&db), transaction, "visits with nothing to do use up transaction ids");
    // Checkpoints and standby snapshots write a record now and then.
    let written: bool = db.one("select pg_current_wal_insert_lsn() - $1::text::pg_lsn < 1000", &[&lsn]);
    assert!(written, "visits with nothing to do write WAL");
}

#[test]
fn two_idle_databases_do_not_keep_each_other_awake() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = 'other, postgres'", "autovacuum = off"]);
    let db = cluster.session();
    let other = create_database(&cluster, "other");
    db.fill("t", 1..=3);
    other.fill("t", 1..=3);
    await_rest(&cluster, &db);
    let rows = (runs(&db), runs(&other));
    cluster.await_visit("postgres");
    cluster.await_visit("other");
    assert_eq!((runs(&db), runs(&other)), rows);
}

#[test]
fn what_a_running_transaction_had_written_is_collected_after_it_ends() {
    let cluster = cluster();
    let (db, writer) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    await_rest(&cluster, &db);
    let rows = runs(&db);
    db.run("begin");
    db.fill("t", 3..=3);
    writer.run("begin");
    writer.fill("t", 4..=5);
    // There is a reason for a visit to sweep up to the writer, which goes on.
    db.run("commit");
    wait_until(PATIENCE, || runs(&db) > rows);
    assert_eq!(cluster.live().len(), 5);

    writer.run("rollback");
    wait_until(PATIENCE, || cluster.live().len() == 3);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_round_looks_only_at_what_is_new() {
    // A purge would be a reason to look at everything.
    let cluster = cluster_with(&["rbytea.trash_retention = -1"]);
    let db = cluster.session();
    db.fill("t", 1..=40);
    await_rest(&cluster, &db);
    let old = cluster.live().len();
    // Directories are those of 65536 transactions.
    db.run("set synchronous_commit = off; create table used (n int)");
    db.run(
        "do $$ begin
           for i in 1..70000 loop
             begin insert into used values (i); exception when division_by_zero then null; end;
           end loop;
         end $$",
    );
    db.run("drop table used");
    await_rest(&cluster, &db);
    let (rows, whole) = (runs(&db), whole_sweeps(&db));

    db.run("begin");
    db.fill("t", 100..=100);
    db.run("rollback");
    db.fill("t", 101..=101);
    wait_until(PATIENCE, || cluster.live().len() == old + 1);
    await_rest(&cluster, &db);
    assert_eq!(whole_sweeps(&db), whole, "nothing has died in a table");
    let new = "select coalesce(sum(trashed), 0), coalesce(max(directories) <= 4, false), coalesce(max(files) <= 4, false)
                 from (select * from rbytea.rbytea_vacuum_history order by id offset $1) h";
    let row = &db.rows(new, &[&rows])[0];
    assert!(row.get::<_, bool>(1), "a round has read directories of old transactions");
    assert!(row.get::<_, bool>(2), "a round has looked at old files");
    assert_live_is(&cluster, &db, &[("r", "t")]);

    let rows = runs(&db);
    db.run("select pg_current_xact_id(); create table unused (n int)");
    cluster.await_visit("postgres");
    assert_eq!(runs(&db), rows, "transactions without payloads are nothing to remember");
}

#[test]
fn whatever_may_have_deleted_a_row_makes_the_next_visit_a_whole_sweep() {
    let cluster = cluster();
    let db = cluster.session();
    db.run("create table u (n int, b bytea, r rbytea); create table v (n int, b bytea, r rbytea); create table w (r rbytea[]);
         create type pair as (n int, r rbytea); create table x (v pair); create unlogged table z (n int primary key, b bytea, r rbytea);
         create materialized view m as select 1 as n, rbytea_store('\\x02') as r; create unique index on m (n)");
    for table in ["t", "u", "v"] {
        db.fill(table, 1..=4);
    }
    db.run("insert into w select array[rbytea_store('\\x01')]; insert into x select row(1, rbytea_store('\\x03'))::pair");
    db.fill("z", 1..=2);
    let mut live = 17;
    for (statement, freed) in [
        ("delete from t where n = 1", 1),
        ("update t set b = null, r = null where n = 2", 1),
        ("alter table u drop column r", 4),
        ("truncate v", 4),
        ("drop table t", 2),
        ("drop table w", 1),
        ("refresh materialized view concurrently m", 0),
        ("refresh materialized view m", 0),
        ("alter type pair drop attribute r", 1),
        ("truncate z", 2),
    ] {
        await_rest(&cluster, &db);
        let whole = whole_sweeps(&db);
        db.run_and_tell(statement);
        live -= freed;
        // The row of history comes after the moves.
        wait_until(PATIENCE, || whole_sweeps(&db) > whole);
        wait_until(PATIENCE, || cluster.live().len() == live);
    }
}

#[test]
fn the_full_interval_brings_a_whole_sweep_although_nothing_seems_to_have_changed() {
    let cluster = cluster();
    let db = cluster.session();
    db.fill("t", 1..=3);
    await_rest(&cluster, &db);
    let file = cluster.live().remove(0);
    // Lost by a process outside of the server, so no counter of the server tells of it: only a whole sweep finds it.
    std::fs::remove_file(&file).unwrap();
    cluster.await_visit("postgres");
    assert_eq!(cluster.logged("neither in the store nor in TRASH"), 0);

    cluster.set_conf("rbytea.vacuum_full_interval = '1s'");
    cluster.reload();
    cluster.await_log("1 payloads that rows refer to are neither in the store nor in TRASH");
    wait_until(PATIENCE, || db.text("select lost from rbytea.rbytea_stat") == "1");
}

#[test]
fn what_an_old_snapshot_held_back_goes_when_that_has_ended() {
    let cluster = cluster();
    let (db, reader) = (cluster.session(), cluster.session());
    db.fill("t", 1..=4);
    reader.run("begin isolation level repeatable read; select");
    db.run_and_tell("delete from t where n <= 3");
    let held = "select recently_dead from rbytea.rbytea_stat";
    wait_until(PATIENCE, || db.text(held) == "3");
    cluster.await_visit("postgres");
    reader.assert_stored("t", 4);
    assert_eq!(cluster.live().len(), 4);

    reader.run("commit");
    wait_until(PATIENCE, || cluster.live().len() == 1);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn what_the_purge_had_to_leave_goes_when_no_session_can_refer_to_it() {
    let cluster = cluster();
    let (db, reader) = (cluster.session(), cluster.session());
    db.fill("t", 1..=4);
    reader.run("begin isolation level repeatable read; select pg_current_xact_id()");
    db.run("begin");
    db.fill("t", 5..=6);
    db.run("rollback");
    db.run_and_tell("delete from t where n = 1");
    await_rest(&cluster, &db);
    let second = cluster.session();
    second.run("begin; select pg_sleep(0)");
    reader.run("commit");
    wait_until(PATIENCE, || cluster.live().len() == 3);
    cluster.await_visit("postgres");
    assert_eq!(cluster.trash().len(), 3, "a transaction that is as old as the moves may have a reference");
    second.run("commit");
    wait_until(PATIENCE, || cluster.trash().is_empty());
    db.assert_stored("t", 3);
}

#[test]
fn a_vacuum_by_hand_and_one_in_the_background_do_not_wait_for_each_other_for_ever() {
    let cluster = cluster();
    let (db, gate) = (cluster.session(), cluster.session());
    db.fill("t", 1..=4);
    await_rest(&cluster, &db);
    gate.stop_at(Point::BeforeMoves);
    db.run("set rbytea.injection_points = on");
    db.run_and_tell("delete from t where n = 1");
    gate.await_stopped(Point::BeforeMoves);
    let pid = db.pid();
    let by_hand = db.start("select rvacuum()");
    wait_until(PATIENCE, || gate.sees_waiting(pid));
    gate.go_on(Point::BeforeMoves);
    by_hand.finish().unwrap();
    assert_eq!(cluster.live().len(), 3);

    // The other way round: the visit leaves at once, and says nothing.
    db.run("begin");
    db.rvacuum();
    let rows = runs(&gate);
    gate.run_and_tell("delete from t where n = 2");
    cluster.await_visit("postgres");
    assert_eq!(runs(&gate), rows);
    assert_eq!(cluster.logged("ERROR"), 0);
    db.run("commit");
    wait_until(PATIENCE, || cluster.live().len() == 2);
    gate.assert_stored("t", 2);
}

#[test]
fn what_died_before_a_crash_is_collected_after_it() {
    let mut cluster = cluster();
    let db = cluster.session();
    db.run("create unlogged table u (n int primary key, b bytea, r rbytea)");
    db.fill("t", 1..=4);
    db.fill("u", 1..=2);
    await_rest(&cluster, &db);
    // A whole sweep that has seen everything, before the first row dies.
    let whole = whole_sweeps(&db);
    db.run("create table another (r rbytea)");
    wait_until(PATIENCE, || whole_sweeps(&db) > whole);
    cluster.set_conf("rbytea.databases_for_vacuuming = ''");
    cluster.reload();
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    wait_until(PATIENCE, || db.worker().is_none());
    db.run_and_tell("delete from t where n = 1");
    cluster.kill9();
    cluster.start();

    let db = cluster.session();
    // The crash has reset the statistics, and with them the counts of dead rows, and has emptied the unlogged table.
    wait_until(PATIENCE, || cluster.live().len() == 3);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn trash_is_counted_again_when_its_files_were_changed_from_outside() {
    let cluster =
        cluster_with(&["rbytea.databases_for_vacuuming = 'postgres'", "rbytea.trash_retention = '1d'"]);
    let db = cluster.session();
    let in_trash = "select trash_files, trash_bytes from rbytea.rbytea_stat";
    db.fill("t", 1..=6);
    for (n, left) in [(1, "1|1000"), (2, "2|2000")] {
        db.run_and_tell(&format!("delete from t where n = {n}"));
        wait_until(PATIENCE, || db.text(in_trash) == left);
    }
    std::fs::remove_file(&cluster.trash()[0]).unwrap();
    db.run_and_tell("delete from t where n = 3");
    // As many files as before, but that is by chance.
    wait_until(PATIENCE, || cluster.trash().len() == 2);
    db.run_and_tell("delete from t where n = 4");
    wait_until(PATIENCE, || db.text(in_trash) == "3|3000");
    // What is due goes although the rest is only counted.
    cluster.set_conf("rbytea.trash_retention = 0");
    cluster.reload();
    wait_until(PATIENCE, || db.text(in_trash) == "0|0");
    assert!(cluster.trash().is_empty());
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
