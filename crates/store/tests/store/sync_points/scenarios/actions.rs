//! The action of a scenario, as the extension's backends and workers do it. Each returns the store's first error.

use crate::clone::CLONE;
use crate::support::{DATABASE, KEYS, PROMOTED, US, registered};
use crate::sync_points::vacuum::{Pass, collect_dropped, day, vacuum};
use crate::sync_points::world::{Event, Session, World, places};
use rbytea_store::file::fs::Fs;
use rbytea_store::file::{MAX_OPEN, SYNCFS_FROM};
use rbytea_store::{Backend, Config, Restored, Result, Writer};
use std::collections::BTreeSet;

/// The transaction id of the next transaction.
pub fn birth(world: &World) -> u64 {
    10 + world.events() as u64
}

pub fn insert_one(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"one payload", None)?;
    session.commit(world).map(drop)
}

/// More bytes than are written, and written back, at once.
pub fn insert_big(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), &[3; 600_000], None)?;
    session.commit(world).map(drop)
}

pub fn insert_several(world: &mut World, session: &mut Session) -> Result<()> {
    for bytes in [&b""[..], b"a", &[7; 2500], b"another"] {
        session.insert(birth(world), bytes, None)?;
    }
    session.commit(world).map(drop)
}

/// More files than make a syncfs, and more than are kept open.
pub fn insert_many(world: &mut World, session: &mut Session) -> Result<()> {
    const { assert!(MAX_OPEN as u64 >= SYNCFS_FROM) }
    for _ in 0..MAX_OPEN + 3 {
        session.insert(birth(world), b"one of many", None)?;
    }
    session.commit(world).map(drop)
}

pub fn insert_encrypted(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"needs padding", Some(KEYS.newest()))?;
    session.insert(birth(world), &[9; 32], Some(KEYS.newest()))?;
    session.insert(birth(world), b"plain", None)?;
    session.commit(world).map(drop)
}

pub fn roll_back(world: &mut World, session: &mut Session) -> Result<()> {
    for _ in 0..3 {
        session.insert(birth(world), b"rolled back", None)?;
    }
    let files = world.fs.files();
    session.rollback();
    assert_eq!(world.fs.files(), files, "a rollback unlinks nothing (I5)");
    insert_one(world, session)
}

pub fn keep_over_rollback(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"in a variable", None)?;
    session.rollback_in_procedure();
    session.insert(birth(world) + 1, b"of the next transaction", None)?;
    session.commit(world).map(drop)
}

pub fn abandon(world: &mut World, session: &mut Session) -> Result<()> {
    let mut writer = Writer::begin(session.store(), birth(world), None)?;
    let [live, _] = places(DATABASE, &writer.id());
    let written = writer.write(b"cancelled");
    drop(writer);
    assert!(world.fs.peek(&live).is_some(), "an abort unlinks nothing (I5)");
    written?;
    insert_one(world, session)
}

/// Directories that one transaction has made and not synced are used by the other one.
pub fn side_by_side(world: &mut World, session: &mut Session) -> Result<()> {
    let mut other = Session::new(world);
    other.insert(birth(world), b"of the other transaction", None)?;
    session.insert(birth(world), b"of this transaction", None)?;
    session.commit(world)?;
    other.commit(world).map(drop)
}

pub fn one_after_the_other(world: &mut World, session: &mut Session) -> Result<()> {
    for _ in 0..3 {
        insert_one(world, session)?;
    }
    Ok(())
}

/// Its directories are in the cache of durable ones; then they are removed and made again.
pub fn insert_where_all_was_removed(world: &mut World, session: &mut Session) -> Result<()> {
    session.insert(birth(world), b"removed", None)?;
    let rows = session.commit(world)?;
    world.record_all(rows.into_iter().map(Event::Deleted).collect());
    let mut vacuum = Session::new(world);
    sweep(world, &mut vacuum)?;
    insert_one(world, session)
}

/// One is committed, one rolled back, one stays in doubt.
pub fn prepare(world: &mut World, session: &mut Session) -> Result<()> {
    for outcome in [Some(true), Some(false), None] {
        session.insert(birth(world), b"prepared", None)?;
        session.insert(birth(world), b"prepared, too", None)?;
        let rows = session.prepare(world)?;
        if let Some(committed) = outcome {
            world.record_all(rows.into_iter().map(|row| Event::Decided(row, committed)).collect());
        }
    }
    Ok(())
}

