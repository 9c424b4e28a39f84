//! A payload is there when its transaction has committed and garbage when it has not, whatever the transaction
//! was made of; and nothing is garbage that a variable can still be stored from (I5).

use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::twin_tables::{Twins, assert_live_is, cluster, cluster_with_table};

#[test]
fn a_rolled_back_payload_goes_to_trash() {
    let cluster = cluster_with_table();
    let db = cluster.session();

    db.run("begin");
    db.fill("t", 1..=3);
    db.assert_stored("t", 3);
    db.run("rollback");
    assert_eq!(cluster.live().len(), 3, "the abort itself deletes nothing");
    assert_eq!(db.rvacuum(), 3);
    assert_eq!((cluster.live().len(), cluster.trash().len()), (0, 3));

    assert_eq!(
        db.sqlstate("insert into t select 1, payload(n), payload(n) from generate_series(1, 3) n").code(),
        "23505"
    );
    assert!(db.rvacuum() > 0, "what a failed statement wrote is garbage");
    db.run("begin; rollback and chain");
    db.fill("t", 1..=1);
    db.run("commit and chain");
    db.fill("t", 2..=2);
    db.run("rollback");
    db.assert_stored("t", 1);
    assert_eq!(db.rvacuum(), 1);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn savepoints_keep_what_is_released_and_drop_what_is_rolled_back() {
    let cluster = cluster_with_table();
    let db = cluster.session();

    db.run("begin");
    db.fill("t", 1..=1);
    db.run("savepoint a");
    db.fill("t", 2..=2);
    db.run("savepoint b");
    db.fill("t", 3..=3);
    db.run("release b; rollback to a");
    db.fill("t", 4..=4);
    db.run("savepoint c; update t set b = payload(-1), r = payload(-1) where n = 1; savepoint d");
    db.fill("t", 5..=5);
    db.run("release c; savepoint e; delete from t; rollback to e; update t set b = payload(-4), r = payload(-4) where n = 4; rollback to e");
    db.assert_stored("t", 3);
    db.run("commit");

    db.assert_stored("t", 3);
    assert_eq!(db.column::<i32>("select n from t order by n", &[]), [1, 4, 5]);
    assert_eq!(db.rvacuum(), 4, "2, 3, the first payload of 1, and the one of 4 that was rolled back");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 3);
}

#[test]
fn hundreds_of_payloads_and_subtransactions_make_one_transaction() {
    let cluster = cluster_with_table();
    let db = cluster.session();

    db.run(
        "do $$ begin
             for i in 1..600 loop
                 begin
                     insert into t values (i, payload(i, 10 * i), payload(i, 10 * i));
                     if i % 3 = 0 then raise 'no'; end if;
                 exception when raise_exception then null;
                 end;
             end loop;
         end $$",
    );
    db.assert_stored("t", 400);
    assert_eq!(db.rvacuum(), 200, "every third was rolled back");
    db.assert_stored("t", 400);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_variable_outlives_the_block_that_stored_it() {
    let cluster = cluster_with_table();
    let db = cluster.session();

    db.run(
        "do $$ declare a rbytea; c rbytea; begin
             begin
                 a := rbytea_store(payload(1));
                 insert into t values (2, payload(2), payload(2)) returning r into c;
                 raise 'no';
             exception when raise_exception then null;
             end;
             insert into t values (1, payload(1), a), (2, payload(2), c);
         end $$",
    );
    db.assert_stored("t", 2);
    assert_eq!(cluster.live().len(), 2, "the variables were references already");
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("t", 2);
}

#[test]
fn a_variable_outlives_the_transaction_that_stored_it() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create procedure store() language plpgsql as $$ declare a rbytea; c rbytea; d rbytea; begin
             a := rbytea_store(payload(1));
             insert into t values (2, payload(2), payload(2)), (3, payload(3), payload(3));
             select r into c from t where n = 2;
             select r into d from t where n = 3;
             rollback;
             insert into t values (1, payload(1), a), (2, payload(2), c);
             commit;
             insert into t values (3, payload(3), d);
             rollback;
             insert into t values (3, payload(3), d);
         end $$",
    );

    db.run("call store()");
    db.assert_stored("t", 3);
    assert_eq!(db.rvacuum(), 0, "three rows refer to the three files");
    db.assert_stored("t", 3);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_variable_is_stored_even_after_the_vacuum_has_trashed_its_file() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create procedure store(number int, bytes bytea) language plpgsql as $$ declare v rbytea; begin
             v := rbytea_store(bytes);
             rollback;
             perform pg_advisory_lock(1);
             perform pg_advisory_unlock(1);
             insert into t values (number, bytes, v);
         end $$",
    );
    let caller = cluster.session();
    let pid = caller.pid();

    for (number, lost) in [(1, false), (2, true)] {
        db.run("select pg_advisory_lock(1)");
        let call = caller.start(&format!("call store({number}, payload({number}))"));
        wait_until(PATIENCE, || db.sees_waiting(pid));
        assert_eq!(db.rvacuum(), 1, "the vacuum cannot see a procedure's variable");
        if lost {
            // As a purge much later would.
            std::fs::remove_file(&cluster.trash()[0]).unwrap();
        }
        db.run("select pg_advisory_unlock(1)");
        let result = call.finish();
        if lost {
            assert_eq!(
                result.unwrap_err().code().unwrap().code(),
                "58P01",
                "a row must not refer to a lost payload"
            );
        } else {
            result.unwrap();
        }
        db.assert_stored("t", 1);
        assert_eq!(db.rvacuum(), 0);
        assert_live_is(&cluster, &db, &[("r", "t")]);
    }
}

