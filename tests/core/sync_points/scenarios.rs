//! What the store is used for, each use as one scenario: what was there before, and what is done while it fails or crashes.
//! A scenario can be tried again by the same process.

use super::vacuum::{Pass, collect_dropped, day, vacuum};
use super::world::{Event, Session, World, places};
use crate::clone::CLONE;
use crate::memfs::MemFs;
use crate::support::{DATABASE, KEYS, PROMOTED, config};
use rbytea::store::{Config, Fs, MAX_OPEN, Moves, Restored, Result, SYNCFS_FROM};
use std::collections::BTreeSet;

pub struct Scenario {
    pub name: &'static str,
    pub fs: fn() -> MemFs,
    pub before: fn(&mut World),
    pub act: fn(&mut World, &mut Session) -> Result<()>,
}

fn plain() -> MemFs {
    MemFs::new()
}

fn no_syncfs() -> MemFs {
    MemFs::new().without_syncfs()
}

fn no_links() -> MemFs {
    MemFs::new().without_links()
}

fn no_links_no_syncfs() -> MemFs {
    MemFs::new().without_links().without_syncfs()
}

const fn scenario(
    name: &'static str,
    fs: fn() -> MemFs,
    before: fn(&mut World),
    act: fn(&mut World, &mut Session) -> Result<()>,
) -> Scenario {
    Scenario { name, fs, before, act }
}

/// Transactions that write.
pub const WRITES: [Scenario; 13] = [
    scenario("the first insert", plain, nothing, insert_one),
    scenario("the first insert, without syncfs", no_syncfs, nothing, insert_one),
    scenario("an insert", plain, some_rows, insert_one),
    scenario("inserts in several directories", plain, some_rows, insert_several),
    scenario("a bulk insert", plain, some_rows, insert_many),
    scenario("a bulk insert without syncfs", no_syncfs, nothing, insert_many),
    scenario("an encrypted insert", plain, some_rows, insert_encrypted),
    scenario("a rollback", plain, some_rows, roll_back),
    scenario("a payload kept over a rollback", plain, nothing, keep_over_rollback),
    scenario("an abandoned payload", plain, some_rows, abandon),
    scenario("transactions side by side", no_syncfs, nothing, side_by_side),
    scenario("prepared transactions", plain, some_rows, prepare),
    scenario("one transaction after the other", no_syncfs, nothing, one_after_the_other),
];

/// Runs of the vacuum.
pub const VACUUMS: [Scenario; 7] = [
    scenario("vacuum", plain, garbage, sweep),
    scenario("vacuum of many directories", plain, much_garbage, sweep),
    scenario("vacuum of many directories without syncfs", no_syncfs, much_garbage, sweep),
    scenario("vacuum beside an insert", no_syncfs, garbage, sweep_and_insert),
    scenario("purge", plain, garbage_in_trash, purge),
    scenario("purge of a file with two names", plain, two_files_of_a_name, sweep_and_purge),
    scenario("vacuum of a file with two links", plain, two_links_of_a_file, sweep_and_purge),
];

/// Files that come back from TRASH.
pub const RESTORES: [Scenario; 3] = [
    scenario("a value from TRASH is stored", plain, garbage_in_trash, store_from_trash),
    scenario("a value from TRASH is stored, without syncfs", no_syncfs, garbage_in_trash, store_from_trash),
    scenario("the sweep brings marked files back", no_syncfs, rows_in_trash, sweep_and_purge),
];

/// Databases that are made from others, and dropped.
pub const DATABASES: [Scenario; 8] = [
    scenario("create database", plain, rows_in_trash, create_database),
    scenario("create database without syncfs", no_syncfs, rows_in_trash, create_database),
    scenario("create database without links", no_links, rows_in_trash, create_database),
    scenario("create database without links and syncfs", no_links_no_syncfs, rows_in_trash, create_database),
    scenario("the files of a template, later", plain, half_a_clone, clone_from),
    scenario("drop database", plain, dropped, collect),
    scenario("purge of a dropped database", plain, dropped_and_trashed, purge_dropped),
    scenario("an OID that is used again", plain, dropped, create_database),
];

/// Whose store it is.
pub const CLAIM: [Scenario; 1] = [scenario("a claim", plain, nothing, insert_one)];
pub const ADOPTION: [Scenario; 1] = [scenario("an adoption", plain, some_rows, adopt)];

fn nothing(_: &mut World) {}

/// Rows in two eras.
fn some_rows(world: &mut World) {
    let mut session = Session::new(world);
    for birth in [1, 1 << 16] {
        session.insert(birth, b"a row of before", None).unwrap();
        session.commit(world).unwrap();
    }
}

/// Deletes rows from the first one on.
fn delete(world: &mut World, rows: usize) {
    world.tell_all((0..rows).map(Event::Deleted).collect());
}

