//! The setup of a scenario: rows and files that are there, durably, before its action.

use super::actions::{collect, create_database, sweep};
use crate::clone::CLONE;
use crate::support::DATABASE;
use crate::sync_points::vacuum::day;
use crate::sync_points::world::{Event, Session, World, places};
use rbytea_store::file::SYNCFS_FROM;
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Writer};

pub fn nothing(_: &mut World) {}

/// Rows in two eras.
pub fn some_rows(world: &mut World) {
    let mut session = Session::new(world);
    for birth in [1, 1 << 16] {
        session.insert(birth, b"an earlier row", None).unwrap();
        session.commit(world).unwrap();
    }
}

/// Deletes rows from the first one on.
pub fn delete(world: &mut World, rows: usize) {
    world.record_all((0..rows).map(Event::Deleted).collect());
}

/// A row in each of two eras, and garbage: deleted, rolled back, abandoned. One era has nothing else.
pub fn garbage(world: &mut World) {
    let mut session = Session::new(world);
    for birth in [1, 2 << 16, 3] {
        session.insert(birth, b"a row that goes", None).unwrap();
    }
    session.commit(world).unwrap();
    delete(world, 3);
    some_rows(world);
    session.insert(4, b"rolled back", None).unwrap();
    session.rollback();
    Writer::begin(session.store(), 5, None).unwrap().write(b"abandoned").unwrap();
    session.rollback();
}

/// More directories than make a syncfs.
pub fn much_garbage(world: &mut World) {
    let mut session = Session::new(world);
    for birth in 1..SYNCFS_FROM + 4 {
        session.insert(birth << 16, b"a row that goes", None).unwrap();
    }
    session.commit(world).unwrap();
    delete(world, SYNCFS_FROM as usize + 3);
    some_rows(world);
}

/// Three payloads in TRASH that no row refers to, and rows.
pub fn garbage_in_trash(world: &mut World) {
    let mut session = Session::new(world);
    for birth in [1, 2 << 16, 3] {
        session.insert(birth, b"in TRASH", None).unwrap();
    }
    session.commit(world).unwrap();
    delete(world, 3);
    sweep(world, &mut session).unwrap();
    some_rows(world);
}

/// Rows whose files are in TRASH, as when a recovery has brought the rows back; other garbage, in TRASH and not.
pub fn rows_in_trash(world: &mut World) {
    garbage_in_trash(world);
    let mut session = Session::new(world);
    let mut moves = session.store().moves();
    for birth in [7, 7, 3 << 16] {
        session.insert(birth, b"a row that came back", None).unwrap();
    }
    for row in session.commit(world).unwrap() {
        moves.trash(&world.rows[row].payload.id, day(1)).unwrap();
        world.rows[row].was_in_trash = true;
    }
    session.insert(7, b"rolled back", None).unwrap();
    moves.sync().unwrap();
    session.rollback();
}

/// Garbage, and a row's file, in LIVE and in TRASH, as in a copy of the store that was made while the file was moved.
pub fn two_files_of_a_name(world: &mut World) {
    garbage(world);
    for row in [0, 3] {
        let [live, trash] = places(DATABASE, &world.rows[row].payload.id);
        world.fs.plant(&trash, &world.fs.peek(&live).unwrap());
    }
    settle(world);
}

/// Each file with hard links in LIVE and in TRASH, as a crash leaves it in the middle of a move.
pub fn two_links_of_a_file(world: &mut World) {
    garbage_in_trash(world);
    for row in 0..world.rows.len() {
        let [live, trash] = places(DATABASE, &world.rows[row].payload.id);
        for (from, to) in [(&live, &trash), (&trash, &live)] {
            let _ = world.fs.mkdir(to.rsplit('/').nth(2).unwrap());
            let (leaf, _) = to.rsplit_once('/').unwrap();
            let _ = leaf.rsplit_once('/').map(|(era, _)| world.fs.mkdir(era));
            let _ = world.fs.mkdir(leaf);
            let _ = world.fs.hard_link(from, to);
        }
    }
    settle(world);
}

/// Makes the whole disk durable.
pub fn settle(world: &mut World) {
    let handle = world.fs.open_sync_handle().unwrap();
    handle.iter().for_each(|handle| world.fs.syncfs(handle).unwrap());
}

/// A database that has only some of its template's files.
pub fn half_a_clone(world: &mut World) {
    rows_in_trash(world);
    world.record(Event::Created(CLONE));
    let id = world.rows[3].payload.id;
    let mut calls = 0;
    let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Session::of(world, CLONE).store().clone_database(DATABASE, &mut |_| {
            calls += 1;
            if calls == 4 {
                std::panic::resume_unwind(Box::new("cancel"));
            }
        })
    }));
    assert!(interrupted.is_err(), "{id:?} and others were to be cloned");
}

/// A database with files of its own and its template's.
pub fn dropped(world: &mut World) {
    let mut session = Session::new(world);
    create_database(world, &mut session).unwrap();
    some_rows(world);
    create_database(world, &mut session).unwrap();
    let mut other = Session::of(world, CLONE);
    other.insert(9, b"of the dropped database", None).unwrap();
    other.commit(world).unwrap();
    world.record(Event::Dropped(CLONE));
}

pub fn dropped_and_trashed(world: &mut World) {
    dropped(world);
    let mut session = Session::new(world);
    collect(world, &mut session).unwrap();
}
