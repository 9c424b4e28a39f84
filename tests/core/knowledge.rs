//! What a process remembers of a store between transactions.

use crate::memfs::{MemFs, Op};
use crate::support::{Bed, DATABASE, commit, config, read, write};
use rbytea::store::{Config, Fs, Pending, Store};

#[test]
fn reopening_does_not_sync_known_directories_again() {
    let fs = MemFs::new().without_syncfs();
    let store = fs.store();
    let mut pending = Pending::new();
    for _ in 0..3000 {
        write(&store, 1, b"every leaf directory gets a file", &mut pending).unwrap();
    }
    store.sync(&mut pending, &mut || ()).unwrap();
    let knowledge = store.into_knowledge();

    let store = fs.store().knowing(knowledge);
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
fn knowledge_of_another_database_is_dropped() {
    let fs = MemFs::new().without_syncfs();
    let here = fs.store();
    commit(&here, 1, b"makes the directories of this database durable");
    let other = Config { database: DATABASE + 1, ..config(fs.root()) };
    let there = Store::with_fs(fs.fs(), other.clone()).unwrap().knowing(here.into_knowledge());
    let payload = commit(&there, 1, b"needs directories of its own");
    let there = Store::with_fs(fs.after_crash(), other).unwrap();
    assert_eq!(
        read(&there, &payload).unwrap(),
        b"needs directories of its own",
        "a committed payload is lost"
    );
}
