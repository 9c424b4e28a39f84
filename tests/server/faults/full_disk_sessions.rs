//! A disk that is full while several sessions work, keys are rotated, or the vacuum has never run: what was acknowledged stays
//! readable, and there is a way back to a disk with room.

use std::collections::BTreeSet;
use std::thread;

use tokio_postgres::error::SqlState;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::BrokenStore;
use crate::support::encryption::{ENCRYPTING, counts, reload, set_keys};
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::session::{Session, block_on};
use crate::support::volumes::{KINDS, Kind};

fn store(kind: Kind, size: usize) -> BrokenStore {
    let store = BrokenStore::on(kind, size, None);
    store.cluster.set_conf("rbytea.trash_retention = 0");
    store.cluster.reload();
    acknowledged::prepare(&store.superuser);
    store
}

/// The same where the vacuum has run before the disk becomes full.
fn vacuumed_store(kind: Kind, size: usize) -> BrokenStore {
    let store = store(kind, size);
    for sql in ["insert into twins values (0, '', '')", "delete from twins", "select rvacuum()"] {
        store.superuser.run(sql);
    }
    store
}

/// Inserts rows with these numbers one by one until the disk is full; the numbers of those that were acknowledged.
fn fill(db: &Session, numbers: impl Iterator<Item = i32>, size: i32) -> BTreeSet<i32> {
    let mut acknowledged = BTreeSet::new();
    for n in numbers {
        let insert = "insert into twins values ($1, payload($1, $2), payload($1, $2))";
        match block_on(db.client().execute(insert, &[&n, &size])) {
            Ok(_) => drop(acknowledged.insert(n)),
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::DISK_FULL), "{error:?}");
                return acknowledged;
            }
        }
    }
    panic!("the disk does not become full");
}

#[test]
fn sessions_that_fill_the_disk_together_keep_what_was_acknowledged() {
    let mut sum = Found::default();
    for kind in KINDS {
        let store = vacuumed_store(kind, 4 << 20);
        let db = &store.superuser;
        let mut kept = BTreeSet::new();
        for round in 0..2 {
            let sessions: Vec<Session> = (0..4).map(|_| store.cluster.session()).collect();
            let filled: Vec<BTreeSet<i32>> = thread::scope(|scope| {
                let filling: Vec<_> = (1..)
                    .zip(&sessions)
                    .map(|(who, db)| {
                        scope.spawn(move || fill(db, (who * 10_000 + round * 5_000).., 9000 * who))
                    })
                    .collect();
                filling.into_iter().map(|filling| filling.join().unwrap()).collect()
            });
            assert!(filled.iter().map(BTreeSet::len).sum::<usize>() > 20, "nothing had room: {filled:?}");
            kept.extend(filled.into_iter().flatten());
            let found = acknowledged::judge(db, &store.root, &kept);
            sum.add(Found { cases: kept.len() as u64, ..found });
            db.run("delete from twins where n % 2 = 0");
            kept.retain(|n| n % 2 != 0);
            let found = acknowledged::judge(db, &store.root, &kept);
            sum.add(Found { cases: kept.len() as u64, ..found });
        }
        store.assert_repaired();
    }
    proves(Promise::ErrorsLoseNothing, sum);
}

/// The blocks that TRASH itself needs must be there when the disk is full.
#[test]
fn a_disk_that_is_full_to_the_last_block_before_the_first_vacuum_has_room_after_it() {
    let mut sum = Found::default();
    for kind in KINDS {
        let store = store(kind, 2 << 20);
        let db = &store.superuser;
        // A block each, so that no block is left over.
        let mut stored = fill(db, 1.., 4096).len();
        while let Some(more) = Some(fill(db, 5000.., 1).len()).filter(|more| *more > 0) {
            db.run("update twins set n = -n where n >= 5000");
            stored += more;
        }
        assert!(stored > 200, "{kind:?}: the disk is full of something else");
        assert_eq!(store.volume().free().0, 0, "{kind:?}: there is room left");
        db.run("delete from twins");
        let found = acknowledged::judge(db, &store.root, &BTreeSet::new());
        sum.add(Found { cases: 1, ..found });
        assert!(fill(db, 1.., 4096).len() + 100 > stored, "{kind:?}: not all of the room has come back");
        db.run("delete from twins");
        let found = acknowledged::judge(db, &store.root, &BTreeSet::new());
        sum.add(Found { cases: 1, ..found });
        store.assert_repaired();
    }
    proves(Promise::Collected, sum);
}

/// With a retention nothing leaves TRASH by itself; rvacuum_purge() must make room.
#[test]
fn a_full_disk_whose_garbage_is_retained_has_room_after_purges_by_hand() {
    let mut sum = Found::default();
    for kind in KINDS {
        let store = store(kind, 2 << 20);
        store.cluster.set_conf("rbytea.trash_retention = '7d'");
        store.cluster.reload();
        let db = &store.superuser;
        db.run("insert into twins select n, payload(n), payload(n) from generate_series(1, 20) n");
        db.run("delete from twins where n <= 10");
        db.run("select rvacuum()");
        fill(db, 100.., 4096);
        db.run("delete from twins where n >= 50");
        let before = store.volume().free().0;
        let found = acknowledged::judge(db, &store.root, &(11..=20).collect());
        assert!(store.volume().free().0 > before + (200 << 12), "{kind:?}: no space has come back");
        sum.add(Found { cases: 1, ..found });
        store.assert_repaired();
    }
    proves(Promise::Collected, sum);
}

#[test]
fn a_rotation_of_keys_that_fills_the_disk_can_go_on_when_there_is_room() {
    let mut sum = Found::default();
    for kind in KINDS {
        let store = vacuumed_store(kind, 4 << 20);
        let (cluster, db) = (&store.cluster, &store.superuser);
        for line in ENCRYPTING {
            cluster.set_conf(line);
        }
        set_keys(cluster, &[1]);
        reload(cluster, &[db]);
        db.run(
            "insert into twins select n, payload(n, 20000), payload(n, 20000) from generate_series(1, 120) n",
        );
        set_keys(cluster, &[1, 2]);
        reload(cluster, &[db]);
        let kept: BTreeSet<i32> = (1..=120).collect();
        let mut failures = 0;
        while let Err(error) = db.try_run("call rbytea_reencrypt('twins', 10)") {
            assert_eq!(error.code(), Some(&SqlState::DISK_FULL), "{kind:?}: {error:?}");
            failures += 1;
            let found = acknowledged::judge(db, &store.root, &kept);
            sum.add(Found { cases: 1, ..found });
            let rest: i64 = db.one("select payloads from rbytea_keys() where id = 1", &[]);
            assert!(
                rest < 120 - 10 * failures,
                "{kind:?}: {failures} calls have not got further than {rest}"
            );
        }
        assert!(failures > 0, "{kind:?}: the disk has room for everything twice");
        assert!(counts(db).contains("2:120"), "{}", counts(db));
        let found = acknowledged::judge(db, &store.root, &kept);
        sum.add(Found { cases: 1, ..found });
    }
    proves(Promise::ErrorsLoseNothing, sum);
}
