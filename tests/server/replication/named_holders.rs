//! What keeps garbage for a subscription is named after it, on both of its sides.

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::standby::standby_of;
use crate::support::subscription::{Link, QUICK, far};

/// A publisher with two rows, and a subscriber with an empty table.
fn publisher_and_subscriber() -> (Cluster, Session, Session) {
    let cluster = Cluster::with_extension_and(QUICK);
    let db = cluster.session();
    let far = far(&cluster);
    for session in [&db, &far] {
        session.run("create table t (n int primary key, r rbytea); create table u (r rbytea)");
    }
    db.run(
        "create publication p for table t; insert into t select n, 'payload' from generate_series(1, 2) n",
    );
    (cluster, db, far)
}

/// Waits until a column of rbytea_stat names a holder in this form.
#[track_caller]
fn await_named(db: &Session, column: &str, pattern: &str) {
    let sql =
        format!("select exists (select from rbytea.rbytea_stat, unnest({column}) holder where holder ~ $1)");
    wait_until(PATIENCE, || db.one(&sql, &[&format!("^{pattern}$")]));
}

/// Leaves a file that no row refers to.
const GARBAGE: &str = "begin; insert into u values ('rolled back'); rollback";

/// Moves such a file to TRASH.
#[track_caller]
fn trash(db: &Session) {
    db.run(GARBAGE);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 1);
}

#[test]
fn what_a_subscription_that_is_behind_holds() {
    let (cluster, db, far) = publisher_and_subscriber();
    let link = Link::new(&cluster, (&db, &far), "s_behind", "p", "");
    link.catch_up();
    let gate = cluster.session_in("far");
    gate.run("begin; lock table t in share mode");
    db.run("insert into t values (3, 'behind')");
    let worker = r"subscription s_behind \(process \d+, logical replication [a-z ]*worker, active\)";
    await_named(&far, "held_by", worker);
    trash(&far);
    assert_eq!(far.one::<i64>("select rvacuum_purge()", &[]), 0);
    await_named(&far, "purge_held_by", worker);

    trash(&db);
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0);
    await_named(&db, "purge_held_by", r"replication slot s_behind \(subscription s_behind, process \d+\)");
    await_named(&db, "purge_held_by", r"subscription s_behind \(process \d+, walsender, active\)");

    gate.run("rollback");
    far.run("alter subscription s_behind disable");
    wait_until(PATIENCE, || db.text("select active from pg_replication_slots") == "f");
    trash(&db);
    await_named(&db, "purge_held_by", r"replication slot s_behind \(subscription, inactive\)");
    far.run("alter subscription s_behind enable");
    link.catch_up();
    link.end();
    proves_by_assertions(Promise::Replication, 5);
}

#[test]
fn what_a_subscription_has_prepared() {
    let (cluster, db, far) = publisher_and_subscriber();
    far.run(GARBAGE);
    let link = Link::new(&cluster, (&db, &far), "s_two", "p", ", two_phase = true");
    link.catch_up();
    wait_until(PATIENCE, || far.one("select subtwophasestate = 'e' from pg_subscription", &[]));
    db.run("begin; insert into t values (3, 'later'); prepare transaction 'pg_gid_x'");
    let prepared = r"prepared transaction 'pg_gid_\d+_\d+' \(subscription s_two\)";
    await_named(&far, "held_by", prepared);
    await_named(&far, "held_by", "prepared transaction 'pg_gid_x'");
    assert_eq!(far.one::<i64>("select rvacuum()", &[]), 1);
    await_named(&far, "purge_held_by", prepared);
    db.run("commit prepared 'pg_gid_x'");
    link.catch_up();
    link.end();
    proves_by_assertions(Promise::Replication, 3);
}

#[test]
fn what_the_initial_copy_of_a_subscription_holds() {
    let (cluster, db, far) = publisher_and_subscriber();
    far.run(
        "create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$;
         create trigger wait before insert on t for each row execute function wait(); alter table t enable always trigger wait",
    );
    let gate = cluster.session_in("far");
    gate.run("select pg_advisory_lock(1)");
    let link = Link::new(&cluster, (&db, &far), "s_copy", "p", "");
    await_named(&far, "held_by", r"subscription s_copy \(process \d+, initial copy of a table\)");
    trash(&far);
    await_named(&far, "purge_held_by", r"subscription s_copy \(process \d+, initial copy of a table\)");
    let copy = "initial copy of a table by a subscription";
    await_named(&db, "held_by", &format!(r"{copy} \(process \d+, walsender, [a-z ]+\)"));
    trash(&db);
    let slot = format!(r"replication slot pg_\d+_sync_\d+_\d+ \({copy}, (inactive|process \d+)\)");
    await_named(&db, "purge_held_by", &slot);
    gate.run("select pg_advisory_unlock(1)");
    link.catch_up();
    assert_eq!(far.text("select count(*) from t"), "2");
    link.end();
    proves_by_assertions(Promise::Replication, 4);
}

#[test]
fn a_standby_is_no_subscription() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let mut standby =
        standby_of(&cluster, &["hot_standby_feedback = on", "wal_receiver_status_interval = 1s"]);
    let reader = standby.session();
    reader.run("begin isolation level repeatable read; select count(*) from pg_class");
    await_named(&db, "held_by", r"replication slot standby \(standby walreceiver, process \d+\)");
    standby.kill9();
    await_named(&db, "held_by", r"replication slot standby \(physical, inactive\)");
    proves_by_assertions(Promise::Replication, 2);
}
