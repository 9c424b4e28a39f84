//! Two clusters that replicate all their tables to each other, the vacuum's history with them: each keeps the history of its own
//! runs, and the subscriptions go on. Their databases have the same OID.

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::subscription::{Link, QUICK};

const TABLE: &str = "create table t (n int primary key, r rbytea)";

/// Two clusters with the extension and an empty table, whose databases cannot be told apart by their OIDs.
fn clusters() -> (Cluster, Session, Cluster, Session) {
    let (cluster, other) = (Cluster::running_with(QUICK), Cluster::stranger_with(QUICK));
    let (db, far) = (cluster.session(), other.session());
    for session in [&db, &far] {
        session.run("create extension rbytea");
        session.run(TABLE);
    }
    assert_eq!(db.database(), far.database());
    assert_ne!(identifier(&db), identifier(&far));
    (cluster, db, other, far)
}

fn identifier(db: &Session) -> i64 {
    db.one("select system_identifier from pg_control_system()", &[])
}

/// Ids of the runs and whether they are this cluster's.
fn history(db: &Session) -> String {
    let runs = "select id, system_identifier = $1 from rbytea.rbytea_vacuum_history order by 1, 2";
    let row =
        |row: &tokio_postgres::Row| format!("{}{}", row.get::<_, i64>(0), if row.get(1) { "" } else { "?" });
    db.rows(runs, &[&identifier(db)]).iter().map(row).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn run(db: &Session, times: usize) {
    for _ in 0..times {
        db.one::<i64>("select rvacuum()", &[]);
    }
}

#[track_caller]
fn assert_no_error(cluster: &Cluster) {
    let log = cluster.log();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR:")).collect();
    assert!(errors.is_empty(), "a worker has failed: {errors:#?}");
}

#[test]
fn each_cluster_keeps_its_own_history_and_the_subscriptions_go_on() {
    let (cluster, db, other, far) = clusters();
    let newer = db.one::<bool>("select current_setting('server_version_num')::int >= 160000", &[]);
    // Before 16 all rows would come back for ever; so only the history goes both ways.
    let (back, options) =
        if newer { ("all tables", ", origin = none") } else { ("table rbytea.rbytea_vacuum_history", "") };
    db.run("create publication p for all tables");
    far.run(&format!("create publication p for {back}"));
    // What both have before the initial copy, with the same ids.
    run(&db, 3);
    run(&far, 2);
    let back = Link::new(&other, (&far, &db), "s_back", "p", options);
    back.catch_up();
    db.run("insert into t select n, 'payload' from generate_series(1, 4) n");
    let out = Link::new(&cluster, (&db, &far), "s_out", "p", options);
    out.catch_up();
    assert_eq!(
        (history(&db), history(&far)),
        ("1 2 3".to_owned(), "1 2".to_owned()),
        "after the initial copy"
    );

    db.run("delete from t where n = 1");
    run(&far, 2);
    run(&db, 2);
    // As a run trims the oldest rows.
    for session in [&db, &far] {
        session.run("update rbytea.rbytea_vacuum_history set trashed = trashed where id = 2");
        session.run("delete from rbytea.rbytea_vacuum_history where id = 1");
    }
    db.run("insert into t values (5, 'later')");
    out.catch_up();
    back.catch_up();
    assert_eq!(far.text("select count(*), min(n), max(n), count(uuid(r)) from t"), "4|2|5|4");
    assert_eq!((history(&db), history(&far)), ("2 3 4 5".to_owned(), "2 3 4".to_owned()), "after changes");
    if newer {
        far.run("insert into t values (6, 'back')");
        back.catch_up();
        assert_eq!(db.text("select max(n) from t"), "6");
    }
    run(&db, 1);
    run(&far, 1);
    out.catch_up();
    back.catch_up();
    assert_eq!((history(&db), history(&far)), ("2 3 4 5 6".to_owned(), "2 3 4 5".to_owned()), "in the end");
    for cluster in [&cluster, &other] {
        assert_no_error(cluster);
    }
    out.end();
    back.end();
    proves_by_assertions(Promise::Replication, 3);
}

/// A trigger cannot keep TRUNCATE away. Without a history no run vouches for what is in TRASH: it waits for one more run.
#[test]
fn a_history_that_a_publisher_truncates_costs_a_run_and_no_payload() {
    let (cluster, db, other, far) = clusters();
    db.run(
        "create publication p for all tables; insert into t select n, 'payload' from generate_series(1, 4) n",
    );
    let out = Link::new(&cluster, (&db, &far), "s_out", "p", "");
    out.catch_up();
    db.run("delete from t where n = 1");
    out.catch_up();
    wait_until(PATIENCE, || far.one::<i64>("select rvacuum()", &[]) == 1);
    db.run("truncate rbytea.rbytea_vacuum_history");
    out.catch_up();
    assert_eq!(history(&far), "");
    assert_eq!(far.one::<i64>("select rvacuum_purge()", &[]), 0, "deleted without a run that vouches for it");
    wait_until(PATIENCE, || far.one::<i64>("select rvacuum_purge()", &[]) == 1);
    db.run("insert into t values (5, 'later')");
    out.catch_up();
    assert_eq!(far.text("select count(*), max(n), count(uuid(r)) from t"), "4|5|4");
    assert_eq!(other.files_of(&far).live.len(), 4);
    for cluster in [&cluster, &other] {
        assert_no_error(cluster);
    }
    out.end();
    proves_by_assertions(Promise::Replication, 1);
}
