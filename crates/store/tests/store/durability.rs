//! How a sync is made: once for each file and directory, through the descriptor that wrote, and never again
//! after it failed (I1).

use crate::support::{Bed, DATABASE, commit, config, live, write};
use rbytea_memfs::{EIO, ENOSPC, MemFs, Op};
use rbytea_store::file::fs::Fs;
use rbytea_store::file::{MAX_OPEN, SYNCFS_FROM};
use rbytea_store::{Config, Error, FileStore, Kind, Pending, PendingState, Writer};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn pending_with(store: &FileStore<MemFs>, files: u64) -> Pending {
    let mut pending = Pending::new();
    for _ in 0..files {
        write(store, 1, b"payload", &mut pending).unwrap();
    }
    pending
}

#[test]
fn few_files_are_synced_one_by_one() {
    let fs = MemFs::new();
    let store = fs.store();
    let before = fs.count(Op::SyncData);
    let mut pending = pending_with(&store, SYNCFS_FROM - 1);
    let owner_file = 1;
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!(fs.count(Op::SyncData) - before, SYNCFS_FROM - 1 + owner_file);
    assert_eq!((fs.count(Op::Syncfs), pending.state()), (0, PendingState::Synced));
}

#[test]
fn many_files_are_synced_by_one_syncfs() {
    let fs = MemFs::new();
    let store = fs.store();
    commit(&store, 1, b"claims the store");
    let before = fs.syncs();
    let mut pending = pending_with(&store, 500);
    pending.sync(&store, &mut || ()).unwrap();
    assert_eq!((fs.syncs() - before, fs.count(Op::Syncfs)), (1, 1));
    let one_each = 2;
    assert_eq!(fs.count(Op::OpenSyncHandle), one_each, "a transaction needs one descriptor for it");
}

#[test]
fn a_known_directory_is_not_synced_again_for_its_parents() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    let mut pending = pending_with(&store, 3000);
    pending.sync(&store, &mut || ()).unwrap();
    let (dirs, roots) = (fs.count(Op::SyncDir), fs.count(Op::SyncRoot));
    commit(&store, 2, b"all directories are known by now");
    assert_eq!((fs.count(Op::SyncDir) - dirs, fs.count(Op::SyncRoot) - roots), (1, 0));
}

#[test]
fn descriptors_stay_bounded() {
    for (fs, most) in [(MemFs::new(), SYNCFS_FROM as usize), (MemFs::new().without_syncfs(), MAX_OPEN)] {
        let store = fs.store();
        let mut pending = Pending::new();
        let mut seen = 0;
        for files in 1..=100 {
            write(&store, 1, b"x", &mut pending).unwrap();
            assert_eq!(pending.uploads(), files);
            seen = seen.max(pending.descriptors());
        }
        assert!(seen <= most, "{seen} descriptors");
    }
}

#[test]
fn a_lost_write_back_is_noticed_wherever_the_file_stands() {
    for syncfs in [true, false] {
        for (files, lost) in [(1, 0), (3, 2), (7, 0), (8, 0), (8, 7), (40, 0), (40, 16), (40, 39)] {
            let fs = if syncfs { MemFs::new() } else { MemFs::new().without_syncfs() };
            let store = fs.store();
            let mut pending = Pending::new();
            let mut result = Ok(());
            for i in 0..files {
                match write(&store, 1, b"payload", &mut pending) {
                    Ok(payload) if i == lost => fs.lose_writeback(&live(&store, &payload)),
                    Ok(_) => {}
                    Err(e) => {
                        result = Err(e);
                        break;
                    }
                }
            }
            let result = result.and_then(|()| pending.sync(&store, &mut || ()));
            let error = result.expect_err("a commit would have lost a payload");
            assert!(matches!(error, Error::Sync { .. }), "{error}");
            assert_eq!(pending.state(), PendingState::Failed);
        }
    }
}

#[test]
fn a_write_back_lost_before_the_payload_was_finished_is_noticed() {
    let fs = MemFs::new();
    let store = fs.store();
    let mut writer = Writer::begin(&store, 1, None).unwrap();
    writer.write(b"lost").unwrap();
    fs.lose_writeback(&format!("{DATABASE}/{}", writer.id().live_path()));
    let mut pending = pending_with(&store, 20);
    writer.finish(&mut pending).unwrap();
    let error = pending.sync(&store, &mut || ()).unwrap_err();
    assert!(matches!(error, Error::Sync { .. }), "{error}");
}

#[test]
fn a_write_back_lost_before_the_store_was_reopened_is_noticed() {
    let fs = MemFs::new();
    let (before, after) = (fs.store(), fs.store());
    let mut writer = Writer::begin(&before, 1, None).unwrap();
    writer.write(b"lost").unwrap();
    fs.lose_writeback(&format!("{DATABASE}/{}", writer.id().live_path()));
    let mut pending = pending_with(&after, 20);
    writer.finish(&mut pending).unwrap();
    let error = pending.sync(&after, &mut || ()).unwrap_err();
    assert!(matches!(error, Error::Sync { .. }), "{error}");
}