#[test]
fn procedures_that_commit_and_roll_back_store_what_they_commit() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create procedure fill() language plpgsql as $$ begin
             for i in 1..30 loop
                 insert into t values (i, payload(i), payload(i));
                 if i % 3 = 0 then rollback; else commit; end if;
             end loop;
         end $$",
    );

    db.run("call fill()");
    db.assert_stored("t", 20);
    assert_eq!(db.rvacuum(), 10);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn what_is_stored_on_the_way_to_the_commit_is_committed_too() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table late (n int, b bytea, r rbytea);
         create function copy_late() returns trigger language plpgsql as
             $$ begin insert into late values (new.n, payload(-new.n), payload(-new.n)); return null; end $$;
         create constraint trigger late after insert on t initially deferred
             for each row execute function copy_late()",
    );

    db.run("set rbytea.client_type = rbytea; begin");
    db.fill("t", 1..=2);
    db.run("declare c cursor with hold for select n, payload(n) as b, rbytea_store(payload(n)) as r from generate_series(5, 6) n");
    db.run("commit");
    db.assert_stored("t", 2);
    db.assert_stored("late", 2);
    assert_eq!(cluster.live().len(), 6);
    db.run(
        "do $$ declare c refcursor := 'c'; f record; begin
             for i in 1..2 loop fetch c into f; insert into late values (f.n, f.b, f.r); end loop;
         end $$",
    );
    db.assert_stored("late", 4);
    assert_eq!(db.rvacuum(), 0);
}

#[test]
fn a_deferred_constraint_that_fails_leaves_a_working_session() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table child (n int references t deferrable initially deferred, b bytea, r rbytea)");

    db.run("begin");
    db.fill("child", 1..=3);
    assert_eq!(db.sqlstate("commit").code(), "23503");
    assert_eq!(db.one::<i64>("select count(*) from child", &[]), 0);
    assert_eq!(db.rvacuum(), 3);
    db.fill("t", 1..=1);
    db.fill("child", 1..=1);
    db.assert_stored("child", 1);
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "child")]);
}

#[test]
fn a_cursor_with_hold_reads_what_has_been_deleted_and_vacuumed() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);

    db.run("begin; declare c cursor with hold for select n, b, r from t order by n; commit");
    db.run("delete from t");
    assert_eq!(db.rvacuum(), 2, "a cursor with hold has no snapshot any more");
    assert_eq!(cluster.live().len(), 0);
    let row = &db.rows("fetch c", &[])[0];
    let payload: crate::support::payload::Payload = row.get("r");
    assert_eq!(payload, row.get("b"), "the payload is read out of TRASH");
}

#[test]
fn every_isolation_level_stores_and_keeps_its_snapshot() {
    let cluster = cluster();
    let (db, other) = (cluster.session(), cluster.session());
    for level in ["read committed", "repeatable read", "serializable"] {
        db.run("create table t (n int primary key, b bytea, r rbytea)");
        db.fill("t", 1..=2);
        db.run(&format!("begin isolation level {level}; select count(*) from t"));
        other.run("delete from t where n = 2");
        other.rvacuum();
        db.fill("t", 3..=3);
        db.assert_stored("t", if level == "read committed" { 2 } else { 3 });
        db.run("commit");
        db.assert_stored("t", 2);
        assert_eq!(other.rvacuum(), i64::from(level != "read committed"), "{level}");
        assert_live_is(&cluster, &db, &[("r", "t")]);
        db.run("drop table t");
        db.rvacuum();
    }
}
