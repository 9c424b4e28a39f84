//! Uploads: a payload that is uploaded and synced reads back, an aborted one does not.

use crate::support::{
    DATABASE, OTHER, Place, US, get, live, no_interrupts, on_every_backend, put, sync, upload,
};
use rbytea_store::{Kind, PayloadId};
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
