//! What keeps the purge from deleting: snapshots, transactions, statements, slots and standbys that are older than the move to TRASH
//! and might have a reference. And what does not: those that came later.

use crate::purge::waiting::{garbage, held_by, purge, tables, trash_one};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::library::Library;
use crate::support::session::Session;
use crate::support::standby::standby_of;
use crate::support::twin_tables::Twins;

/// `hold` is older than the move and keeps the file until `release`; the same, younger than the move, does not.
#[track_caller]
fn holds(hold: &str, release: &str) {
    let (cluster, db) = tables();
    let other = cluster.session();

    garbage(&db);
    other.run(hold);
    assert_eq!(db.rvacuum(), 1);
    assert_eq!(purge(&db), 0, "deleted under: {hold}");
    db.run("select rvacuum()");
    assert_eq!(cluster.trash().len(), 1);
    assert_ne!(held_by(&db), "{}", "rbytea.rbytea_stat does not name: {hold}");
    other.run(release);
    assert_eq!(held_by(&db), "{}", "after: {release}");
    assert_eq!(purge(&db), 1, "after: {release}");

    trash_one(&db);
    other.run(hold);
    assert_eq!(held_by(&db), "{}", "{hold} is younger than the move");
    assert_eq!(purge(&db), 1, "{hold} is younger than the move");
    other.run(release);
    db.assert_stored("t", 2);
}

#[test]
fn an_old_snapshot() {
    holds("begin isolation level repeatable read; select count(*) from t", "commit");
    holds("begin isolation level serializable; select 1", "rollback");
    holds("begin; declare c cursor for select r from t; fetch c", "commit");
}

#[test]
fn an_exported_snapshot_and_its_importer() {
    let (cluster, db) = tables();
    let (exporter, importer) = (cluster.session(), cluster.session());
    exporter.run("begin isolation level repeatable read");
    let id: String = exporter.one("select pg_export_snapshot()", &[]);
    trash_one(&db);
    importer.run(&format!("begin isolation level repeatable read; set transaction snapshot '{id}'"));
    exporter.run("commit");
    assert_eq!(purge(&db), 0, "the importer is younger than the move, its snapshot is not");
    importer.run("commit");
    assert_eq!(purge(&db), 1);
}

#[test]
fn a_transaction_without_a_snapshot() {
    holds("begin; select pg_current_xact_id()", "rollback");
    // It has neither a snapshot nor a transaction id, but the vacuum cannot know whether a variable holds a reference.
    holds("begin; select count(*) from t", "commit");
}

#[test]
fn a_prepared_transaction() {
    holds(
        "begin; delete from t where n = 7; select pg_current_xact_id(); prepare transaction 'p'",
        "rollback prepared 'p'",
    );
    holds("begin; select pg_current_xact_id(); prepare transaction 'p'", "commit prepared 'p'");
}

#[test]
fn a_running_procedure_that_has_committed_since() {
    let (cluster, db) = tables();
    let (first, second, holder) = (cluster.session(), cluster.session(), cluster.session());
    db.run(
        "create procedure work(l int) language plpgsql as $$ begin
             perform pg_advisory_lock_shared(l); commit; perform pg_advisory_lock_shared(l + 1);
         end $$",
    );
    let waits = |session: &Session, lock: i32| {
        let sql =
            "select exists (select from pg_locks where pid = $1 and not granted and objid = $2::int4::oid)";
        let pid = session.pid();
        move |db: &Session| wait_until(PATIENCE, || db.one::<bool>(sql, &[&pid, &lock]))
    };
    let (first_at_10, first_at_11, second_at_20) = (waits(&first, 10), waits(&first, 11), waits(&second, 20));
    let pid = first.pid();
    holder
        .run("select pg_advisory_lock(10), pg_advisory_lock(11), pg_advisory_lock(20), pg_advisory_lock(21)");
    let running = first.start("call work(10)");
    first_at_10(&db);
    trash_one(&db);
    // From here on its snapshot and its transaction are younger than the move. The statement itself is older.
    holder.run("select pg_advisory_unlock(10)");
    first_at_11(&db);
    let later = second.start("call work(20)");
    second_at_20(&db);
    assert_eq!(purge(&db), 0, "the procedure may have a value in a variable");
    assert!(held_by(&db).contains(&format!("process {pid} ")), "{}", held_by(&db));
    holder.run("select pg_advisory_unlock(11)");
    running.finish().unwrap();
    assert_eq!(purge(&db), 1, "the other procedure began after the move");
    holder.run("select pg_advisory_unlock_all()");
    later.finish().unwrap();
}

#[test]
fn a_session_that_does_nothing_holds_nothing() {
    let (cluster, db) = tables();
    let idle = cluster.session();
    idle.assert_stored("t", 2);
    trash_one(&db);
    assert_eq!(purge(&db), 1);
    idle.assert_stored("t", 2);
}

#[test]
fn a_session_without_track_activities_holds_everything_that_was_trashed_after_its_start() {
    let (cluster, db) = tables();
    let secret = cluster.session();
    secret.run("set track_activities = off; select 1");
    trash_one(&db);
    assert_eq!(purge(&db), 0);
    assert!(held_by(&db).contains(&format!("process {} (client backend, disabled)", secret.pid())));
    drop(secret);
    wait_until(PATIENCE, || purge(&db) == 1);
}

