//! Databases that share a store: each has a part of its own, one can be made from another, and a dropped one goes as
//! a whole.

use crate::support::{
    DATABASE, OTHER, Place, US, day, get, live, move_to_trash, on_every_backend, put, trash,
};
use rbytea_store::Cloned;
use std::time::SystemTime;

on_every_backend! {
    each_database_has_its_own_payloads
    a_clone_has_every_payload_where_it_was
    a_clone_can_be_made_again
    neither_database_of_a_clone_takes_a_payload_from_the_other
    a_dropped_database_is_put_aside_and_deleted
    leftovers_of_crashes_can_be_removed_at_any_time
}

fn each_database_has_its_own_payloads(place: &dyn Place) {
    let (store, other) = (place.open(), place.open_as(US, OTHER));
    let id = put(&*store, 1, b"here");
    assert_eq!((live(&*store), live(&*other)), (vec![id], vec![]));
    assert_eq!(get(&*other, &id), None);
    assert_eq!((other.elsewhere(&id).unwrap(), store.elsewhere(&id).unwrap()), (Some(DATABASE), None));
    move_to_trash(&*store, &[id], day(1));
    assert_eq!(other.elsewhere(&id).unwrap(), Some(DATABASE), "in TRASH there");
    put(&*other, 1, b"there");
    assert_eq!(store.databases().unwrap(), [DATABASE, OTHER]);
}

fn a_clone_has_every_payload_where_it_was(place: &dyn Place) {
    let (store, clone) = (place.open(), place.open_as(US, OTHER));
    let ids: Vec<_> = (0..20).map(|n: u64| put(&*store, n << 14, &n.to_le_bytes())).collect();
    move_to_trash(&*store, &ids[..5], day(1));
    let Cloned { linked, copied, present } = clone.clone_database(DATABASE, &mut |_| ()).unwrap();
    assert_eq!((linked + copied, present), (20, 0));
    assert_eq!((live(&*clone), trash(&*clone)), (live(&*store), trash(&*store)));
    for (n, id) in (0u64..).zip(&ids) {
        assert_eq!(get(&*clone, id), Some((n.to_le_bytes().into(), n < 5)));
    }
    assert_eq!(clone.clone_database(4711, &mut |_| ()).unwrap(), Cloned::default(), "no such database");
}

fn a_clone_can_be_made_again(place: &dyn Place) {
    let (store, clone) = (place.open(), place.open_as(US, OTHER));
    put(&*store, 1, b"x");
    clone.clone_database(DATABASE, &mut |_| ()).unwrap();
    put(&*store, 2, b"y");
    let Cloned { linked, copied, present } = clone.clone_database(DATABASE, &mut |_| ()).unwrap();
    assert_eq!((linked + copied, present), (1, 1));
}

fn neither_database_of_a_clone_takes_a_payload_from_the_other(place: &dyn Place) {
    let (store, clone) = (place.open(), place.open_as(US, OTHER));
    let ids = [put(&*store, 1, b"x"), put(&*store, 1, b"y")];
    clone.clone_database(DATABASE, &mut |_| ()).unwrap();
    for (one, other, id) in [(&store, &clone, ids[0]), (&clone, &store, ids[1])] {
        move_to_trash(&**one, &[id], day(1));
        let mut moves = one.moves();
        assert!(moves.purge(&id).unwrap().is_some());
        moves.sync().unwrap();
        assert!(get(&**one, &id).is_none());
        assert!(get(&**other, &id).is_some(), "the other database has lost its payload");
    }
}

fn a_dropped_database_is_put_aside_and_deleted(place: &dyn Place) {
    let (store, dropped) = (place.open(), place.open_as(US, OTHER));
    let id = put(&*store, 1, b"kept");
    let gone = [put(&*dropped, 1, b"seven b"), put(&*dropped, 1, b"seven c")];
    move_to_trash(&*dropped, &gone[..1], day(1));
    assert!(store.trash_database(OTHER, day(2)).unwrap());
    assert!(!store.trash_database(OTHER, day(2)).unwrap());
    assert_eq!(store.databases().unwrap(), [DATABASE]);
    assert_eq!((live(&*place.open_as(US, OTHER)), store.elsewhere(&gone[0]).unwrap()), (vec![], None));
    let listed = store.dropped_databases().unwrap();
    let [aside] = listed[..] else { panic!("{listed:?}") };
    assert_eq!((aside.oid, aside.trashed_at), (OTHER, day(2)));
    let purged = store.purge_database(&aside, &mut || ()).unwrap();
    assert_eq!((purged.files, purged.bytes, purged.complete), (2, 14, true));
    assert_eq!((store.dropped_databases().unwrap(), live(&*store)), (vec![], vec![id]));
}

fn leftovers_of_crashes_can_be_removed_at_any_time(place: &dyn Place) {
    let store = place.open();
    store.remove_leftovers(SystemTime::now()).unwrap();
    let ids = [put(&*store, 1, b"x"), put(&*store, 1, b"y")];
    move_to_trash(&*store, &ids[..1], day(1));
    store.remove_leftovers(SystemTime::now()).unwrap();
    assert_eq!((live(&*store), trash(&*store)), (vec![ids[1]], vec![ids[0]]), "payloads are no leftovers");
}
