//! Two primaries on one store: a standby that was promoted while the old primary goes on. What neither may delete of the other's, before
//! and after the new one has adopted the store.

use crate::evidence::{Found, Promise, proves};
use crate::support::background::Watching;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::session::Session;
use crate::support::shared_store::{counts, primary, replayed};
use crate::support::standby::standby_of;

/// An old primary with 10 rows, and its standby, promoted, both running on the same store; and what both have in common.
fn split() -> (Cluster, std::path::PathBuf, Cluster, Ledger) {
    let (cluster, root) = primary(&[]);
    let db = cluster.session();
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=10);
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();
    replayed(&db, &reader);
    reader.run("select pg_promote()");
    wait_until(PATIENCE, || reader.text("select pg_is_in_recovery()") == "f");
    ledger.assert_equal(&reader, "t");
    (cluster, root, standby, ledger)
}

fn rvacuum(db: &Session) -> i64 {
    db.one("select rvacuum()", &[])
}

/// The owner is the old primary. The new one takes nothing away; what the old one takes away is in TRASH for the retention, where
/// it is read, and the adoption brings it back.
#[test]
fn until_the_new_primary_adopts_the_store_it_moves_nothing_and_what_it_writes_is_kept_for_the_retention() {
    let (old, root, new, mut old_ledger) = split();
    let (old_db, new_db) = (old.session(), new.session());
    let mut new_ledger = old_ledger.clone();
    // The same numbers of transactions on both sides, and rows that only one of them has deleted.
    for n in 11..=20 {
        old_ledger.insert(&old_db, "t", n..=n);
        new_ledger.insert(&new_db, "t", n + 100..=n + 100);
    }
    old_ledger.delete(&old_db, "t", 1..=2);
    new_ledger.delete(&new_db, "t", 3..=4);
    for call in ["rvacuum()", "rvacuum_purge()"] {
        let error = new_db.error(&format!("select {call}"));
        assert_eq!(error.code().code(), "55000", "{call} of a cluster that does not own the store");
        assert!(error.hint().unwrap().contains("rbytea_adopt_store()"), "{error:?}");
    }
    assert_eq!(counts(&root), (30, 0), "the new primary has moved files of the old one");
    for _ in 0..20 {
        old_db.run("select pg_current_xact_id()");
    }
    // What the old one does not know is garbage to it. Nothing is deleted.
    assert_eq!(rvacuum(&old_db), 12);
    assert_eq!(counts(&root), (18, 12));
    assert_eq!(rvacuum(&old_db), 0);
    let before = old_ledger.compare(&old_db, "t").and(new_ledger.compare(&new_db, "t"));
    assert_eq!((before.lost, before.dangling), (0, 0), "rows have lost their payloads: {before:?}");
    // Storing one brings it back; the new primary may go on writing.
    new_db.run("insert into t select n + 1000, r from t where n = 111");
    new_ledger.copied(111, 1111);
    assert_eq!(counts(&root), (19, 11));

    // The old one is given up, as an operator has to before he adopts the store.
    let mut old = old;
    drop(old_db);
    old.stop(crate::support::cluster::Shutdown::Immediate);
    new_db.run("select rbytea_adopt_store()");
    // Rows of both are in the new one's hands: its own come back, the old one's leave.
    rvacuum(&new_db);
    assert_eq!(rvacuum(&new_db), 0);
    let after = new_ledger.compare(&new_db, "t");
    let live = counts(&root).0;
    let leaked = live as u64 - (new_ledger.len() as u64 - 1);
    proves(Promise::Replication, before.and(after).and(Found { leaked, ..Found::default() }));
}

/// The owner is the new primary. The old one still runs: it may write, and no longer vacuum; what it has is kept for the retention.
#[test]
fn once_the_new_primary_has_adopted_the_store_the_old_one_moves_nothing() {
    let (old, root, new, mut old_ledger) = split();
    let (old_db, new_db) = (old.session(), new.session());
    let mut new_ledger = old_ledger.clone();
    let previous: String = new_db.one("select rbytea_adopt_store()", &[]);
    assert!(previous.contains("timeline 1"), "{previous}");
    old_ledger.insert(&old_db, "t", 11..=20);
    new_ledger.insert(&new_db, "t", 111..=120);
    old_ledger.delete(&old_db, "t", 1..=2);
    new_ledger.delete(&new_db, "t", 3..=4);
    for call in ["rvacuum()", "rvacuum_purge()"] {
        assert_eq!(old_db.sqlstate(&format!("select {call}")).code(), "55000", "{call} of the old primary");
    }
    old_db.run("alter system set rbytea.databases_for_vacuuming = 'postgres'");
    old_db.run("alter system set rbytea.vacuum_naptime = '1s'");
    old_db.run("alter system set rbytea.trash_retention = 0");
    old.reload();
    old_db.run_and_tell("delete from t where false");
    crate::support::background::Background::await_log(
        &old,
        "The payload store belongs to another cluster, or to this one before a promotion or a restore.",
    );
    assert_eq!(counts(&root), (30, 0), "the old primary has moved files");
    for _ in 0..20 {
        new_db.run("select pg_current_xact_id()");
    }
    assert_eq!(rvacuum(&new_db), 12, "two that it has deleted, and what it has never heard of");
    let found = old_ledger.compare(&old_db, "t").and(new_ledger.compare(&new_db, "t"));
    assert_eq!(counts(&root), (18, 12));
    // Two that adopt the store in turn take files back from TRASH, and lose none.
    old_db.run("select rbytea_adopt_store()");
    assert_eq!(new_db.sqlstate("select rvacuum()").code(), "55000");
    rvacuum(&old_db);
    let again = old_ledger.compare(&old_db, "t").and(new_ledger.compare(&new_db, "t"));
    proves(Promise::Replication, found.and(again));
}

/// Sequences of transaction ids that run apart: a file of the other one may be younger than everything here.
#[test]
fn files_of_both_with_the_same_birth_are_different_files() {
    let (old, root, new, mut old_ledger) = split();
    let (old_db, new_db) = (old.session(), new.session());
    let mut new_ledger = old_ledger.clone();
    let xid = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    while old_db.one::<i64>(xid, &[]) < new_db.one::<i64>(xid, &[]) {
        old_db.run("select pg_current_xact_id()");
    }
    while new_db.one::<i64>(xid, &[]) < old_db.one::<i64>(xid, &[]) {
        new_db.run("select pg_current_xact_id()");
    }
    for n in 11..=30 {
        old_ledger.insert(&old_db, "t", n..=n);
        new_ledger.insert(&new_db, "t", n..=n);
    }
    let births = "select count(distinct xmin::text) from t where n > 10";
    assert_eq!((old_db.text(births), new_db.text(births)), ("20".into(), "20".into()));
    assert_eq!(counts(&root), (50, 0), "a file of one has taken the place of one of the other");
    let found = old_ledger.compare(&old_db, "t").and(new_ledger.compare(&new_db, "t"));
    proves(Promise::Replication, found);
}