/// pglogical's manager is in the database all the time, and says nothing of its statements.
#[test]
fn a_worker_that_waits_for_something_to_do_holds_nothing() {
    let (cluster, db) = tables();
    let library = Library::compile(cluster.installation(), include_str!("../support/worker.c"));
    db.run(&format!(
        "create function start_worker(text, boolean) returns int as '{}' language c strict",
        library.path()
    ));
    let start = |in_transaction: bool| {
        let pid: i32 = db.one("select start_worker($1, $2)", &[&library.path(), &in_transaction]);
        wait_until(PATIENCE, || {
            db.one("select exists (select from pg_stat_activity where pid = $1 and state is null and wait_event_type = 'Extension' and datid is not null)", &[&pid])
        });
        pid
    };
    start(false);
    trash_one(&db);
    assert_eq!(held_by(&db), "{}");
    assert_eq!(purge(&db), 1);
    // One that is in a transaction may have anything since it was started.
    let pid = start(true);
    trash_one(&db);
    assert_eq!(purge(&db), 0);
    assert_eq!(held_by(&db), format!("{{\"process {pid} (worker of a test)\"}}"));
    db.run(&format!("select pg_terminate_backend({pid}, 60000)"));
    assert_eq!(purge(&db), 1);
}

#[test]
fn sessions_of_other_databases_hold_nothing() {
    let (cluster, db) = tables();
    db.run("create database far");
    let far = cluster.session_in("far");
    db.run("create publication p for table t");
    db.run("select pg_create_logical_replication_slot('s', 'pgoutput')");
    db.fill("t", 5..=5);
    let payload: String = db.one("select encode(payload(5), 'hex')", &[]);
    db.run("delete from t where n = 5");
    db.run("vacuum t");
    assert_eq!(db.rvacuum(), 1);
    assert_eq!(purge(&db), 0);
    assert_eq!(held_by(&db), "{\"replication slot s (subscription, inactive)\"}");
    let changes =
        "pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p')";
    // The payload as text is in the message as \x and its hexadecimal digits.
    let sent: Vec<Vec<u8>> = db.column(&format!("select data from {changes}"), &[]);
    assert!(
        sent.iter().any(|message| message.windows(payload.len()).any(|bytes| bytes == payload.as_bytes())),
        "the row is long gone, its payload is in TRASH"
    );
    // The slot moves on when it meets what checkpoints leave in the WAL.
    wait_until(PATIENCE, || {
        db.run("checkpoint");
        db.run(&format!("select count(*) from {changes}"));
        purge(&db) == 1
    });
    db.run("select pg_drop_replication_slot('s')");

    far.run("select pg_create_logical_replication_slot('far', 'pgoutput')");
    trash_one(&db);
    assert_eq!(purge(&db), 1, "a logical slot reads rows of its own database only");
}

#[test]
fn a_standby_that_has_not_replayed_the_move() {
    let (cluster, db) = tables();
    let standby = standby_of(&cluster, &["wal_receiver_status_interval = 1s"]);
    let reader = standby.session();
    reader.assert_stored("t", 2);
    reader.run("select pg_wal_replay_pause()");
    wait_until(PATIENCE, || reader.one::<String>("select pg_get_wal_replay_pause_state()", &[]) == "paused");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 2);
    let received = "select pg_last_wal_receive_lsn() >= $1::text::pg_lsn";
    let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
    wait_until(PATIENCE, || reader.one(received, &[&now]));
    let slot = "select restart_lsn >= $1::text::pg_lsn from pg_replication_slots";
    wait_until(PATIENCE, || db.one(slot, &[&now]));
    assert_eq!(purge(&db), 0, "the standby has received the deletion, but its readers still see the rows");
    assert!(held_by(&db).contains("standby "), "{}", held_by(&db));
    reader.run("select pg_wal_replay_resume()");
    wait_until(PATIENCE, || purge(&db) == 2);
}

#[test]
fn a_standby_s_reader_by_its_feedback() {
    let (cluster, db) = tables();
    let standby = standby_of(&cluster, &["hot_standby_feedback = on", "wal_receiver_status_interval = 1s"]);
    let reader = standby.session();
    reader.run("begin isolation level repeatable read");
    reader.assert_stored("t", 2);
    let fed = "select xmin is not null from pg_replication_slots";
    wait_until(PATIENCE, || db.one::<Option<bool>>(fed, &[]) == Some(true));
    trash_one(&db);
    let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
    let replayed = "select coalesce(min(replay_lsn) >= $1::text::pg_lsn, false) from pg_stat_replication";
    wait_until(PATIENCE, || db.one(replayed, &[&now]));
    assert_eq!(purge(&db), 0, "the slot's xmin is older than the move");
    assert!(held_by(&db).contains("replication slot "), "{}", held_by(&db));
    reader.run("commit");
    wait_until(PATIENCE, || purge(&db) == 1);
}
