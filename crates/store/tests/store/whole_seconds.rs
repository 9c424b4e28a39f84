//! A file system that remembers whole seconds only. A file that a run of the vacuum has trashed must not have the
//! date of an earlier run: the purge goes by the dates of runs, and would delete a payload that a session may still
//! refer to (I8).

use crate::support::{Bed, commit, list_trash, read};
use proptest::prelude::*;
use rbytea_memfs::{MemFs, Op};
use rbytea_store::{Backend, FileStore, PayloadRef, Trashed};
use std::time::{Duration, SystemTime};

/// Later than any file was written.
const SECOND: u64 = 4_000_000_000;

fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

fn coarse() -> (MemFs, FileStore<MemFs>) {
    let fs = MemFs::new().with_whole_seconds();
    let store = fs.store();
    (fs, store)
}

/// Trashes a payload in a run with this date; the date that the file has then.
fn trash(store: &FileStore<MemFs>, payload: &PayloadRef, date: SystemTime) -> SystemTime {
    let mut moves = store.moves();
    let trashed = moves.trash(&payload.id, date).unwrap();
    assert!(matches!(trashed, Trashed::Moved { .. }));
    moves.sync().unwrap();
    let found = list_trash(store).into_iter().find(|(id, _)| *id == payload.id);
    found.unwrap().1.trashed_at
}

/// What a purge does that may delete files with this date and older ones.
fn purge(store: &FileStore<MemFs>, bound: SystemTime) {
    for (id, entry) in list_trash(store) {
        if entry.trashed_at <= bound {
            store.moves().purge(&id).unwrap();
        }
    }
}

#[test]
fn a_date_in_trash_is_the_next_whole_second() {
    let (_, store) = coarse();
    for (birth, nanoseconds, expected) in
        [(1, 1, 1), (2, 317_000_000, 1), (3, 999_999_999, 1), (4, 0, 0), (5, 500_000_000, 1)]
    {
        let payload = commit(&store, birth, b"12345");
        assert_eq!(
            trash(&store, &payload, at(SECOND, nanoseconds)),
            at(SECOND + expected, 0),
            "{nanoseconds} ns"
        );
    }
}

#[test]
fn a_purge_by_an_earlier_run_spares_files_that_a_later_run_has_trashed_in_the_same_second() {
    let (_, store) = coarse();
    let (first, second) = (at(SECOND, 108_000_000), at(SECOND, 317_000_000));
    let (old, young) = (commit(&store, 1, b"old"), commit(&store, 2, b"young"));
    trash(&store, &old, first);
    trash(&store, &young, second);

    purge(&store, first);
    assert_eq!(read(&store, &young).unwrap(), b"young", "a committed row may refer to it by now");
    assert_eq!(read(&store, &old).unwrap(), b"old", "nor sooner than on a file system that knows more");
    purge(&store, second);
    assert_eq!(read(&store, &young).unwrap(), b"young", "nor does a run delete what it has trashed itself");
    purge(&store, at(SECOND + 1, 0));
    assert!(list_trash(&store).is_empty(), "but garbage does not stay for ever");
}

#[test]
fn a_file_that_is_restored_and_trashed_in_one_second_keeps_the_later_date() {
    let (_, store) = coarse();
    let payload = commit(&store, 1, b"12345");
    for nanoseconds in [100_000_000, 200_000_000, 0, 999_999_999] {
        assert_eq!(trash(&store, &payload, at(SECOND, nanoseconds)), at(SECOND + 1, 0));
        store.restore(&payload.id).unwrap();
    }
    assert_eq!(trash(&store, &payload, at(SECOND + 1, 0)), at(SECOND + 1, 0));
    store.restore(&payload.id).unwrap();
    assert_eq!(trash(&store, &payload, at(SECOND + 1, 1)), at(SECOND + 2, 0));
}

/// A file in TRASH with too old a date could be purged at once.
#[test]
fn a_file_whose_date_cannot_be_set_is_not_trashed() {
    for nth in 1..=2 {
        let (fs, store) = coarse();
        let payload = commit(&store, 1, b"12345");
        fs.fail(Op::SetMtime, nth, rbytea_memfs::EIO);
        assert!(store.moves().trash(&payload.id, at(SECOND, 5)).is_err());
        assert!(store.is_live(&payload.id).unwrap(), "the date that fails: {nth}");
    }
}

proptest! {
    /// Of two runs, the earlier one never claims what the later one has trashed, whatever the file system remembers.
    #[test]
    fn no_file_has_a_date_before_its_run(
        coarse in any::<bool>(),
        dates in proptest::collection::btree_set((0u64..3, 0u32..1_000_000_000), 2..6),
    ) {
        let fs = if coarse { MemFs::new().with_whole_seconds() } else { MemFs::new() };
        let store = fs.store();
        let dates: Vec<_> = dates.into_iter().map(|(seconds, nanoseconds)| at(SECOND + seconds, nanoseconds)).collect();
        for (birth, &date) in (1..).zip(&dates) {
            let payload = commit(&store, birth, b"12345");
            let shown = trash(&store, &payload, date);
            prop_assert!(shown >= date);
            prop_assert!(shown < date + Duration::from_secs(1), "garbage waits no longer than it has to");
        }
    }
}
