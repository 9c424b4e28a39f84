//! Trashing and purging a dropped database with a failure of any operation, and a crash after it.

use crate::dropped::{day, drop_database, purge};
use crate::support::{Bed, DATABASE, commit, config, read};
use rbytea_memfs::*;
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Config, DroppedDatabase, FileStore, Kind, PayloadRef, Pending};

const OTHER: u32 = 5;

fn both() -> [MemFs; 2] {
    [MemFs::new(), MemFs::new().without_syncfs()]
}

fn dropped() -> DroppedDatabase {
    DroppedDatabase { oid: DATABASE, trashed_at: day() }
}

/// The dropped database has the payload under its old name or under the new one.
fn somewhere(fs: &MemFs, payload: &PayloadRef) -> bool {
    let store = fs.store_for(OTHER);
    let in_trash = store.dropped_databases().unwrap().iter().any(|dropped| {
        let at = dropped.trashed_at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
        fs.stat(&format!("{}-{at:08x}/{}", dropped.oid, payload.id.live_path())).is_ok()
    });
    in_trash || fs.stat(&format!("{DATABASE}/{}", payload.id.live_path())).is_ok()
}

#[test]
fn a_trashed_database_stays_trashed_and_loses_nothing() {
    for fs in both() {
        let payload = commit(&fs.store(), 1, b"dropped");
        drop_database(&fs.store_for(OTHER));
        let after = fs.after_crash();
        let store = after.store_for(OTHER);
        assert_eq!(
            (store.databases().unwrap(), store.dropped_databases().unwrap()),
            (vec![], vec![dropped()])
        );
        assert!(somewhere(&after, &payload));
    }
}

#[test]
fn after_any_failure_the_next_call_completes_the_trashing() {
    for (op, least) in [(Op::Stat, 1), (Op::Rename, 1), (Op::SyncDir, 1)] {
        for nth in 1.. {
            let fs = MemFs::new();
            let (payload, kept) =
                (commit(&fs.store(), 1, b"dropped"), commit(&fs.store_for(OTHER), 1, b"kept"));
            let before = fs.count(op);
            fs.fail(op, nth, EIO);
            let result = fs.store_for(OTHER).trash_database(DATABASE, day());
            let met = fs.count(op) - before;
            fs.heal();
            // a crash at this moment
            let after = fs.after_crash();
            assert!(somewhere(&after, &payload), "{op:?} number {nth}: under neither name");
            for fs in [&fs, &after] {
                let store = fs.store_for(OTHER);
                store.trash_database(DATABASE, day()).unwrap();
                assert_eq!(store.databases().unwrap(), [OTHER]);
                assert!(somewhere(fs, &payload));
                assert_eq!(read(&store, &kept).unwrap(), b"kept");
                assert_eq!(read(&fs.after_crash().store_for(OTHER), &kept).unwrap(), b"kept");
            }
            if met < nth {
                assert!(result.unwrap());
                assert!(met >= least, "{op:?} was met {met} times only");
                break;
            }
            assert_eq!(result.unwrap_err().kind(), Kind::Io, "{op:?} number {nth}");
        }
    }
}

#[test]
fn trashing_its_own_database_clears_the_cache_of_a_store() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    let mut pending = Pending::new();
    for _ in 0..3000 {
        crate::support::write(&store, 1, b"meets every leaf directory", &mut pending).unwrap();
    }
    pending.sync(&store, &mut || ()).unwrap();
    drop_database(&store);
    let payload = commit(&store, 1, b"committed");
    assert_eq!(read(&fs.after_crash().store(), &payload).unwrap(), b"committed");
}

#[test]
fn a_complete_purge_stays_complete() {
    for fs in both() {
        crate::clone::fill(&fs.store());
        let dropped = drop_database(&fs.store_for(OTHER));
        let before = fs.syncs();
        assert!(purge(&fs.store_for(OTHER), &dropped).complete);
        assert_eq!(fs.syncs() - before, 1, "only the root");
        assert_eq!(fs.after_crash().store_for(OTHER).dropped_databases().unwrap(), []);
    }
}

#[test]
fn after_any_failure_the_next_call_completes_the_purge() {
    let ops = [
        (Op::ReadDir, 10),
        (Op::ReadEntry, 15),
        (Op::Stat, 8),
        (Op::Unlink, 8),
        (Op::Rmdir, 11),
        (Op::SyncDir, 1),
    ];
    for (op, least) in ops {
        for nth in 1.. {
            let fs = MemFs::new();
            crate::clone::fill(&fs.store());
            let kept = commit(&fs.store_for(OTHER), 1, b"kept");
            let dropped = drop_database(&fs.store_for(OTHER));
            let before = fs.count(op);
            fs.fail(op, nth, EIO);
            let result = fs.store_for(OTHER).purge_database(&dropped, &mut || ());
            let met = fs.count(op) - before;
            fs.heal();
            for fs in [&fs.after_crash(), &fs] {
                let store = fs.store_for(OTHER);
                assert!(purge(&store, &dropped).complete, "{op:?} number {nth}");
                let after = fs.after_crash().store_for(OTHER);
                assert_eq!(after.dropped_databases().unwrap(), []);
                assert_eq!(read(&after, &kept).unwrap(), b"kept");
            }
            if met < nth {
                assert!(result.unwrap().complete);
                assert!(met >= least, "{op:?} was met {met} times only");
                break;
            }
            assert_eq!(result.unwrap_err().kind(), Kind::Io, "{op:?} number {nth}");
        }
    }
}

#[test]
fn any_error_fails_the_listings_of_databases() {
    for op in [Op::ReadDir, Op::ReadEntry] {
        let fs = MemFs::new();
        commit(&fs.store(), 1, b"x");
        drop_database(&fs.store_for(OTHER));
        let store = fs.store_for(OTHER);
        fs.fail(op, 1, EIO);
        assert_eq!(store.databases().unwrap_err().kind(), Kind::Io);
        fs.fail(op, 1, EIO);
        assert_eq!(store.dropped_databases().unwrap_err().kind(), Kind::Io);
        fs.fail(op, 1, EIO);
        let id = rbytea_store::PayloadId { birth: 1, uuid: uuid::Uuid::nil() };
        assert_eq!(store.elsewhere(&id).unwrap_err().kind(), Kind::Io);
    }
}

#[test]
fn with_fsync_off_trashing_and_purging_make_no_fsync() {
    let fs = MemFs::new();
    commit(&fs.store(), 1, b"x");
    let config = Config { fsync: false, database: OTHER, ..config(fs.root()) };
    let store = FileStore::with_fs(fs.clone(), config);
    let before = fs.syncs();
    let dropped = drop_database(&store);
    assert!(purge(&store, &dropped).complete);
    assert_eq!(fs.syncs(), before);
}