/// A row in each of two eras, and garbage: deleted, rolled back, abandoned. One era has nothing else.
fn garbage(world: &mut World) {
    let mut session = Session::new(world);
    for birth in [1, 2 << 16, 3] {
        session.insert(birth, b"a row that goes", None).unwrap();
    }
    session.commit(world).unwrap();
    delete(world, 3);
    some_rows(world);
    session.insert(4, b"rolled back", None).unwrap();
    session.rollback();
    session.store().create(5).unwrap().write(b"abandoned").unwrap();
    session.rollback();
}

/// More directories than make a syncfs.
fn much_garbage(world: &mut World) {
    let mut session = Session::new(world);
    for birth in 1..SYNCFS_FROM + 4 {
        session.insert(birth << 16, b"a row that goes", None).unwrap();
    }
    session.commit(world).unwrap();
    delete(world, SYNCFS_FROM as usize + 3);
    some_rows(world);
}

/// Three payloads in TRASH that no row refers to, and rows.
fn garbage_in_trash(world: &mut World) {
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
fn rows_in_trash(world: &mut World) {
    garbage_in_trash(world);
    let mut session = Session::new(world);
    let mut moves = Moves::new();
    for birth in [7, 7, 3 << 16] {
        session.insert(birth, b"a row that came back", None).unwrap();
    }
    for row in session.commit(world).unwrap() {
        session.store().trash(&world.rows[row].payload.id, day(1), &mut moves).unwrap();
        world.rows[row].was_in_trash = true;
    }
    session.insert(7, b"rolled back", None).unwrap();
    session.store().sync_moves(moves).unwrap();
    session.rollback();
}

/// As in a copy of the store that was made while a file was moved: of garbage, and of a row's file.
fn two_files_of_a_name(world: &mut World) {
    garbage(world);
    for row in [0, 3] {
        let [live, trash] = places(DATABASE, &world.rows[row].payload.id);
        world.fs.plant(&trash, &world.fs.peek(&live).unwrap());
    }
    settle(world);
}

/// As a crash leaves it in the middle of a move.
fn two_links_of_a_file(world: &mut World) {
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

/// Everything that there is now is durable.
fn settle(world: &mut World) {
    let handle = world.fs.open_sync_handle().unwrap();
    handle.iter().for_each(|handle| world.fs.syncfs(handle).unwrap());
}

/// A database that has only some of its template's files.
fn half_a_clone(world: &mut World) {
    rows_in_trash(world);
    world.tell(Event::Created(CLONE));
    let id = world.rows[3].payload.id;
    let mut calls = 0;
    let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Session::of(world, CLONE).store().clone_database(DATABASE, &mut || {
            calls += 1;
            if calls == 4 {
                std::panic::resume_unwind(Box::new("cancel"));
            }
        })
    }));
    assert!(interrupted.is_err(), "{id:?} and others were to be cloned");
}

/// A database with files of its own and its template's.
fn dropped(world: &mut World) {
    let mut session = Session::new(world);
    create_database(world, &mut session).unwrap();
    some_rows(world);
    create_database(world, &mut session).unwrap();
    let mut other = Session::of(world, CLONE);
    other.insert(9, b"of the dropped database", None).unwrap();
    other.commit(world).unwrap();
    world.tell(Event::Dropped(CLONE));
}

fn dropped_and_trashed(world: &mut World) {
    dropped(world);
    let mut session = Session::new(world);
    collect(world, &mut session).unwrap();
}

/// The transaction id of the next transaction.
fn birth(world: &World) -> u64 {
    10 + world.events() as u64
}

fn insert_one(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"one payload", None)?;
    session.commit(world).map(drop)
}

fn insert_several(world: &mut World, session: &mut Session) -> Result<()> {
    for bytes in [&b""[..], b"a", &[7; 2500], b"another"] {
        session.insert(birth(world), bytes, None)?;
    }
    session.commit(world).map(drop)
}

/// More than make a syncfs, and more than are kept open.
fn insert_many(world: &mut World, session: &mut Session) -> Result<()> {
    const { assert!(MAX_OPEN as u64 >= SYNCFS_FROM) }
    for _ in 0..MAX_OPEN + 3 {
        session.insert(birth(world), b"one of many", None)?;
    }
    session.commit(world).map(drop)
}

fn insert_encrypted(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"needs padding", Some(KEYS.newest()))?;
    session.insert(birth(world), &[9; 32], Some(KEYS.newest()))?;
    session.insert(birth(world), b"plain", None)?;
    session.commit(world).map(drop)
}

fn roll_back(world: &mut World, session: &mut Session) -> Result<()> {
    for _ in 0..3 {
        session.insert(birth(world), b"rolled back", None)?;
    }
    let files = world.fs.files();
    session.rollback();
    assert_eq!(world.fs.files(), files, "a rollback unlinks nothing (I5)");
    insert_one(world, session)
}

fn keep_over_rollback(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"in a variable", None)?;
    session.rollback_in_procedure();
    session.insert(birth(world) + 1, b"of the next transaction", None)?;
    session.commit(world).map(drop)
}

