//! One cluster owns a store (I9).

use crate::support::{DATABASE, PROMOTED, Place, THEM, US, get, live, on_every_backend, put};
use rbytea_store::Kind;

on_every_backend! {
    the_first_writer_owns_the_store
    another_cluster_reads_and_neither_writes_nor_moves
    a_promoted_standby_writes_and_does_not_move
    a_cluster_that_adopts_the_store_owns_it
    reading_does_not_claim_the_store
}

fn the_first_writer_owns_the_store(place: &dyn Place) {
    let store = place.open();
    assert_eq!(store.owner().unwrap(), None);
    store.check_owner().unwrap();
    put(&*store, 1, b"x");
    assert_eq!(store.owner().unwrap(), Some(US));
    place.open().check_owner().unwrap();
    place.open().check_present().unwrap();
}

fn another_cluster_reads_and_neither_writes_nor_moves(place: &dyn Place) {
    let id = put(&*place.open(), 1, b"theirs");
    let other = place.open_as(THEM, DATABASE);
    assert_eq!(get(&*other, &id), Some((b"theirs".into(), false)));
    for error in [other.begin(1, None).map(drop).unwrap_err(), other.check_owner().unwrap_err()] {
        assert_eq!(error.kind(), Kind::NotOwner, "{error}");
    }
    assert_eq!(live(&*other), [id], "nothing was stored for what was refused");
}

fn a_promoted_standby_writes_and_does_not_move(place: &dyn Place) {
    put(&*place.open(), 1, b"x");
    let promoted = place.open_as(PROMOTED, DATABASE);
    put(&*promoted, 2, b"y");
    assert_eq!(promoted.check_owner().unwrap_err().kind(), Kind::NotOwner);
    promoted.check_present().unwrap();
    assert_eq!(promoted.owner().unwrap(), Some(US));
}

fn a_cluster_that_adopts_the_store_owns_it(place: &dyn Place) {
    let (store, promoted) = (place.open(), place.open_as(PROMOTED, DATABASE));
    put(&*store, 1, b"x");
    assert_eq!(promoted.adopt().unwrap(), Some(US));
    assert_eq!(promoted.adopt().unwrap(), Some(PROMOTED));
    promoted.check_owner().unwrap();
    assert_eq!(place.open().check_owner().unwrap_err().kind(), Kind::NotOwner);
}

fn reading_does_not_claim_the_store(place: &dyn Place) {
    let store = place.open();
    store.check_owner().unwrap();
    store.check_present().unwrap();
    live(&*store);
    store.begin_moves().unwrap();
    assert_eq!(store.owner().unwrap(), None);
}
