//! Listing ahead gives the same payloads in the same order as listing, with any number of threads, and ends with the
//! caller's work.

use crate::listing::every_failure_is_reported;
use crate::support::{Bed, OsBed, commit, list};
use rbytea_memfs::{MemFs, Op};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Ahead, FileStore, PayloadId, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

const ALL: std::ops::RangeInclusive<u64> = 0..=u64::MAX;

fn ahead(threads: usize, room: usize) -> Ahead<'static> {
    Ahead { threads, room, start: &|start| start() }
}

/// Payloads in three eras.
fn fill<F: Fs>(store: &FileStore<F>) {
    for i in 0..60 {
        // Each in a leaf of its own.
        commit(store, (i % 3) << 16 | i << 8, b"x");
    }
}

/// Every payload that the listing ahead finds, in its order.
fn collect<F: Fs>(store: &FileStore<F>, ahead: &Ahead<'_>) -> Result<Vec<PayloadId>>
where
    FileStore<F>: Sync,
{
    store.list_ahead(ALL, ahead, |listings| {
        let mut found = Vec::new();
        for listed in listings {
            let (shard, listing) = listed?;
            assert!(listing.payloads.iter().all(|id| id.shard() == shard));
            found.extend(listing.payloads);
        }
        Ok(found)
    })?
}

fn finds_the_same<B: Bed>(bed: &B)
where
    FileStore<B::F>: Sync,
{
    let store = bed.store();
    assert_eq!(collect(&store, &ahead(2, 10)).unwrap(), [], "there is no directory");
    fill(&store);
    let expected = list(&store).unwrap();
    for threads in 0..5 {
        for room in [0, 1, 7, 1000] {
            let found = collect(&store, &ahead(threads, room)).unwrap();
            assert_eq!(found, expected, "{threads} threads, room for {room}");
        }
    }
}

#[test]
fn the_listing_does_not_depend_on_threads_and_room() {
    finds_the_same(&OsBed::new());
    finds_the_same(&MemFs::new());
}

#[test]
fn an_error_in_any_thread_fails_the_whole_listing() {
    for op in [Op::ReadDir, Op::ReadEntry] {
        for threads in [0, 1, 3] {
            let fill = |fs: &MemFs| {
                for birth in 0..3 {
                    commit(&fs.store(), birth << 16, b"x");
                }
            };
            every_failure_is_reported(op, fill, |fs| collect(&fs.store(), &ahead(threads, 2)).map(drop));
        }
    }
}

#[test]
fn threads_list_ahead_of_the_caller_within_the_limit() {
    let fs = MemFs::new();
    let store = fs.store();
    fill(&store);
    let listed = || fs.count(Op::ReadEntry);
    let (room, threads) = (5, 3);
    // Names of eras and leaves are entries too.
    let before = listed();
    list(&store).unwrap();
    let all = listed() - before;
    let before = listed();
    let ahead = ahead(threads, room);
    let taken = store.list_ahead(ALL, &ahead, |listings| {
        // The caller takes nothing, and the threads list: the first era's leaves, and files.
        while listed() - before < 3 + 10 + room as u64 {
            std::thread::yield_now();
        }
        for _ in 0..1000 {
            std::thread::yield_now();
            // Eras, the leaves of the first one, and files: nearly all directories have one.
            assert!(listed() - before <= (3 + 20 + room + threads * 3) as u64, "it has run too far ahead");
        }
        listings.map(|listed| listed.unwrap().1.payloads.len()).sum::<usize>()
    });
    assert_eq!(taken.unwrap(), 60);
    assert_eq!(listed() - before, all, "nothing is read twice");
}

#[test]
fn work_that_ends_early_or_panics_ends_the_listing() {
    let fs = MemFs::new();
    let store = fs.store();
    fill(&store);
    for room in [0, 3, 1000] {
        let ahead = ahead(3, room);
        let first = store.list_ahead(ALL, &ahead, |listings| listings.next().unwrap().unwrap()).unwrap();
        assert_eq!(first.1.payloads.first(), list(&store).unwrap().first());
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            store.list_ahead(ALL, &ahead, |listings| {
                listings.next();
                std::panic::panic_any("gave way")
            })
        }));
        assert_eq!(unwound.map(|_: Result<()>| ()).unwrap_err().downcast_ref(), Some(&"gave way"));
    }
}

#[test]
fn threads_are_started_by_the_callers_function() {
    let fs = MemFs::new();
    let store = fs.store();
    fill(&store);
    let started = std::sync::atomic::AtomicU32::new(0);
    let start = |start: &mut dyn FnMut()| {
        started.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        start();
    };
    let found = collect(&store, &Ahead { threads: 2, room: 10, start: &start }).unwrap();
    assert_eq!(found.len(), 60);
    assert_eq!(started.into_inner(), 1);
}