fn abandon(world: &mut World, session: &mut Session) -> Result<()> {
    session.store().create(birth(world))?.write(b"cancelled")?;
    insert_one(world, session)
}

/// What one has made and not synced, the other one relies on.
fn side_by_side(world: &mut World, session: &mut Session) -> Result<()> {
    let mut other = Session::new(world);
    other.insert(birth(world), b"of the other transaction", None)?;
    session.insert(birth(world), b"of this transaction", None)?;
    session.commit(world)?;
    other.commit(world).map(drop)
}

fn one_after_the_other(world: &mut World, session: &mut Session) -> Result<()> {
    for _ in 0..3 {
        insert_one(world, session)?;
    }
    Ok(())
}

/// One is committed, one rolled back, one stays in doubt.
fn prepare(world: &mut World, session: &mut Session) -> Result<()> {
    for outcome in [Some(true), Some(false), None] {
        session.insert(birth(world), b"prepared", None)?;
        session.insert(birth(world), b"prepared, too", None)?;
        let rows = session.prepare(world)?;
        if let Some(committed) = outcome {
            world.tell_all(rows.into_iter().map(|row| Event::Decided(row, committed)).collect());
        }
    }
    Ok(())
}

fn run(world: &World, session: &mut Session, date: u64, bound: Option<u64>) -> Result<()> {
    let pass = Pass { upper: u64::MAX, date: day(date), bound: bound.map(day) };
    let references = world.references(&world.now(), DATABASE);
    let done = vacuum(session.store(), &references, &pass);
    session.rollback();
    done
}

fn sweep(world: &mut World, session: &mut Session) -> Result<()> {
    run(world, session, 1, None)
}

fn purge(world: &mut World, session: &mut Session) -> Result<()> {
    run(world, session, 2, Some(1))
}

fn sweep_and_purge(world: &mut World, session: &mut Session) -> Result<()> {
    sweep(world, session)?;
    purge(world, session)
}

/// Another backend commits between the moves and their sync.
fn sweep_and_insert(world: &mut World, session: &mut Session) -> Result<()> {
    let mut moves = Moves::new();
    for row in [0, 1, 2] {
        session.store().trash(&world.rows[row].payload.id, day(1), &mut moves)?;
    }
    let mut other = Session::new(world);
    let inserted = insert_one(world, &mut other);
    let synced = session.store().sync_moves(moves);
    session.rollback();
    inserted.and(synced)?;
    run(world, session, 1, None)
}

/// What ensure_live() does for a reference in a variable, three times in one transaction.
fn store_from_trash(world: &mut World, session: &mut Session) -> Result<()> {
    let restored = [0, 1, 2].map(|row| session.store().restore(&world.rows[row].payload.id));
    for (row, restored) in restored.into_iter().enumerate() {
        match restored? {
            Restored::Restored => {}
            // by somebody who may not have synced it, so that a crash leaves it in TRASH
            Restored::WasLive => world.rows[row].was_in_trash = true,
            Restored::Missing => panic!("nobody has deleted row {row}'s payload"),
        }
    }
    session.commit(world)?;
    world.tell_all((0..3).map(Event::Committed).collect());
    Ok(())
}

/// What CREATE DATABASE does; when there is one already, what rbytea_clone_from() does.
fn create_database(world: &mut World, session: &mut Session) -> Result<()> {
    if !world.now().databases.contains(&CLONE) {
        let mut creating = Session::of(world, CLONE);
        if creating.store().databases()?.contains(&CLONE) {
            creating.store().trash_database(CLONE, day(3))?;
        }
    }
    clone_from(world, session)
}

fn clone_from(world: &mut World, _: &mut Session) -> Result<()> {
    Session::of(world, CLONE).store().clone_database(DATABASE, &mut || ())?;
    let mut events = vec![Event::Created(CLONE)];
    for row in world.now().rows {
        let row = world.rows[row].clone();
        if row.database == DATABASE {
            let clone = world.add(CLONE, row.payload, &row.bytes);
            world.rows[clone].was_in_trash = row.was_in_trash;
            events.push(Event::Committed(clone));
        }
    }
    world.tell_all(events);
    Ok(())
}

fn collect(_: &mut World, session: &mut Session) -> Result<()> {
    let pass = Pass { upper: u64::MAX, date: day(4), bound: None };
    collect_dropped(session.store(), &BTreeSet::from([DATABASE]), &pass)
}

fn purge_dropped(world: &mut World, session: &mut Session) -> Result<()> {
    let pass = Pass { upper: u64::MAX, date: day(5), bound: Some(day(4)) };
    collect_dropped(session.store(), &world.now().databases, &pass)
}

fn adopt(world: &mut World, _: &mut Session) -> Result<()> {
    world.owners = vec![crate::support::US, PROMOTED];
    let mut promoted = Session::with(world, Config { owner: PROMOTED, ..config(world.fs.root()) });
    promoted.store().adopt()?;
    world.tell(Event::Owned(1));
    Ok(())
}