#[test]
fn a_new_transaction_does_not_fail_for_an_earlier_write_back_error() {
    let fs = MemFs::new();
    let store = fs.store();
    let mut pending = pending_with(&store, 20);
    let payload = write(&store, 1, b"lost", &mut pending).unwrap();
    fs.lose_writeback(&live(&store, &payload));
    pending.sync(&store, &mut || ()).unwrap_err();
    pending.forget();
    let mut next = pending_with(&store, 20);
    next.sync(&store, &mut || ()).unwrap();
}

#[test]
fn a_failed_sync_is_never_retried() {
    for (op, files) in [(Op::SyncData, 3), (Op::SyncDir, 3), (Op::SyncRoot, 3), (Op::Syncfs, 20)] {
        for errno in [EIO, ENOSPC] {
            let fs = MemFs::new();
            let store = fs.store();
            // the owner's file is synced here, not where the failure is meant to be
            drop(Writer::begin(&store, 1, None).unwrap());
            let mut pending = pending_with(&store, files);
            fs.fail(op, 1, errno);
            let first = pending.sync(&store, &mut || ()).unwrap_err();
            assert_eq!(first.kind(), if errno == ENOSPC { Kind::DiskFull } else { Kind::Io }, "{op:?}");
            let syncs = fs.syncs();
            for _ in 0..3 {
                let again = pending.sync(&store, &mut || panic!("no system call")).unwrap_err();
                assert_eq!(again.to_string(), first.to_string());
                assert_eq!(again.kind(), first.kind());
            }
            let refused = write(&store, 1, b"x", &mut pending).unwrap_err();
            assert_eq!(refused.to_string(), first.to_string());
            assert_eq!(fs.syncs(), syncs, "{op:?} was made again");
            pending.forget();
            assert_eq!(pending.state(), PendingState::Empty);
        }
    }
}

#[test]
fn a_failed_sync_of_an_evicted_file_fails_the_transaction() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    drop(Writer::begin(&store, 1, None).unwrap());
    let mut pending = pending_with(&store, MAX_OPEN as u64);
    fs.fail(Op::SyncData, 1, EIO);
    let first = write(&store, 1, b"one too many", &mut pending).unwrap_err();
    assert!(matches!(first, Error::Sync { .. }), "{first}");
    let syncs = fs.syncs();
    assert_eq!(pending.sync(&store, &mut || ()).unwrap_err().to_string(), first.to_string());
    assert_eq!(fs.syncs(), syncs);
}

#[test]
fn an_interrupt_leaves_the_transaction_failed() {
    for (files, calls) in [(3, 4), (20, 1)] {
        for at in 1..=calls {
            let fs = MemFs::new();
            let store = fs.store();
            let mut pending = pending_with(&store, files);
            let mut count = 0;
            let interrupted = catch_unwind(AssertUnwindSafe(|| {
                pending.sync(&store, &mut || {
                    count += 1;
                    if count == at {
                        std::panic::resume_unwind(Box::new("cancel"));
                    }
                })
            }));
            assert!(interrupted.is_err(), "interrupts were asked for {count} times only");
            assert_eq!(pending.state(), PendingState::Failed);
            let syncs = fs.syncs();
            assert!(matches!(pending.sync(&store, &mut || ()), Err(Error::Sync { .. })));
            assert_eq!(fs.syncs(), syncs);
        }
    }
}

#[test]
fn two_stores_cannot_share_a_transaction() {
    let fs = MemFs::new();
    let store = fs.store();
    let other = FileStore::with_fs(fs.clone(), Config { database: 5, ..config(fs.root()) });
    let mut pending = pending_with(&store, 1);
    assert_eq!(write(&other, 1, b"x", &mut pending).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(pending.sync(&other, &mut || ()).unwrap_err().kind(), Kind::Unsupported);
    pending.sync(&store, &mut || ()).unwrap();
}

/// The oldest file of a transaction is synced when another one takes its descriptor; here that never returns.
#[test]
fn an_upload_that_unwinds_leaves_the_transaction_failed() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    let mut pending = pending_with(&store, MAX_OPEN as u64);
    let mut writer = Writer::begin(&store, 1, None).unwrap();
    // So much that nothing is left to write back.
    writer.write(&[0x5a; 256 * 1024]).unwrap();
    // From here on every operation of the file system unwinds.
    catch_unwind(AssertUnwindSafe(|| fs.lose_writeback("no such file"))).unwrap_err();
    catch_unwind(AssertUnwindSafe(|| writer.finish(&mut pending))).unwrap_err();
    assert_eq!(pending.state(), PendingState::Failed);
    assert!(
        matches!(pending.sync(&store, &mut || ()), Err(Error::Sync { .. })),
        "a transaction whose files are not durable may commit"
    );
}