pub fn run(world: &World, session: &mut Session, date: u64, bound: Option<u64>) -> Result<()> {
    let pass = Pass { upper: u64::MAX, date: day(date), bound: bound.map(day) };
    let references = world.references(&world.now(), DATABASE);
    let done = vacuum(session.store(), &references, &pass);
    session.rollback();
    done
}

pub fn sweep(world: &mut World, session: &mut Session) -> Result<()> {
    run(world, session, 1, None)
}

pub fn purge(world: &mut World, session: &mut Session) -> Result<()> {
    run(world, session, 2, Some(1))
}

pub fn sweep_and_purge(world: &mut World, session: &mut Session) -> Result<()> {
    sweep(world, session)?;
    purge(world, session)
}

/// Another backend stores a value after TRASH was listed and before its file is deleted.
pub fn purge_what_is_stored_again(world: &mut World, session: &mut Session) -> Result<()> {
    let mut listed = Vec::new();
    session.store().list_trash(&mut |id, _| {
        listed.push(id);
        Ok(())
    })?;
    let mut other = Session::new(world);
    let stored = other.store().restore(&world.rows[0].payload.id)?;
    assert_ne!(stored, Restored::Missing, "nothing has been deleted yet");
    world.rows[0].was_in_trash |= stored == Restored::WasLive;
    world.record(Event::Committed(0));
    let mut moves = session.store().moves();
    for id in listed {
        moves.purge(&id)?;
    }
    moves.sync()?;
    session.rollback();
    Ok(())
}

/// Another backend commits between the moves and their sync.
pub fn sweep_and_insert(world: &mut World, session: &mut Session) -> Result<()> {
    let mut moves = session.store().moves();
    for row in [0, 1, 2] {
        moves.trash(&world.rows[row].payload.id, day(1))?;
    }
    let mut other = Session::new(world);
    let inserted = insert_one(world, &mut other);
    let synced = moves.sync();
    session.rollback();
    inserted.and(synced)?;
    run(world, session, 1, None)
}

/// What ensure_live() does for a reference in a variable, three times in one transaction.
pub fn store_from_trash(world: &mut World, session: &mut Session) -> Result<()> {
    let restored = [0, 1, 2].map(|row| session.store().restore(&world.rows[row].payload.id));
    for (row, restored) in restored.into_iter().enumerate() {
        match restored? {
            Restored::Restored => {}
            // by another process, which may not have synced it, so that a crash leaves it in TRASH
            Restored::WasLive => world.rows[row].was_in_trash = true,
            Restored::Missing => panic!("no process has deleted row {row}'s payload"),
        }
    }
    session.commit(world)?;
    world.record_all((0..3).map(Event::Committed).collect());
    Ok(())
}

/// What CREATE DATABASE does; when there is one already, what rbytea_clone_from() does.
pub fn create_database(world: &mut World, session: &mut Session) -> Result<()> {
    if !world.now().databases.contains(&CLONE) {
        let mut creating = Session::of(world, CLONE);
        if creating.store().databases()?.contains(&CLONE) {
            creating.store().trash_database(CLONE, day(3))?;
        }
    }
    clone_from(world, session)
}

pub fn clone_from(world: &mut World, _: &mut Session) -> Result<()> {
    Session::of(world, CLONE).store().clone_database(DATABASE, &mut |_| ())?;
    let mut events = vec![Event::Created(CLONE)];
    for row in world.now().rows {
        let row = world.rows[row].clone();
        if row.database == DATABASE {
            let clone = world.add(CLONE, row.payload, &row.bytes);
            world.rows[clone].was_in_trash = row.was_in_trash;
            events.push(Event::Committed(clone));
        }
    }
    world.record_all(events);
    Ok(())
}

pub fn collect(_: &mut World, session: &mut Session) -> Result<()> {
    let pass = Pass { upper: u64::MAX, date: day(4), bound: None };
    collect_dropped(session.store(), &BTreeSet::from([DATABASE]), &pass)
}

pub fn purge_dropped(world: &mut World, session: &mut Session) -> Result<()> {
    let pass = Pass { upper: u64::MAX, date: day(5), bound: Some(day(4)) };
    collect_dropped(session.store(), &world.now().databases, &pass)
}

pub fn adopt(world: &mut World, _: &mut Session) -> Result<()> {
    world.owners = vec![US, PROMOTED];
    let mut promoted = Session::with(world, Config { owner: PROMOTED, ..registered(world.fs.root()) });
    promoted.store().adopt()?;
    world.record(Event::Owned(1));
    Ok(())
}
