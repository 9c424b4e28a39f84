//! The cache of durable directories, which a process keeps between transactions.

use crate::support::{Bed, DATABASE, commit, config, read, write};
use rbytea_memfs::{MemFs, Op};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Config, Error, FileStore, OWNER, OwnerId, Pending};

#[test]
fn reopening_does_not_sync_known_directories_again() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    let mut pending = Pending::new();
    for _ in 0..3000 {
        write(&store, 1, b"every leaf directory gets a file", &mut pending).unwrap();
    }
    pending.sync(&store, &mut || ()).unwrap();
    let cache = store.into_cache();

    let store = fs.store().with_cache(cache);
    let (dirs, roots) = (fs.count(Op::SyncDir), fs.count(Op::SyncRoot));
    let payload = commit(&store, 2, b"in a known directory");
    assert_eq!((fs.count(Op::SyncDir) - dirs, fs.count(Op::SyncRoot) - roots), (1, 0));
    assert_eq!(
        read(&fs.after_crash().store(), &payload).unwrap(),
        b"in a known directory",
        "a committed payload is lost"
    );
}

#[test]
fn the_cache_of_another_database_is_dropped() {
    let fs = MemFs::new().without_syncfs();
    let here = fs.store();
    commit(&here, 1, b"makes the directories of this database durable");
    let other = Config { database: DATABASE + 1, ..config(fs.root()) };
    let there = FileStore::with_fs(fs.fs(), other.clone()).with_cache(here.into_cache());
    let payload = commit(&there, 1, b"needs directories of its own");
    let there = FileStore::with_fs(fs.after_crash(), other);
    assert_eq!(
        read(&there, &payload).unwrap(),
        b"needs directories of its own",
        "a committed payload is lost"
    );
}

/// Writes a payload in every leaf directory of an era, and syncs nothing.
fn fill_every_leaf(fs: &MemFs) {
    let mut pending = Pending::new();
    for leaf in 0..256 {
        write(&fs.store(), leaf << 8, b"not committed", &mut pending).unwrap();
    }
    pending.forget();
}

#[test]
fn one_sync_of_an_era_makes_all_its_leaves_durable() {
    let fs = MemFs::new().without_syncfs();
    fill_every_leaf(&fs);
    let store = fs.store();
    let mut payloads = vec![commit(&store, 1, b"the era is not known to be durable")];
    let syncs = |payloads: &mut Vec<_>, leaf: u64| {
        let before = fs.count(Op::SyncDir);
        payloads.push(commit(&store, leaf << 8, b"the era is known"));
        fs.count(Op::SyncDir) - before
    };
    assert_eq!(syncs(&mut payloads, 1), 2, "a leaf and its era");
    for leaf in 2..50 {
        assert_eq!(syncs(&mut payloads, leaf), 1, "its own leaf, which is known with the others");
    }
    let store = fs.after_crash().store();
    for payload in &payloads {
        read(&store, payload).expect("a committed payload is lost");
    }
}

#[test]
fn a_leaf_made_after_the_sync_of_its_era_is_not_taken_for_durable() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    let mut known: Vec<_> = (0..10).map(|leaf| commit(&store, leaf << 8, b"the era is listed")).collect();
    // Made after the last listing, by a transaction that does not commit.
    fill_every_leaf(&fs);
    known.push(commit(&store, 1, b"in a leaf that another transaction has made"));
    let after = fs.after_crash().store();
    for payload in &known {
        read(&after, payload).expect("a committed payload is lost");
    }
}

#[test]
fn owner_is_read_again_only_after_it_was_replaced() {
    let fs = MemFs::new();
    let store = fs.store();
    commit(&store, 1, b"claims the store");
    let store = fs.store().with_cache(store.into_cache());
    commit(&store, 2, b"reads its owner");
    let (store, reads) = (fs.store().with_cache(store.into_cache()), fs.count(Op::Read));
    commit(&store, 3, b"has read its owner");
    assert_eq!(fs.count(Op::Read), reads);
    let cache = store.into_cache();
    let config = config(fs.root());
    let another = OwnerId { system_identifier: config.owner.system_identifier + 1, ..config.owner };
    FileStore::with_fs(fs.fs(), Config { owner: another, ..config }).adopt().unwrap();
    let store = fs.store().with_cache(cache);
    assert!(matches!(store.begin(4, None).map(drop), Err(Error::NotOwner { found, .. }) if found == another));
    let cache = store.into_cache();
    fs.unlink(OWNER).unwrap();
    commit(&fs.store().with_cache(cache), 5, b"claims it once more");
}
