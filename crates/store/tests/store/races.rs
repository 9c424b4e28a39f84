//! Concurrent threads on the operating system's file system: while files are moved, no payload is lost or doubled
//! (I7).

use crate::clone::CLONE;
use crate::support::{Bed, DATABASE, OsBed, US, commit, config, list, list_trash, open, read, write};
use rbytea_store::file::fs::Fs;
use rbytea_store::file::os::OsFs;
use rbytea_store::{
    Backend, Config, FileStore, Kind, OwnerId, PayloadRef, Pending, Restored, Trashed, Writer,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

fn store(bed: &OsBed) -> FileStore<OsFs> {
    // durability is not what is tested here
    let config = Config { fsync: false, ..config(bed.dir.path()) };
    open(config).unwrap()
}

fn names(bed: &OsBed, payload: &PayloadRef) -> usize {
    let store = bed.store();
    [store.live_path(&payload.id), store.trash_path(&payload.id)]
        .iter()
        .filter(|path| store.fs().root().join(path).exists())
        .count()
}

/// Stops the others even when its thread fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_file_that_is_trashed_and_restored_at_once_is_never_lost() {
    let bed = OsBed::new();
    let payload = commit(&store(&bed), 1, b"here or there");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let vacuum = store(&bed);
            while !stop.load(Ordering::SeqCst) {
                vacuum.moves().trash(&payload.id, SystemTime::now()).unwrap();
                vacuum.era_swept(0).unwrap();
            }
        });
        scope.spawn(|| {
            let _stop = Stop(&stop);
            let backend = store(&bed);
            for _ in 0..3000 {
                match backend.restore(&payload.id) {
                    Ok(restored) => assert_ne!(restored, Restored::Missing),
                    // a thread that moves the file without a pause can outrun the restore: an error, and no loss
                    Err(e) => assert!(e.to_string().ends_with("moved again and again"), "{e}"),
                }
            }
        });
    });
    assert_eq!(names(&bed, &payload), 1);
    assert_eq!(read(&store(&bed), &payload).unwrap(), b"here or there");
}

#[test]
fn of_two_restores_at_once_both_find_the_file() {
    let bed = OsBed::new();
    let payload = commit(&store(&bed), 1, b"x");
    let barrier = Barrier::new(2);
    let restored = std::thread::scope(|scope| {
        let threads = [0, 1].map(|first| {
            let (bed, payload, barrier) = (&bed, &payload, &barrier);
            scope.spawn(move || {
                let store = store(bed);
                let mut restored = 0;
                for _ in 0..500 {
                    barrier.wait();
                    if first == 0 {
                        let trashed = store.moves().trash(&payload.id, SystemTime::now()).unwrap();
                        assert_eq!(trashed, Trashed::Moved { len: 1 });
                    }
                    barrier.wait();
                    match store.restore(&payload.id).unwrap() {
                        Restored::Restored => restored += 1,
                        Restored::WasLive => {}
                        Restored::Missing => panic!("the file was in TRASH or LIVE all the time"),
                    }
                }
                restored
            })
        });
        threads.map(|thread| thread.join().unwrap()).iter().sum::<u32>()
    });
    assert_eq!(restored, 500, "each file is brought back by exactly one of the two");
    assert_eq!(names(&bed, &payload), 1);
}

#[test]
fn writing_goes_on_while_directories_are_removed() {
    let bed = OsBed::new();
    let stop = AtomicBool::new(false);
    let payloads = std::thread::scope(|scope| {
        scope.spawn(|| {
            let vacuum = store(&bed);
            while !stop.load(Ordering::SeqCst) {
                vacuum.era_swept(0).unwrap();
            }
        });
        scope
            .spawn(|| {
                let _stop = Stop(&stop);
                let store = store(&bed);
                let mut pending = Pending::new();
                (0..1000).map(|_| write(&store, 1, b"written", &mut pending).unwrap()).collect::<Vec<_>>()
            })
            .join()
            .unwrap()
    });
    let store = store(&bed);
    for payload in &payloads {
        assert_eq!(read(&store, payload).unwrap(), b"written");
    }
}

