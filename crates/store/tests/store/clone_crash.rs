//! Cloning with a failure of any operation, and a crash after it.

use crate::clone::{CLONE, NONE, clone, fill, same};
use crate::support::{Bed, DATABASE, commit, config, list_trash, live, names, read};
use rbytea_memfs::*;
use rbytea_store::{Backend, Cloned, Config, FileStore, Kind, PayloadRef};
use std::time::UNIX_EPOCH;

/// With syncfs and without, with links and without.
fn all() -> [MemFs; 4] {
    let fs = MemFs::new;
    [fs(), fs().without_syncfs(), fs().without_links(), fs().without_links().without_syncfs()]
}

/// Fails the first, second, … operation of `op` of a clone, until it no longer meets it.
fn at_every(
    op: Op,
    prepare: impl Fn() -> MemFs,
    check: impl Fn(&MemFs, &[PayloadRef], Result<Cloned, Kind>),
) -> u64 {
    for nth in 1.. {
        let fs = prepare();
        let (live, garbage) = fill(&fs.store());
        let before = fs.count(op);
        fs.fail(op, nth, EIO);
        let result = fs.store_for(CLONE).clone_database(DATABASE, &mut |_| ());
        let met = fs.count(op) - before;
        fs.heal();
        check(&fs, &[live, garbage].concat(), result.map_err(|e| e.kind()));
        if met < nth {
            return met;
        }
    }
    unreachable!()
}

/// The clone has all that its template has, and nothing else.
fn is_whole(fs: &MemFs, payloads: &[PayloadRef]) {
    same(&fs.store(), &fs.store_for(CLONE), payloads);
    for payload in payloads {
        let leaf = payload.id.shard();
        assert_eq!(fs.store_for(CLONE).list_shard(leaf).unwrap().foreign, 0);
    }
}

const ALWAYS: [(Op, u64); 7] = [
    (Op::Mkdir, 5),
    (Op::Open, 1),
    (Op::Link, 8),
    (Op::ReadDir, 5),
    (Op::ReadEntry, 10),
    (Op::Stat, 16),
    (Op::OpenSyncHandle, 1),
];
const COPYING: [(Op, u64); 6] =
    [(Op::Create, 8), (Op::Write, 8), (Op::Read, 16), (Op::SetMtime, 8), (Op::SyncData, 8), (Op::Rename, 8)];
const SYNCING: [(Op, u64); 2] = [(Op::SyncDir, 8), (Op::SyncRoot, 1)];

#[test]
fn after_any_failure_the_next_call_completes_the_clone_durably() {
    let syncfs = [(Op::Syncfs, 1)];
    let met: [&[&[(Op, u64)]]; 4] = [
        &[&ALWAYS, &syncfs],
        &[&ALWAYS, &SYNCING],
        &[&ALWAYS, &COPYING, &syncfs],
        &[&ALWAYS, &COPYING, &SYNCING],
    ];
    for (variant, ops) in met.into_iter().enumerate() {
        for (op, least) in ops.concat() {
            let met = at_every(op, || all()[variant].clone(), completes);
            assert!(met >= least, "{op:?} was met {met} times only");
        }
    }
}

fn completes(fs: &MemFs, payloads: &[PayloadRef], result: Result<Cloned, Kind>) {
    if let Err(kind) = result {
        assert_eq!(kind, Kind::Io);
        // the template has lost nothing, should this be the moment of a crash
        let after = fs.after_crash();
        payloads.iter().for_each(|payload| drop(read(&after.store(), payload).unwrap()));
        clone(&after.store_for(CLONE));
        is_whole(&after, payloads);
        is_whole(&after.after_crash(), payloads);
        clone(&fs.store_for(CLONE));
    }
    is_whole(fs, payloads);
    is_whole(&fs.after_crash(), payloads);
}

#[test]
fn a_directory_that_is_removed_while_cloning_is_made_again() {
    for fs in all() {
        let (live, garbage) = fill(&fs.store());
        // of the database's directory, its TRASH or first era: the one below
        fs.fail(Op::Mkdir, 2, ENOENT);
        clone(&fs.store_for(CLONE));
        is_whole(&fs.after_crash(), &[live, garbage].concat());
    }
}

