//! Which payloads recovery had no room for, and needs.

use rbytea_store::PayloadId;
use rbytea_store::record::{Event, Record};
use rbytea_store::room::{Beginning, Lsn, Room};
use uuid::Uuid;

const DATABASE: u32 = 5;
const OTHER: u32 = 6;

fn id(n: u64) -> PayloadId {
    PayloadId { birth: n, uuid: Uuid::from_u128(u128::from(n)) }
}

fn of(database: u32, event: Event<'_>) -> Record<'_> {
    Record { database, event }
}

fn put(database: u32, n: u64, offset: u64, last: bool) -> Record<'static> {
    of(database, Event::Put { id: id(n), offset, bytes: b"piece", last })
}

/// A payload of one piece, at this place, has no room.
fn lacks(room: &mut Room, database: u32, n: u64, place: Lsn) {
    let beginning = room.beginning(&put(database, n, 0, true), place);
    assert_eq!(beginning, Beginning { place, offset: 0 });
    room.lacks(database, id(n), beginning);
}

/// Followed in their order.
fn follow(room: &mut Room, records: &[Record<'_>]) {
    records.iter().for_each(|record| room.follow(record));
}

#[test]
fn a_payload_without_room_is_needed_by_the_checkpoints_behind_its_beginning() {
    let mut room = Room::default();
    assert_eq!(room.at_checkpoint(Lsn::MAX), 0);
    lacks(&mut room, DATABASE, 1, 100);
    assert_eq!([100, 101, Lsn::MAX].map(|before| room.at_checkpoint(before)), [0, 1, 1]);
    assert!(room.is_lacking(&put(DATABASE, 1, 5, true)), "the rest of it would make a file with a hole");
    assert!(!room.is_lacking(&put(OTHER, 1, 0, true)) && !room.is_lacking(&put(DATABASE, 2, 0, true)));
}

#[test]
fn a_payload_of_pieces_begins_with_the_first_one_that_was_replayed() {
    let mut room = Room::default();
    let mut at = |n, offset, last, place| room.beginning(&put(DATABASE, n, offset, last), place);
    // Redo may begin in the middle of it.
    assert_eq!(at(1, 10, false, 100), Beginning { place: 100, offset: 10 });
    assert_eq!(at(2, 0, false, 110), Beginning { place: 110, offset: 0 });
    assert_eq!(at(1, 20, false, 120), Beginning { place: 100, offset: 10 });
    assert_eq!(at(1, 30, true, 130), Beginning { place: 100, offset: 10 });
    assert_eq!(at(2, 5, true, 140), Beginning { place: 110, offset: 0 });
    assert_eq!(at(1, 0, true, 150), Beginning { place: 150, offset: 0 }, "it has ended");
}

/// A restartpoint may have been made of it: the pieces before it are not replayed again, and must not be cut off.
#[test]
fn a_payload_begins_behind_the_last_checkpoint() {
    let mut room = Room::default();
    let piece = |offset, last| put(DATABASE, 1, offset, last);
    room.beginning(&piece(0, false), 100);
    room.beginning(&put(DATABASE, 2, 0, false), 120);
    assert_eq!(room.at_checkpoint(110), 0);
    assert_eq!(room.beginning(&piece(10, true), 130), Beginning { place: 130, offset: 10 });
    assert_eq!(room.beginning(&put(DATABASE, 2, 5, true), 140), Beginning { place: 120, offset: 0 });
}

#[test]
fn what_is_purged_or_dropped_is_not_needed() {
    let mut room = Room::default();
    (1..=3).for_each(|n| lacks(&mut room, DATABASE, n, n));
    lacks(&mut room, OTHER, 1, 4);
    let purge = |n| of(DATABASE, Event::Purge { horizon: 9, ids: vec![id(n)] });
    follow(&mut room, &[purge(1), purge(7)]);
    assert_eq!(room.at_checkpoint(Lsn::MAX), 3);
    follow(&mut room, &[of(DATABASE, Event::Drop { trashed_at: 1 })]);
    assert_eq!(room.at_checkpoint(Lsn::MAX), 1, "those of the other database stay");
    assert!(room.is_lacking(&put(OTHER, 1, 5, true)));
}

/// The rest of a statement that has failed took the room that it gave back.
#[test]
fn what_was_given_up_is_not_needed() {
    let mut room = Room::default();
    lacks(&mut room, DATABASE, 1, 1);
    room.beginning(&put(DATABASE, 2, 0, false), 2);
    let abandon = |n| of(DATABASE, Event::Abandon { id: id(n) });
    follow(&mut room, &[of(OTHER, Event::Clone { source: DATABASE, ids: vec![id(1)] })]);
    assert!(!room.is_lacking(&abandon(1)), "its file is emptied");
    follow(&mut room, &[abandon(1), abandon(2), of(OTHER, Event::Abandon { id: id(3) })]);
    assert_eq!(room.at_checkpoint(Lsn::MAX), 0);
    assert_eq!(room.beginning(&put(DATABASE, 2, 0, true), 9).place, 9, "it is not begun any more");
}

/// A database may have the OID of one that was dropped before.
#[test]
fn the_purge_of_a_dropped_database_is_not_about_one_that_has_its_oid() {
    let mut room = Room::default();
    follow(&mut room, &[of(DATABASE, Event::Drop { trashed_at: 1 })]);
    lacks(&mut room, DATABASE, 1, 1);
    follow(&mut room, &[of(DATABASE, Event::PurgeDropped { trashed_at: 1 })]);
    assert_eq!(room.at_checkpoint(Lsn::MAX), 1);
}

/// It has no bytes of its own in the WAL.
#[test]
fn a_clone_needs_what_its_source_lacks() {
    let mut room = Room::default();
    lacks(&mut room, DATABASE, 1, 100);
    let clone = |source, n| Event::Clone { source, ids: vec![id(n), id(9)] };
    follow(&mut room, &[of(OTHER, clone(DATABASE, 1)), of(7, clone(OTHER, 1))]);
    follow(&mut room, &[of(DATABASE, Event::Drop { trashed_at: 1 })]);
    assert_eq!(
        [100, 101].map(|before| room.at_checkpoint(before)),
        [0, 2],
        "a checkpoint forgets the source's"
    );
    follow(&mut room, &[of(OTHER, Event::Purge { horizon: 9, ids: vec![id(1)] })]);
    assert_eq!(room.at_checkpoint(Lsn::MAX), 1);
}
