//! Uploads: a payload that is uploaded and synced reads back, an aborted one does not.

use crate::support::{
    DATABASE, OTHER, Place, THEM, US, day, get, live, move_to_trash, no_interrupts, on_every_backend, put,
    sync, trash, upload,
};
use rbytea_store::{Backend, Kind, PayloadId, SourceFile};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use uuid::Uuid;

on_every_backend! {
    an_uploaded_payload_reads_back
    an_empty_payload_is_a_payload
    any_range_reads_back
    every_upload_has_an_id_of_its_own
    an_upload_outlives_the_store_that_began_it
    a_batch_is_synced_by_a_store_that_was_opened_later
    an_aborted_upload_is_garbage
    a_batch_holds_a_bounded_number_of_descriptors
    a_batch_belongs_to_one_store
    a_sync_can_be_interrupted
    a_payload_that_was_never_uploaded_is_not_found
    a_file_is_taken_over_under_the_identity_that_is_given
    a_payload_that_is_taken_over_twice_is_one_payload
    a_taken_payload_is_as_durable_and_as_movable_as_an_uploaded_one
    what_is_taken_over_and_given_up_leaves_the_source_as_it_was
    another_cluster_takes_nothing_over
    taking_over_can_be_interrupted
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn an_uploaded_payload_reads_back(place: &dyn Place) {
    let store = place.open();
    for len in [1, 16, 4096, 262_144, 1_000_003] {
        let id = put(&*store, 70_000, &sample(len));
        assert_eq!((id.birth, id.uuid.get_version_num()), (70_000, 4));
        assert_eq!(get(&*place.open(), &id), Some((sample(len), false)), "{len}");
        assert_eq!(store.size(&id).unwrap(), Some(len as u64));
        let located = store.locate(&id).unwrap().unwrap();
        assert_eq!((located.len, located.in_trash, located.as_given), (Some(len as u64), false, true));
        assert_eq!(located.path, store.live_path(&id));
    }
}

fn an_empty_payload_is_a_payload(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"");
    assert_eq!(get(&*store, &id), Some((vec![], false)));
    assert!(store.open(&id).unwrap().unwrap().is_empty().unwrap());
}

fn any_range_reads_back(place: &dyn Place) {
    let store = place.open();
    let bytes = sample(5000);
    let stored = store.open(&put(&*store, 1, &bytes)).unwrap().unwrap();
    for (offset, len) in [(0, 1), (4999, 1), (1, 4999), (1234, 3000)] {
        let mut part = vec![0; len];
        let mut filled = 0;
        while filled < len {
            filled += stored.read_at((offset + filled) as u64, &mut part[filled..]).unwrap();
        }
        assert_eq!(part, bytes[offset..offset + len]);
    }
    assert_eq!(stored.read_at(5000, &mut [0; 10]).unwrap(), 0, "the end");
}

fn every_upload_has_an_id_of_its_own(place: &dyn Place) {
    let store = place.open();
    let mut ids: Vec<_> = (0..50).map(|_| put(&*store, 7, b"the same bytes")).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

fn an_upload_outlives_the_store_that_began_it(place: &dyn Place) {
    let mut begun = place.open().begin(1, None).unwrap();
    begun.append(b"begun here, ").unwrap();
    let (id, mut batch) = (begun.id(), None);
    begun.append(b"ended there").unwrap();
    begun.finish(&mut batch).unwrap();
    sync(&*place.open(), &mut batch);
    assert_eq!(get(&*place.open(), &id), Some((b"begun here, ended there".into(), false)));
}

fn a_batch_is_synced_by_a_store_that_was_opened_later(place: &dyn Place) {
    let mut batch = None;
    let ids = [1, 2 << 16].map(|birth| {
        // Each through a handle of its own, as a transaction does that opens its store anew.
        let upload = upload(&*place.open(), birth, b"x");
        let id = upload.id();
        upload.finish(&mut batch).unwrap();
        id
    });
    assert_eq!(batch.as_ref().unwrap().uploads(), 2);
    sync(&*place.open(), &mut batch);
    assert_eq!(live(&*place.open()), ids);
}

fn an_aborted_upload_is_garbage(place: &dyn Place) {
    let store = place.open();
    let aborted = upload(&*store, 1, &sample(300_000));
    let id = aborted.id();
    drop(aborted);
    // The backend may keep an empty payload, but none of its bytes.
    assert!(get(&*store, &id).is_none_or(|(bytes, _)| bytes.is_empty()));
    let kept = put(&*store, 1, b"another one of the same transaction");
    assert!(get(&*store, &kept).is_some());
}

fn a_batch_holds_a_bounded_number_of_descriptors(place: &dyn Place) {
    let store = place.open();
    let mut batch = None;
    let ids: Vec<_> = (0..200)
        .map(|n: u32| {
            let upload = upload(&*store, 1, &n.to_le_bytes());
            let id = upload.id();
            upload.finish(&mut batch).unwrap();
            assert!(batch.as_ref().unwrap().descriptors() < 64);
            id
        })
        .collect();
    assert_eq!(batch.as_ref().unwrap().uploads(), 200);
    sync(&*store, &mut batch);
    for (n, id) in (0u32..).zip(&ids) {
        assert_eq!(get(&*store, id), Some((n.to_le_bytes().into(), false)));
    }
}

fn a_batch_belongs_to_one_store(place: &dyn Place) {
    let (store, other) = (place.open(), place.open_as(US, OTHER));
    let mut batch = None;
    upload(&*store, 1, b"here").finish(&mut batch).unwrap();
    let there = upload(&*other, 1, b"there");
    assert_eq!(there.finish(&mut batch).unwrap_err().kind(), Kind::Unsupported);
    let batch = &mut **batch.as_mut().unwrap();
    assert_eq!(batch.uploads(), 1, "the batch is as it was");
    assert_eq!(other.sync(batch, &mut no_interrupts()).unwrap_err().kind(), Kind::Unsupported);
    store.sync(batch, &mut no_interrupts()).unwrap();
    assert_eq!(live(&*place.open_as(US, DATABASE)).len(), 1);
}

fn a_sync_can_be_interrupted(place: &dyn Place) {
    let store = place.open();
    let mut batch = None;
    upload(&*store, 1, b"x").finish(&mut batch).unwrap();
    let mut batch = batch.unwrap();
    let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.sync(&mut *batch, &mut || std::panic::resume_unwind(Box::new("cancelled")))
    }));
    assert!(interrupted.is_err(), "interrupts was not called");
    put(&*store, 2, b"the store can be used as before");
}

