//! What a crash leaves (I1): everything that was synced, wherever its directories came from.

use crate::support::{Bed, THEM, US, commit, config, list, read, write};
use crate::trash::trash;
use rbytea_memfs::{MemFs, Op};
use rbytea_store::file::SYNCFS_FROM;
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Config, FileStore, Kind, PayloadRef, Pending, Reader, Restored};

/// Both ways to sync: with syncfs, and without.
pub fn both() -> [MemFs; 2] {
    [MemFs::new(), MemFs::new().without_syncfs()]
}

pub fn survives(fs: &MemFs, payloads: &[PayloadRef], bytes: &[u8]) {
    let store = fs.after_crash().store();
    for payload in payloads {
        let read = read(&store, payload).unwrap_or_else(|e| panic!("a committed payload is lost: {e}"));
        assert_eq!(read, bytes);
    }
}

#[test]
fn every_synced_payload_survives_however_many_there_are() {
    for fs in both() {
        for files in [1, 2, SYNCFS_FROM - 1, SYNCFS_FROM, SYNCFS_FROM + 1, 16, 17, 40, 300] {
            let store = fs.store();
            let mut pending = Pending::new();
            let payloads: Vec<_> =
                (0..files).map(|_| write(&store, files << 16, b"committed", &mut pending).unwrap()).collect();
            pending.sync(&store, &mut || ()).unwrap();
            survives(&fs, &payloads, b"committed");
        }
    }
}

#[test]
fn without_a_sync_a_crash_leaves_nothing() {
    for fs in both() {
        let store = fs.store();
        let payload = write(&store, 1, b"uncommitted", &mut Pending::new()).unwrap();
        let after = fs.after_crash().store();
        assert_eq!(Reader::open(&after, &payload).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(
            list(&after).unwrap(),
            [],
            "the test's disk must forget, or the other tests prove nothing"
        );
    }
}

#[test]
fn a_directory_that_an_uncommitted_transaction_made_is_synced_too() {
    for fs in both() {
        let (theirs, ours) = (fs.store(), fs.store());
        // 2000 files meet each of the 256 leaf directories
        let mut uncommitted = Pending::new();
        for _ in 0..2000 {
            write(&theirs, 1, b"", &mut uncommitted).unwrap();
        }
        let made = fs.count(Op::Mkdir);
        let payload = commit(&ours, 2, b"committed");
        assert_eq!(fs.count(Op::Mkdir), made, "the directory existed already");
        survives(&fs, &[payload], b"committed");
    }
}

#[test]
fn the_second_payload_in_a_directory_survives_too() {
    for fs in both() {
        let store = fs.store();
        let payloads: Vec<_> = (0..600).map(|_| commit(&store, 1, b"committed")).collect();
        survives(&fs, &payloads, b"committed");
    }
}

#[test]
fn a_directory_that_was_removed_and_made_again_is_synced_again() {
    for fs in both() {
        let store = fs.store();
        let payload = commit(&store, 1, b"committed");
        trash(&store, &payload);
        store.era_swept(0).unwrap();
        assert_eq!(store.restore(&payload.id).unwrap(), Restored::Restored);
        survives(&fs, &[payload], b"committed");
        let after = fs.after_crash().store();
        assert!(after.is_live(&payload.id).unwrap(), "a restore is durable on return");
        after.list_trash(&mut |id, _| panic!("{id:?} has two names")).unwrap();
        let more: Vec<_> = (0..300).map(|_| commit(&store, 1, b"committed")).collect();
        survives(&fs, &more, b"committed");
    }
}

#[test]
fn a_directory_that_the_vacuum_removed_and_a_backend_made_again_is_synced_again() {
    for fs in both() {
        let (backend, vacuum) = (fs.store(), fs.store());
        // meets every leaf directory, so that the cache has all of them
        let garbage: Vec<_> = (0..2000).map(|_| commit(&backend, 1, b"garbage")).collect();
        garbage.iter().for_each(|payload| drop(vacuum.moves().trash(&payload.id, std::time::UNIX_EPOCH)));
        vacuum.era_swept(0).unwrap();
        let payload = commit(&backend, 2, b"committed");
        survives(&fs, &[payload], b"committed");
    }
}

#[test]
fn a_restore_does_not_rely_on_the_cache_of_durable_directories() {
    let fs = MemFs::new();
    let (backend, vacuum) = (fs.store(), fs.store());
    let payload = commit(&backend, 1, b"committed");
    trash(&vacuum, &payload);
    vacuum.era_swept(0).unwrap();
    // another transaction makes the directories again, and has not committed
    let leaf = format!("{}/{}", crate::support::DATABASE, payload.id.shard().path());
    fs.mkdir(leaf.rsplit_once('/').unwrap().0).unwrap();
    fs.mkdir(&leaf).unwrap();
    assert_eq!(backend.restore(&payload.id).unwrap(), Restored::Restored);
    survives(&fs, &[payload], b"committed");
}

#[test]
fn a_crash_before_the_moves_are_synced_loses_nothing() {
    let fs = MemFs::new();
    let store = fs.store();
    let payload = commit(&store, 1, b"committed");
    let mut moves = store.moves();
    moves.trash(&payload.id, std::time::SystemTime::now()).unwrap();
    survives(&fs, &[payload], b"committed");
    moves.sync().unwrap();
    survives(&fs, &[payload], b"committed");
    assert!(!fs.after_crash().store().is_live(&payload.id).unwrap(), "a synced move stays moved");
}

#[test]
fn a_move_that_fails_to_sync_half_way_loses_nothing() {
    for failing in 1..=5 {
        let fs = MemFs::new();
        let store = fs.store();
        let payload = commit(&store, 1, b"committed");
        let mut moves = store.moves();
        moves.trash(&payload.id, std::time::SystemTime::now()).unwrap();
        fs.fail(Op::SyncDir, failing, rbytea_memfs::EIO);
        let _ = moves.sync();
        survives(&fs, &[payload], b"committed");
        fs.fail(Op::SyncDir, failing, rbytea_memfs::EIO);
        let _ = store.restore(&payload.id);
        survives(&fs, &[payload], b"committed");
    }
}

#[test]
fn the_owner_survives() {
    let fs = MemFs::new();
    commit(&fs.store(), 1, b"x");
    assert_eq!(fs.after_crash().store().owner().unwrap(), Some(US));
    // the first owner or the second, never none and never a torn file
    fs.store_of(THEM).adopt().unwrap();
    assert_eq!(fs.after_crash().store().owner().unwrap(), Some(THEM));
}

#[test]
fn a_synced_payload_survives_a_crash_after_any_later_uncommitted_write() {
    let fs = MemFs::new();
    let store = fs.store();
    let payload = commit(&store, 1, b"committed");
    let mut pending = Pending::new();
    for _ in 0..30 {
        write(&store, 2, b"uncommitted", &mut pending).unwrap();
        survives(&fs, &[payload], b"committed");
    }
}

#[test]
fn with_fsync_off_no_fsync_is_made() {
    for fs in both() {
        let store = FileStore::with_fs(fs.clone(), Config { fsync: false, ..config(fs.root()) });
        let mut pending = Pending::new();
        for _ in 0..20 {
            write(&store, 1, b"x", &mut pending).unwrap();
        }
        assert_eq!(pending.descriptors(), 0);
        pending.sync(&store, &mut || ()).unwrap();
        let payload = commit(&store, 1, b"x");
        trash(&store, &payload);
        store.restore(&payload.id).unwrap();
        store.adopt().unwrap();
        assert_eq!(fs.syncs() + fs.count(Op::OpenSyncHandle), 0);
    }
}
