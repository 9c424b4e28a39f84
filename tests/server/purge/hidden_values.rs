//! The purge and values that are in no table that the vacuum can scan: in variables of procedures, in other sessions' temporary tables. A
//! session that could still store such a value finds its file (I7, I8).

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::{Running, Session};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

#[test]
fn a_value_that_a_procedure_puts_into_an_array_during_the_mark_keeps_its_file() {
    let cluster = cluster_with_table();
    let (db, caller, vacuum) = (cluster.session(), cluster.session(), cluster.session());
    db.run(
        "create table arrays (b bytea, rs rbytea[]);
         create procedure carry() language plpgsql as $$ declare v rbytea; begin
             v := rbytea_store(payload(1));
             rollback;
             perform pg_advisory_lock_shared(1);
             commit;
             perform pg_advisory_lock_shared(2);
             insert into arrays values (payload(1), array[v]);
         end $$",
    );
    vacuum.run("set rbytea.injection_points = on");
    let (of_caller, of_vacuum) = (caller.pid(), vacuum.pid());
    db.run("select pg_advisory_lock(1), pg_advisory_lock(2), pg_advisory_lock(29282, 3)");

    let call = caller.start("call carry()");
    wait_until(PATIENCE, || db.sees_waiting(of_caller));
    assert_eq!(db.rvacuum(), 1, "the vacuum cannot see a procedure's variable");
    db.run("select pg_advisory_unlock(1)");
    let second = "select exists (select from pg_locks where pid = $1 and not granted and objid = 2)";
    wait_until(PATIENCE, || db.one::<bool>(second, &[&of_caller]));
    let purge = vacuum.start("select rvacuum_purge()");
    wait_until(PATIENCE, || db.sees_waiting(of_vacuum));
    db.run("select pg_advisory_unlock(2)");
    call.finish().unwrap();
    db.run("select pg_advisory_unlock(29282, 3)");
    purge.finish().unwrap();

    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
}

/// A procedure that has read the rows of `t` and committed, and waits for the lock 1 before it does `rest`. The rows are
/// deleted and their files in TRASH when this returns.
fn carrying(rest: &str) -> (Cluster, Session, Session, Running) {
    let cluster = cluster_with_table();
    let (db, caller) = (cluster.session(), cluster.session());
    db.run("create table arrays (b bytea, rs rbytea[]); create table copies (n int, b bytea, r rbytea)");
    db.fill("t", 1..=2);
    // Between the two locks it has neither a snapshot nor a transaction that is older than the deletion.
    db.run(&format!(
        "create procedure carry() language plpgsql as $$ declare f t[]; begin
             select array_agg(t order by n) into f from t;
             commit;
             perform pg_advisory_lock_shared(1);
             commit;
             perform pg_advisory_lock_shared(2);
             {rest}
         end $$"
    ));
    db.run("select pg_advisory_lock(1), pg_advisory_lock(2)");
    let pid = caller.pid();
    let call = caller.start("call carry()");
    let waits =
        "select exists (select from pg_locks where pid = $1 and not granted and objid = $2::int4::oid)";
    wait_until(PATIENCE, || db.one::<bool>(waits, &[&pid, &1]));
    db.run("delete from t");
    db.run("select pg_advisory_unlock(1)");
    wait_until(PATIENCE, || db.one::<bool>(waits, &[&pid, &2]));
    assert_eq!(db.rvacuum(), 2, "the vacuum cannot see a procedure's variable");
    (cluster, db, caller, call)
}

#[test]
fn what_a_procedure_holds_across_its_commits_is_there_when_it_stores_it() {
    let (cluster, db, _caller, call) = carrying(
        "insert into copies select f[1].*;
         commit;
         insert into arrays values (f[2].b, array[f[2].r]);
         rollback;
         insert into arrays values (f[2].b, array[f[2].r]);",
    );
    for _ in 0..2 {
        assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0);
    }
    db.run("select pg_advisory_unlock(2)");
    call.finish().unwrap();

    db.assert_stored("copies", 1);
    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
    assert_live_is(&cluster, &db, &[("r", "copies"), ("rs[1]", "arrays")]);
    assert_eq!(cluster.trash().len(), 0, "what is stored comes back at once");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0);
    assert!(
        db.notices().iter().all(|notice| notice.severity() != "WARNING"),
        "nothing has to be brought back"
    );
    assert_live_is(&cluster, &db, &[("r", "copies"), ("rs[1]", "arrays")]);
    db.assert_stored("copies", 1);
    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
}

#[test]
fn what_a_procedure_has_forgotten_goes_when_it_has_ended() {
    let (cluster, db, _caller, call) = carrying("null;");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0);
    db.run("select pg_advisory_unlock(2)");
    call.finish().unwrap();
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 2);
    assert!(cluster.trash().is_empty() && cluster.live().is_empty());
}

#[test]
fn another_session_s_temporary_table_is_read_out_of_trash_and_can_be_stored_from() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    db.run("create table arrays (b bytea, rs rbytea[]); create table copies (n int, b bytea, r rbytea)");
    db.fill("t", 1..=3);
    other.run("create temp table own as select * from t");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 3);
    for _ in 0..2 {
        assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0);
        other.assert_stored("own", 3);
    }
    other.run("insert into copies select * from own where n = 1; insert into arrays select b, array[r] from own where n = 2; discard temp");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 1, "the third");
    db.assert_stored("copies", 1);
    db.assert_same("(select b, rs[1] as r from arrays) s", 1);
    assert_live_is(&cluster, &db, &[("r", "copies"), ("rs[1]", "arrays")]);
}

/// An array is given a reference to a file in TRASH; a second procedure, which began after that move, reads it there.
#[test]
fn what_one_procedure_has_handed_to_another_through_an_array_is_there_when_it_is_stored() {
    let (cluster, db, _caller, call) =
        carrying("insert into arrays select f.b, array[f.r] from unnest(f) f;");
    db.run(
        "create procedure carry_on() language plpgsql as $$ declare f arrays[]; begin
             select array_agg(a) into f from arrays a;
             commit;
             perform pg_advisory_lock_shared(3);
             commit;
             perform pg_advisory_lock_shared(4);
             insert into arrays select * from unnest(f);
         end $$",
    );
    db.run("select pg_advisory_unlock(2), pg_advisory_lock(3), pg_advisory_lock(4)");
    call.finish().unwrap();
    let second = cluster.session();
    let pid = second.pid();
    let call = second.start("call carry_on()");
    let waits =
        "select exists (select from pg_locks where pid = $1 and not granted and objid = $2::int4::oid)";
    wait_until(PATIENCE, || db.one::<bool>(waits, &[&pid, &3]));
    db.run("delete from arrays");
    db.run("select pg_advisory_unlock(3)");
    wait_until(PATIENCE, || db.one::<bool>(waits, &[&pid, &4]));
    db.run("select rvacuum_purge()");
    db.run("select pg_advisory_unlock(4)");
    call.finish().unwrap();
    db.assert_same("(select b, rs[1] as r from arrays) s", 2);
}
