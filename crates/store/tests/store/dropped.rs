//! The directory of a dropped database gets another name, and goes for good later (I8).

use crate::clone::{CLONE, clone, fill};
use crate::support::{Bed, DATABASE, OsBed, commit, live, names, on_every_file_system, read};
use rbytea_store::file::fs::Fs;
use rbytea_store::file::layout::{FIRST_DROPPED, copy_name};
use rbytea_store::{Backend, DroppedDatabase, FileStore, Kind, PayloadRef, Purged};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

on_every_file_system! {
    a_dropped_database_is_in_trash_with_its_date
    without_a_directory_there_is_nothing_to_trash
    an_oid_can_be_dropped_again_and_again
    a_store_whose_own_database_was_trashed_still_writes_durably
    only_directories_with_an_oid_and_a_date_are_dropped_databases
    a_purge_removes_every_file_and_directory
    a_purge_leaves_all_other_databases_alone
    a_purge_continues_an_interrupted_one
    foreign_names_are_left_alone_with_the_directories_above
    links_in_place_of_directories_are_not_followed
    a_purge_removes_unfinished_copies_too
    a_link_in_place_of_a_dropped_database_is_not_followed
}

pub fn day() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)
}

pub fn purge<F: Fs>(store: &FileStore<F>, dropped: &DroppedDatabase) -> Purged {
    store.purge_database(dropped, &mut || ()).unwrap()
}

pub fn drop_database<F: Fs>(store: &FileStore<F>) -> DroppedDatabase {
    assert!(store.trash_database(DATABASE, day()).unwrap());
    *store.dropped_databases().unwrap().last().unwrap()
}

fn path(dropped: &DroppedDatabase) -> String {
    let seconds = dropped.trashed_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    format!("{}-{seconds:08x}", dropped.oid)
}

fn a_dropped_database_is_in_trash_with_its_date<B: Bed>(bed: &B) {
    let store = bed.store_for(5);
    let (payload, kept) = (commit(&bed.store(), 1, b"dropped"), commit(&store, 1, b"kept"));
    // whole seconds
    assert!(store.trash_database(DATABASE, day() + Duration::from_nanos(999_999_999)).unwrap());
    let dropped = DroppedDatabase { oid: DATABASE, trashed_at: day() };
    assert_eq!(store.dropped_databases().unwrap(), [dropped]);
    assert_eq!(
        (store.databases().unwrap(), names(&bed.fs(), "")),
        (vec![5], vec![path(&dropped), "5".into(), "OWNER".into()])
    );
    assert_eq!(read(&bed.store(), &payload).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(read(&store, &kept).unwrap(), b"kept");
}

fn without_a_directory_there_is_nothing_to_trash<B: Bed>(bed: &B) {
    let store = bed.store();
    assert!(!store.trash_database(DATABASE, day()).unwrap());
    bed.plant("0/file", b"theirs");
    bed.plant("77", b"theirs");
    bed.plant_link("78");
    for oid in [0, 77, 78] {
        assert!(!store.trash_database(oid, day()).unwrap());
        assert!(bed.fs().stat(&oid.to_string()).is_ok());
    }
    assert_eq!(store.dropped_databases().unwrap(), []);
}

fn an_oid_can_be_dropped_again_and_again<B: Bed>(bed: &B) {
    let times =
        [day(), day(), day() - Duration::from_secs(1), SystemTime::UNIX_EPOCH - Duration::from_secs(9)];
    for now in times {
        commit(&bed.store(), 1, b"x");
        assert!(bed.store().trash_database(DATABASE, now).unwrap());
        assert!(!bed.store().trash_database(DATABASE, now).unwrap());
    }
    let second = Duration::from_secs(1);
    let dates = bed.store().dropped_databases().unwrap().into_iter().map(|dropped| dropped.trashed_at);
    let first = SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_DROPPED.into());
    let expected = [first, day() - Duration::from_secs(1), day(), day() + second];
    assert_eq!(dates.collect::<Vec<_>>(), expected);
}

fn a_store_whose_own_database_was_trashed_still_writes_durably<B: Bed>(bed: &B) {
    let store = bed.store();
    commit(&store, 1, b"dropped");
    drop_database(&store);
    let payload = commit(&store, 1, b"kept");
    assert_eq!(read(&store, &payload).unwrap(), b"kept");
}