#[test]
fn of_many_first_writers_one_becomes_the_owner() {
    for _ in 0..50 {
        let bed = OsBed::new();
        let barrier = Barrier::new(4);
        let writers = std::thread::scope(|scope| {
            let threads = [1, 2, 3, 4].map(|cluster| {
                let (bed, barrier) = (&bed, &barrier);
                scope.spawn(move || {
                    let store = bed.store_of(OwnerId { system_identifier: cluster, ..US });
                    barrier.wait();
                    match Writer::begin(&store, 1, None) {
                        Ok(_) => Some(cluster),
                        Err(e) if e.kind() == Kind::NotOwner => None,
                        Err(e) => panic!("{e}"),
                    }
                })
            });
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(writers, [bed.store().owner().unwrap().unwrap().system_identifier]);
    }
}

/// Clones while another thread does `work` to each payload of the template.
fn clone_beside(bed: &OsBed, payloads: &[PayloadRef], work: impl Fn(&FileStore<OsFs>, &PayloadRef) + Sync) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let vacuum = store(bed);
            barrier.wait();
            for some in payloads.chunks(30) {
                some.iter().for_each(|payload| work(&vacuum, payload));
                vacuum.era_swept(0).unwrap();
            }
        });
        barrier.wait();
        let config = Config { fsync: false, database: CLONE, ..config(bed.dir.path()) };
        FileStore::with_fs(bed.fs(), config).clone_database(DATABASE, &mut |_| ()).unwrap();
    });
}

fn filled(bed: &OsBed) -> Vec<PayloadRef> {
    let store = store(bed);
    (0..300).map(|_| commit(&store, 1, b"template")).collect()
}

#[test]
fn no_file_is_missed_or_doubled_while_the_templates_vacuum_trashes_and_restores() {
    for round in 0..10 {
        let bed = OsBed::adapted(if round % 2 == 0 { |fs| fs } else { |fs: OsFs| fs.without_links() });
        let payloads = filled(&bed);
        if round % 4 < 2 {
            clone_beside(&bed, &payloads, |vacuum, payload| {
                vacuum.moves().trash(&payload.id, SystemTime::now()).unwrap();
            });
        } else {
            for payload in &payloads {
                store(&bed).moves().trash(&payload.id, SystemTime::now()).unwrap();
            }
            clone_beside(&bed, &payloads, |vacuum, payload| {
                assert_eq!(vacuum.restore(&payload.id).unwrap(), Restored::Restored);
            });
        }
        let clone = bed.store_for(CLONE);
        for payload in &payloads {
            assert_eq!(read(&clone, payload).unwrap(), b"template");
        }
        let (live, trash) = (list(&clone).unwrap().len(), list_trash(&clone).len());
        assert_eq!(live + trash, payloads.len(), "{live} live and {trash} in TRASH");
    }
}

#[test]
fn a_concurrent_purge_of_the_template_never_fails_a_clone() {
    for _ in 0..10 {
        let bed = OsBed::new();
        let payloads = filled(&bed);
        clone_beside(&bed, &payloads, |vacuum, payload| {
            vacuum.moves().trash(&payload.id, SystemTime::now()).unwrap();
            vacuum.moves().purge(&payload.id).unwrap();
        });
        let clone = bed.store_for(CLONE);
        let (live, trash) = (list(&clone).unwrap(), list_trash(&clone));
        for payload in &payloads {
            let places = live.iter().filter(|id| **id == payload.id).count()
                + trash.iter().filter(|(id, _)| *id == payload.id).count();
            assert!(places <= 1);
            assert!(places == 0 || read(&clone, payload).unwrap() == b"template");
        }
    }
}
