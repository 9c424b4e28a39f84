//! The purge and values that are in no table: in variables of procedures, in cursors, in other sessions' temporary
//! tables. Whoever could still store such a value finds its file (I7, I8).

use crate::cluster::{PATIENCE, wait_until};
use crate::twin_tables::{Twins, cluster_with_table};

/// Arrays have no row trigger that would bring a file back from TRASH.
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
    vacuum.run("set rbytea.stop_points = on");
    let (of_caller, of_vacuum) = (caller.pid(), vacuum.pid());
    db.run("select pg_advisory_lock(1), pg_advisory_lock(2), pg_advisory_lock(29282, 3)");

    let call = caller.start("call carry()");
    wait_until(PATIENCE, || db.sees_waiting(of_caller));
    assert_eq!(db.rvacuum(), 1, "nobody can know of the variable");
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