fn only_directories_with_an_oid_and_a_date_are_dropped_databases<B: Bed>(bed: &B) {
    for foreign in ["5", "5-0", "notes", "5-6000000G", "0-60000001", "5-20261231"] {
        bed.plant(&format!("{foreign}/file"), b"theirs");
    }
    bed.plant("5-60000001", b"a file");
    bed.plant_link("5-60000002");
    assert_eq!(bed.store().dropped_databases().unwrap(), []);
}

fn a_purge_removes_every_file_and_directory<B: Bed>(bed: &B) {
    let store = bed.store_for(5);
    fill(&bed.store());
    let dropped = drop_database(&store);
    let bytes = 6 * b"live 0".len() + 2 * b"in trash".len();
    assert_eq!(purge(&store, &dropped), Purged { files: 8, bytes: bytes as u64, complete: true });
    assert_eq!(
        (names(&bed.fs(), ""), store.dropped_databases().unwrap()),
        (vec!["OWNER".to_owned()], vec![])
    );
    assert_eq!(purge(&store, &dropped), Purged { files: 0, bytes: 0, complete: true });
}

fn a_purge_leaves_all_other_databases_alone<B: Bed>(bed: &B) {
    let (payloads, _) = fill(&bed.store());
    let store = bed.store_for(CLONE);
    clone(&store);
    let first = drop_database(&store);
    commit(&bed.store(), 1, b"of the same OID");
    assert!(store.trash_database(DATABASE, day() + Duration::from_secs(1)).unwrap());
    let kept = commit(&bed.store(), 1, b"of the same OID, and not dropped");
    assert!(purge(&store, &first).complete);
    assert_eq!(store.dropped_databases().unwrap().len(), 1);
    assert_eq!(read(&bed.store(), &kept).unwrap(), b"of the same OID, and not dropped");
    for payload in payloads {
        assert!(read(&store, &payload).unwrap().starts_with(b"live"), "a clone has files of its own");
    }
}

fn a_purge_continues_an_interrupted_one<B: Bed>(bed: &B) {
    fill(&bed.store());
    let store = bed.store_for(5);
    let dropped = drop_database(&store);
    let mut calls = 0;
    let interrupted = catch_unwind(AssertUnwindSafe(|| {
        store.purge_database(&dropped, &mut || {
            calls += 1;
            if calls == 5 {
                std::panic::resume_unwind(Box::new("cancel"));
            }
        })
    }));
    assert!(interrupted.is_err(), "interrupts were asked for {calls} times only");
    let rest = purge(&store, &dropped);
    assert_eq!((rest.files, rest.complete), (4, true));
}

fn foreign_names_are_left_alone_with_the_directories_above<B: Bed>(bed: &B) {
    let store = bed.store_for(5);
    let (payloads, garbage) = fill(&bed.store());
    let payload: &PayloadRef = &payloads[0];
    let file = live(&bed.store(), payload);
    let (leaf, name) = file.rsplit_once('/').unwrap();
    let other = payload.id.shard().byte.wrapping_add(1);
    let foreign = [
        format!("{file}.bak"),
        format!("{file}.tmp"),
        format!("{leaf}/{}{other:02x}{}", &name[..17], &name[19..]),
        format!("{leaf}/{:016x}{}/inside", 2, &name[16..]),
        format!("{DATABASE}/000000000001/notes"),
        format!("{DATABASE}/TRASH/{}/inside", payload.id.file_name()),
        format!("{DATABASE}/TRASH/notes"),
        format!("{DATABASE}/notes/00/{name}"),
    ];
    for path in &foreign {
        bed.plant(path, b"theirs");
    }
    let dropped = drop_database(&store);
    let purged = purge(&store, &dropped);
    assert_eq!((purged.files, purged.complete), ((payloads.len() + garbage.len()) as u64, false));
    let base = path(&dropped);
    for path in &foreign {
        let path = path.replacen(&DATABASE.to_string(), &base, 1);
        assert_eq!(bed.fs().stat(&path).unwrap().len, 6, "{path}");
    }
    assert_eq!(
        names(&bed.fs(), &base),
        ["000000000000", "000000000001", "TRASH", "notes"],
        "an empty era went"
    );
    assert_eq!(purge(&store, &dropped), Purged { files: 0, bytes: 0, complete: false });
    assert_eq!(store.dropped_databases().unwrap(), [dropped]);
}