fn a_payload_that_was_never_uploaded_is_not_found(place: &dyn Place) {
    let store = place.open();
    let id = PayloadId { birth: 1, uuid: Uuid::from_u128(1) };
    for _ in 0..2 {
        assert!(store.open(&id).unwrap().is_none());
        assert_eq!((store.locate(&id).unwrap(), store.size(&id).unwrap()), (None, None));
        put(&*store, 1, b"something else");
    }
}

/// A file of these bytes, with the mode that files of a store have, in a directory that goes with it.
fn source(bytes: &[u8]) -> (TempDir, SourceFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let source = SourceFile::open(path).unwrap().unwrap();
    (dir, source)
}

fn given(birth: u64) -> PayloadId {
    PayloadId { birth, uuid: Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef) }
}

/// Takes a file over durably.
fn take(store: &dyn Backend, id: PayloadId, source: &SourceFile) {
    let upload = store.take_over(id, source, &mut no_interrupts()).unwrap();
    assert_eq!(upload.id(), id);
    let mut batch = None;
    upload.finish(&mut batch).unwrap();
    sync(store, &mut batch);
}

fn a_file_is_taken_over_under_the_identity_that_is_given(place: &dyn Place) {
    for (birth, len) in [(1, 0), (2, 1), (3, 262_144), (70_000, 1_000_003)] {
        let (_dir, source) = source(&sample(len));
        let store = place.open();
        take(&*store, given(birth), &source);
        assert_eq!(get(&*place.open(), &given(birth)), Some((sample(len), false)), "{len}");
        assert_eq!(store.size(&given(birth)).unwrap(), Some(len as u64));
        assert!(live(&*store).contains(&given(birth)));
    }
}

fn a_payload_that_is_taken_over_twice_is_one_payload(place: &dyn Place) {
    let (_dir, source) = source(&sample(5000));
    let store = place.open();
    take(&*store, given(7), &source);
    take(&*store, given(7), &source);
    assert_eq!(live(&*store), [given(7)]);
    assert_eq!(get(&*store, &given(7)), Some((sample(5000), false)));
    // Under another birth, or in another database, it is another payload.
    take(&*store, given(8), &source);
    take(&*place.open_as(US, OTHER), given(7), &source);
    assert_eq!(live(&*store).len(), 2);
}

fn a_taken_payload_is_as_durable_and_as_movable_as_an_uploaded_one(place: &dyn Place) {
    let (dir, source) = source(&sample(5000));
    let store = place.open();
    take(&*store, given(7), &source);
    drop(dir);
    assert_eq!(
        get(&*place.open(), &given(7)),
        Some((sample(5000), false)),
        "the source is gone, the payload is not"
    );
    move_to_trash(&*store, &[given(7)], day(1));
    assert_eq!((live(&*store), trash(&*store)), (vec![], vec![given(7)]));
    assert_eq!(get(&*store, &given(7)), Some((sample(5000), true)));
    store.restore(&given(7)).unwrap();
    assert_eq!(get(&*store, &given(7)), Some((sample(5000), false)));
}

fn what_is_taken_over_and_given_up_leaves_the_source_as_it_was(place: &dyn Place) {
    let (_dir, source) = source(&sample(300_000));
    let store = place.open();
    drop(store.take_over(given(7), &source, &mut no_interrupts()).unwrap());
    let mut batch = None;
    store.take_over(given(8), &source, &mut no_interrupts()).unwrap().finish(&mut batch).unwrap();
    drop(batch);
    move_to_trash(&*store, &[given(8)], day(1));
    assert_eq!(fs::read(&source.path).unwrap(), sample(300_000), "the other store has lost a payload");
    put(&*store, 9, b"the store can be used as before");
}

fn another_cluster_takes_nothing_over(place: &dyn Place) {
    put(&*place.open(), 1, b"claims the store");
    let (_dir, source) = source(b"x");
    let refused = place.open_as(THEM, DATABASE).take_over(given(7), &source, &mut no_interrupts());
    assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::NotOwner));
}

fn taking_over_can_be_interrupted(place: &dyn Place) {
    let (_dir, source) = source(&sample(1_000_000));
    // A copy, which takes time.
    fs::set_permissions(&source.path, Permissions::from_mode(0o640)).unwrap();
    let source = SourceFile::open(source.path).unwrap().unwrap();
    let store = place.open();
    let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.take_over(given(7), &source, &mut || std::panic::resume_unwind(Box::new("cancelled")))
    }));
    assert!(interrupted.is_err(), "interrupts was not called");
    assert!(get(&*store, &given(7)).is_none_or(|(bytes, _)| bytes.is_empty()));
    assert_eq!(fs::read(&source.path).unwrap(), sample(1_000_000));
    // The next transaction has another birth.
    take(&*store, given(8), &source);
    assert_eq!(get(&*store, &given(8)), Some((sample(1_000_000), false)));
}
