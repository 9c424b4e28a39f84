//! SIGKILL between the two phases of a prepared transaction.

use super::ways::{WAYS, Way, assert_sound, cluster, crash};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

/// Prepares in sessions of their own: many inserts with some that are rolled back, references to old rows and to new ones,
/// a deletion and an update; and once more what will be rolled back. Returns the last backend, which has nothing to do any
/// more.
fn prepare(cluster: &Cluster) -> (Session, i32) {
    let statements = [
        (
            "keep",
            "insert into u select n, b, r from t where n < 3; insert into u select n + 100, b, r from t where n = 20",
        ),
        ("drop", "insert into u select n + 1000, b, r from t where n < 3"),
        ("gone", "delete from t where n = 4; update t set b = payload(-5), r = payload(-5) where n = 5"),
        ("stays", "delete from t where n = 6; update t set b = payload(-7), r = payload(-7) where n = 7"),
    ];
    let mut last = None;
    for (at, (gid, statement)) in (0..).zip(statements) {
        let db = cluster.session();
        db.run("begin");
        if gid != "gone" {
            db.fill("t", 20 + 100 * at..=40 + 100 * at);
            db.run("savepoint s");
            db.fill("t", 50 + 100 * at..=52 + 100 * at);
            db.run("rollback to s");
        }
        db.run(&format!("{statement}; prepare transaction '{gid}'"));
        let pid = db.pid();
        last = Some((db, pid));
    }
    last.unwrap()
}

#[test]
fn a_prepared_transaction_survives_crashes_between_its_two_phases() {
    let mut cluster = cluster(&[]);
    let mut kills = 0;
    for way in WAYS {
        let db = cluster.session();
        db.run("truncate t, u");
        assert_sound(&cluster, &db, [0, 0]);
        db.fill("t", 1..=10);
        let (_idle, pid) = prepare(&cluster);
        let mut db = crash(&mut cluster, way, pid);
        for phase in 0..2 {
            assert_eq!(
                db.text("select string_agg(gid, ' ' order by gid) from pg_prepared_xacts"),
                "drop gone keep stays"
            );
            db.assert_stored("t", 10);
            db.assert_stored("u", 0);
            db.run("select rvacuum()");
            db.run("select rvacuum_purge()");
            db = crash(&mut cluster, if phase == 0 { way } else { Way::Everything }, db.pid());
        }
        db.run("commit prepared 'keep'");
        db.run("rollback prepared 'drop'");
        db = crash(&mut cluster, way, db.pid());
        assert_eq!(db.text("select string_agg(gid, ' ' order by gid) from pg_prepared_xacts"), "gone stays");
        db.assert_stored("t", 31);
        db.assert_stored("u", 3);
        db.run("commit prepared 'gone'");
        db.run("rollback prepared 'stays'");
        db = crash(&mut cluster, way, db.pid());
        assert_eq!(db.text("select n from t where n < 8 order by n").replace('\n', " "), "1 2 3 5 6 7");
        assert_eq!(db.text("select b = payload(-5) from t where n = 5"), "t");
        assert_eq!(db.text("select b = payload(7) from t where n = 7"), "t");
        assert_sound(&cluster, &db, [30, 3]);
        kills += 5;
    }
    for promise in [Promise::Durable, Promise::OnlyGarbage, Promise::Collected] {
        proves_by_assertions(promise, kills);
    }
}