fn links_in_place_of_directories_are_not_followed<B: Bed>(bed: &B) {
    let store = bed.store_for(5);
    let payload = commit(&bed.store(), 1, b"x");
    let inside = payload.id.file_name();
    bed.plant(&format!("elsewhere/{inside}"), b"theirs");
    bed.plant(&format!("elsewhere/00/{inside}"), b"theirs");
    bed.plant_link(&format!("{DATABASE}/000000000007"));
    bed.fs().rmdir(&format!("{DATABASE}/TRASH")).unwrap();
    bed.plant_link(&format!("{DATABASE}/TRASH"));
    bed.plant_link(&format!("{}/{:016x}{}", DATABASE.to_string() + "/000000000000", 9, &inside[16..]));
    let dropped = drop_database(&store);
    let purged = purge(&store, &dropped);
    assert_eq!((purged.files, purged.complete), (1, false));
    assert_eq!(names(&bed.fs(), &path(&dropped)), ["000000000000", "000000000007", "TRASH"]);
    for path in [format!("elsewhere/{inside}"), format!("elsewhere/00/{inside}")] {
        assert_eq!(bed.fs().stat(&path).unwrap().len, 6, "{path}");
    }
}

fn a_purge_removes_unfinished_copies_too<B: Bed>(bed: &B) {
    commit(&bed.store(), 1, b"x");
    bed.plant(&format!("{DATABASE}/TRASH/{}", copy_name(uuid::Uuid::from_u128(7))), b"half");
    let dropped = drop_database(&bed.store());
    assert_eq!(purge(&bed.store(), &dropped), Purged { files: 2, bytes: 5, complete: true });
}

fn a_link_in_place_of_a_dropped_database_is_not_followed<B: Bed>(bed: &B) {
    let payload = commit(&bed.store(), 1, b"x");
    let dropped = DroppedDatabase { oid: DATABASE, trashed_at: day() };
    bed.plant_link(&path(&dropped));
    let store = bed.store_for(5);
    assert_eq!(store.dropped_databases().unwrap(), []);
    assert!(store.purge_database(&dropped, &mut || ()).is_err());
    assert_eq!(read(&bed.store(), &payload).unwrap(), b"x");
    assert!(store.trash_database(DATABASE, day()).unwrap(), "under the next name");
    assert_eq!(store.dropped_databases().unwrap().len(), 1);
}

#[test]
fn concurrent_purges_count_each_file_once() {
    for _ in 0..10 {
        let bed = OsBed::new();
        let store = bed.store();
        let mut pending = rbytea_store::Pending::new();
        for birth in 0..200_u64 {
            crate::support::write(&store, (birth % 2) << 16, b"12345", &mut pending).unwrap();
        }
        let dropped = drop_database(&store);
        let barrier = std::sync::Barrier::new(3);
        let purged = std::thread::scope(|scope| {
            let threads = [(); 3].map(|()| {
                scope.spawn(|| {
                    let store = bed.store_for(5);
                    barrier.wait();
                    purge(&store, &dropped)
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(purged.iter().map(|purged| purged.files).sum::<u64>(), 200);
        assert_eq!(purged.iter().map(|purged| purged.bytes).sum::<u64>(), 1000);
        assert!(purged.iter().any(|purged| purged.complete));
        assert!(purge(&store, &dropped).complete);
    }
}

#[test]
fn of_concurrent_calls_that_trash_a_database_one_returns_true() {
    for _ in 0..50 {
        let bed = OsBed::new();
        bed.plant(&format!("{DATABASE}/other"), b"");
        let barrier = std::sync::Barrier::new(3);
        let trashed = std::thread::scope(|scope| {
            let threads = [(); 3].map(|()| {
                scope.spawn(|| {
                    let store = bed.store_for(5);
                    barrier.wait();
                    store.trash_database(DATABASE, day()).unwrap()
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(trashed.iter().filter(|trashed| **trashed).count(), 1);
        assert_eq!(bed.store().dropped_databases().unwrap().len(), 1);
    }
}