#[test]
fn a_refused_link_becomes_a_copy_and_any_other_error_is_returned() {
    let [emlink, exdev, eopnotsupp, enosys] = [31, 18, 95, 38];
    for (errno, copied) in [
        (EPERM, true),
        (emlink, true),
        (exdev, true),
        (eopnotsupp, true),
        (enosys, true),
        (EACCES, false),
        (EIO, false),
        (ENOSPC, false),
        (EROFS, false),
    ] {
        let fs = MemFs::new();
        let (live, garbage) = fill(&fs.store());
        fs.fail(Op::Link, 3, errno);
        let result = fs.store_for(CLONE).clone_database(DATABASE, &mut |_| ());
        if copied {
            assert_eq!(result.unwrap(), Cloned { linked: 7, copied: 1, ..NONE }, "{errno}");
            is_whole(&fs.after_crash(), &[live, garbage].concat());
        } else {
            result.expect_err("nothing is copied for that");
        }
    }
}

#[test]
fn an_unfinished_copy_is_not_listed_as_a_payload() {
    let fs = MemFs::new().without_links();
    let payload = commit(&fs.store(), 1, b"12345");
    let store = fs.store_for(CLONE);
    // neither the rename succeeds nor the unlink after its failure
    fs.fail(Op::Rename, 1, EIO);
    fs.fail(Op::Unlink, 1, EIO);
    store.clone_database(DATABASE, &mut |_| ()).unwrap_err();
    let trash = || names(&fs, &format!("{CLONE}/TRASH"));
    assert_eq!(trash().len(), 1, "the copy");
    assert_eq!(list_trash(&store), []);
    assert_eq!(clone(&store), Cloned { copied: 1, ..NONE });
    store.remove_leftovers(UNIX_EPOCH).unwrap();
    assert_eq!(trash(), [""; 0], "the copy would stay for ever");
    assert_eq!(read(&store, &payload).unwrap(), b"12345");
}

#[test]
fn a_write_back_that_is_lost_while_cloning_is_noticed() {
    let fs = MemFs::new();
    let payload = commit(&fs.store(), 1, b"12345");
    let path = live(&fs.store(), &payload);
    let error = fs.store_for(CLONE).clone_database(DATABASE, &mut |_| fs.lose_writeback(&path)).unwrap_err();
    assert!(matches!(error, rbytea_store::Error::Sync { .. }), "{error}");
}

#[test]
fn a_clone_syncs_each_directory_once_or_the_file_system() {
    let [with, without, ..] = all();
    for fs in [with, without] {
        let (live, _) = fill(&fs.store());
        let (dirs, others) = (fs.count(Op::SyncDir), fs.syncs() - fs.count(Op::SyncDir));
        clone(&fs.store_for(CLONE));
        let (dirs, others) = (fs.count(Op::SyncDir) - dirs, fs.syncs() - fs.count(Op::SyncDir) - others);
        if fs.count(Op::Syncfs) == 1 {
            assert_eq!((dirs, others), (0, 1));
        } else {
            let leaves: std::collections::BTreeSet<_> =
                live.iter().map(|payload| payload.id.shard()).collect();
            let (eras, trash, database, root) = (3, 1, 1, 1);
            assert_eq!(dirs, leaves.len() as u64 + eras + trash + database + root);
            assert_eq!(others, 1, "the root's own entry");
        }
    }
}

#[test]
fn with_fsync_off_a_clone_makes_no_fsync() {
    for fs in all() {
        fill(&fs.store());
        let (syncs, handles) = (fs.syncs(), fs.count(Op::OpenSyncHandle));
        let config =
            Config { fsync: false, database: CLONE, ..config(rbytea_store::file::fs::Fs::root(&fs)) };
        clone(&FileStore::with_fs(fs.clone(), config));
        assert_eq!((fs.syncs(), fs.count(Op::OpenSyncHandle)), (syncs, handles));
    }
}
