//! The purge and cursors WITH HOLD, whose rows lie in the memory of a session that may be idle.

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with_table};

#[test]
fn a_cursor_with_hold_is_read_and_stored_from_however_often_the_vacuum_purges() {
    let cluster = cluster_with_table();
    let (db, holder) = (cluster.session(), cluster.session());
    db.run("create table arrays (b bytea, rs rbytea[]); create table copies (n int, b bytea, r rbytea)");
    db.fill("t", 1..=3);
    holder.run(REFERENCES);
    holder.run("begin; declare c cursor with hold for select n, b, r from t order by n; commit");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 3);
    for _ in 0..2 {
        db.run("select rvacuum_purge()");
    }
    let row = &holder.rows("fetch c", &[])[0];
    assert_eq!(row.get::<_, Payload>("r"), row.get("b"), "the cursor reads what was deleted");
    holder.run(
        "do $$ declare c refcursor := 'c'; f record; begin
             fetch c into f; insert into copies values (f.n, f.b, f.r);
             fetch c into f; insert into arrays values (f.b, array[f.r]);
         end $$; close c",
    );
    db.run("select rvacuum_purge()");
    db.assert_stored("copies", 1);
    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
}

/// Otherwise a client's cursor holds the payloads themselves.
const REFERENCES: &str = "set rbytea.client_type = rbytea";

/// The cursor `c` of a session over two rows that have been deleted since; their files are in TRASH.
fn with_cursor(declare: &str) -> (Cluster, Session, Session) {
    let cluster = cluster_with_table();
    let (db, holder) = (cluster.session(), cluster.session());
    db.fill("t", 1..=2);
    holder.run(REFERENCES);
    holder.run(&format!("begin; {declare}; commit"));
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 2);
    (cluster, db, holder)
}

#[track_caller]
fn purge(db: &Session) -> i64 {
    db.one("select rvacuum_purge()", &[])
}

const CURSOR: &str = "declare c cursor with hold for select n, b, r from t order by n";

#[test]
fn a_cursor_keeps_every_file_until_it_is_closed() {
    for close in [
        "close c",
        "close all",
        "begin; close c; commit",
        "discard all",
        "do $$ begin execute 'close c'; end $$",
    ] {
        let (_cluster, db, holder) = with_cursor(CURSOR);
        assert_eq!(purge(&db), 0);
        holder.run(close);
        assert_eq!(purge(&db), 2, "{close}");
    }
    let (_cluster, db, holder) = with_cursor(CURSOR);
    assert_eq!(purge(&db), 0);
    drop(holder);
    wait_until(PATIENCE, || purge(&db) == 2);
}

#[test]
fn a_cursor_keeps_every_file_however_it_was_declared() {
    for declare in [
        "do $$ begin execute 'declare c cursor with hold for select r from t'; end $$",
        "declare c cursor with hold for select array[r] from t",
        "declare c cursor with hold for select t from t",
        "declare c cursor with hold for select row(r) from t",
        "declare c binary scroll cursor with hold for select r from t",
        "savepoint s; declare c cursor with hold for select r from t; release s",
        "declare x cursor with hold for select 1; declare c cursor with hold for select r from t; close x",
        "select pg_advisory_lock(7); declare c cursor with hold for select r from t; select pg_advisory_unlock_all()",
    ] {
        let (_cluster, db, holder) = with_cursor(declare);
        assert_eq!(purge(&db), 0, "{declare}");
        holder.run("fetch c");
        holder.run("begin; move c; rollback; select pg_advisory_unlock_all()");
        assert_eq!(purge(&db), 0, "{declare}");
        holder.run("close c");
        assert_eq!(purge(&db), 2, "{declare}");
    }
}

#[test]
fn a_session_that_gives_up_its_advisory_locks_still_has_its_cursor() {
    let (_cluster, db, holder) = with_cursor(CURSOR);
    holder.run("begin; select pg_advisory_unlock_all()");
    purge(&db);
    let row = &holder.rows("fetch c", &[])[0];
    assert_eq!(row.get::<_, Payload>("r"), row.get("b"));
    holder.run("rollback; close c");
    assert_eq!(purge(&db), 2);
}

#[test]
fn a_cursor_that_holds_no_payload_or_does_not_exist_any_more_keeps_nothing() {
    for declare in [
        "declare c cursor with hold for select n, b from t",
        "declare c cursor for select r from t",
        "savepoint s; declare c cursor with hold for select r from t; rollback to s",
    ] {
        let (_cluster, db, _holder) = with_cursor(declare);
        assert_eq!(purge(&db), 2, "{declare}");
    }
    let (_cluster, db, holder) = with_cursor("select");
    holder.run("begin; declare c cursor with hold for select r from t; rollback; select");
    assert_eq!(purge(&db), 2);
}

/// What clients see as bytea is bytea in the cursor, too: it holds the payloads, and needs no file.
#[test]
fn a_cursor_that_holds_payloads_keeps_no_file() {
    let cluster = cluster_with_table();
    let (db, holder) = (cluster.session(), cluster.session());
    db.fill("t", 1..=4);
    holder.run("begin; declare c scroll cursor with hold for select n, b, r from t order by n; declare d cursor with hold for select b, r from t order by r; commit");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 4);
    assert_eq!(purge(&db), 4);
    assert!(cluster.live().is_empty() && cluster.trash().is_empty());
    for fetch in ["fetch all from c", "fetch backward all from c", "fetch all from d"] {
        let rows = holder.rows(fetch, &[]);
        assert_eq!(rows.len(), 4);
        for row in rows {
            assert_eq!(row.get::<_, Vec<u8>>("r"), row.get::<_, Vec<u8>>("b"), "{fetch}");
        }
    }
}
