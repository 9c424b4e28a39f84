//! LIVE and TRASH: a moved payload is readable in either, can be restored, and is deleted from TRASH alone.

use crate::support::{Place, day, get, live, move_to_trash, on_every_backend, put, trash};
use rbytea_store::{Backend, PayloadId, Restored, Trashed};
use uuid::Uuid;

on_every_backend! {
    a_payload_in_trash_reads_back
    a_payload_in_trash_has_the_date_of_its_move
    a_date_in_trash_never_becomes_earlier
    only_live_payloads_are_trashed
    a_trashed_payload_can_be_restored
    only_payloads_in_trash_are_deleted
    an_open_payload_is_read_to_its_end_although_it_is_moved_and_purged
    an_era_that_was_swept_can_be_written_to_again
    a_payload_that_is_trashed_and_restored_concurrently_is_always_found
}

fn a_payload_in_trash_reads_back(place: &dyn Place) {
    let store = place.open();
    let (kept, garbage) = (put(&*store, 1, b"kept"), put(&*store, 1, b"garbage"));
    move_to_trash(&*store, &[garbage], day(1));
    let store = place.open();
    assert_eq!((live(&*store), trash(&*store)), (vec![kept], vec![garbage]));
    assert_eq!(get(&*store, &garbage), Some((b"garbage".into(), true)));
    assert_eq!(store.size(&garbage).unwrap(), None, "it is not LIVE");
    let located = store.locate(&garbage).unwrap().unwrap();
    assert_eq!((located.len, located.in_trash), (Some(7), true));
    assert_eq!(store.count_trash().unwrap(), 1);
}

fn dates(store: &dyn Backend) -> Vec<(PayloadId, u64, std::time::SystemTime)> {
    let mut dates = Vec::new();
    store
        .list_trash(&mut |id, entry| {
            dates.push((id, entry.len, entry.trashed_at));
            Ok(())
        })
        .unwrap();
    dates
}

fn a_payload_in_trash_has_the_date_of_its_move(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"twelve bytes");
    move_to_trash(&*store, &[id], day(5));
    assert_eq!(dates(&*store), [(id, 12, day(5))]);
}

fn a_date_in_trash_never_becomes_earlier(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"x");
    for (date, expected) in [(5, 5), (3, 5), (9, 9)] {
        move_to_trash(&*store, &[id], day(date));
        assert_eq!(dates(&*store), [(id, 1, day(expected))]);
        store.restore(&id).unwrap();
    }
}

fn only_live_payloads_are_trashed(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"seven b");
    let nowhere = PayloadId { birth: 1, uuid: Uuid::from_u128(1) };
    let mut moves = store.moves();
    assert_eq!(moves.trash(&nowhere, day(1)).unwrap(), Trashed::Gone);
    assert_eq!(moves.trash(&id, day(1)).unwrap(), Trashed::Moved { len: 7 });
    assert_eq!(moves.trash(&id, day(1)).unwrap(), Trashed::Gone);
    moves.sync().unwrap();
    assert_eq!(trash(&*store), [id]);
}

fn a_trashed_payload_can_be_restored(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"x");
    assert_eq!(store.restore(&id).unwrap(), Restored::WasLive);
    move_to_trash(&*store, &[id], day(1));
    assert_eq!(place.open().restore(&id).unwrap(), Restored::Restored);
    assert_eq!((live(&*store), trash(&*store)), (vec![id], vec![]));
    assert_eq!(get(&*store, &id), Some((b"x".into(), false)));
    assert_eq!(store.restore(&PayloadId { birth: 2, ..id }).unwrap(), Restored::Missing);
}

fn only_payloads_in_trash_are_deleted(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"seven b");
    let mut moves = store.moves();
    assert_eq!(moves.purge(&id).unwrap(), None);
    moves.sync().unwrap();
    assert!(get(&*store, &id).is_some(), "what is LIVE was deleted");
    move_to_trash(&*store, &[id], day(1));
    let mut moves = store.moves();
    assert_eq!(moves.purge(&id).unwrap(), Some(7));
    assert_eq!(moves.purge(&id).unwrap(), None);
    moves.sync().unwrap();
    assert_eq!((get(&*place.open(), &id), store.restore(&id).unwrap()), (None, Restored::Missing));
}

fn an_open_payload_is_read_to_its_end_although_it_is_moved_and_purged(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"still here");
    let stored = store.open(&id).unwrap().unwrap();
    move_to_trash(&*store, &[id], day(1));
    let mut moves = store.moves();
    moves.purge(&id).unwrap();
    moves.sync().unwrap();
    let mut bytes = [0; 10];
    assert_eq!((stored.read_at(0, &mut bytes).unwrap(), &bytes), (10, b"still here"));
}

fn an_era_that_was_swept_can_be_written_to_again(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"x");
    store.era_swept(0).unwrap();
    assert_eq!(live(&*store), [id], "an era with payloads keeps them");
    move_to_trash(&*store, &[id], day(1));
    for _ in 0..2 {
        store.era_swept(0).unwrap();
    }
    assert_eq!(store.restore(&id).unwrap(), Restored::Restored);
    let more = put(&*place.open(), 2, b"y");
    assert_eq!(live(&*store).len(), 2);
    assert!(get(&*store, &more).is_some());
}

/// One thread moves, the other one reads: at every moment the payload is LIVE or in TRASH.
fn a_payload_that_is_trashed_and_restored_concurrently_is_always_found(place: &dyn Place) {
    let store = place.open();
    let id = put(&*store, 1, b"x");
    for step in 0..50 {
        let stored = store.open(&id).unwrap();
        assert!(stored.is_some() && store.locate(&id).unwrap().is_some(), "{step}");
        if step % 2 == 0 {
            move_to_trash(&*store, &[id], day(step));
        } else {
            assert_eq!(store.restore(&id).unwrap(), Restored::Restored);
        }
    }
}
