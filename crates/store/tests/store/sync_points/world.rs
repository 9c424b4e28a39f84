//! The state of PostgreSQL: rows, databases, the owner. It is durable by itself; the order of its events among the
//! operations of the file system gives the state at each moment.

use crate::support::{DATABASE, US, registered, write_with};
use rbytea_memfs::MemFs;
use rbytea_store::file::fs::Fs;
use rbytea_store::{Config, DirSyncCache, FileStore, Key, OwnerId, PayloadId, PayloadRef, Pending, Result};
use std::collections::BTreeSet;

/// A row with a payload.
#[derive(Clone, Debug)]
pub struct Row {
    pub database: u32,
    pub payload: PayloadRef,
    pub bytes: Vec<u8>,
    /// The bytes of its file when its transaction was acknowledged (I4).
    pub stored: Vec<u8>,
    /// Its file was in TRASH when the scenario began.
    pub was_in_trash: bool,
}

/// A change of PostgreSQL's state.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The row's transaction is committed.
    Committed(usize),
    /// The row's transaction is prepared.
    Prepared(usize),
    /// The prepared transaction has ended: committed or not.
    Decided(usize, bool),
    /// No snapshot sees the row any more.
    Deleted(usize),
    Created(u32),
    Dropped(u32),
    /// The store has this owner, or one that came later in the list of the world.
    Owned(usize),
}

pub struct World {
    pub fs: MemFs,
    pub rows: Vec<Row>,
    /// The clusters that may own the store, in the order in which they claim or adopt it.
    pub owners: Vec<OwnerId>,
    /// Events that happened at once, after so many operations.
    events: Vec<(u64, Vec<Event>)>,
}

/// PostgreSQL's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Referenced rows.
    pub rows: BTreeSet<usize>,
    /// Those of prepared transactions, which are referenced as well until they are decided.
    pub in_doubt: BTreeSet<usize>,
    pub databases: BTreeSet<u32>,
    pub owner: Option<usize>,
}

impl World {
    /// With one database.
    pub fn new(fs: MemFs) -> Self {
        let mut world = Self { fs, rows: Vec::new(), owners: vec![US], events: Vec::new() };
        world.record(Event::Created(DATABASE));
        world
    }

    /// A copy with a disk of its own.
    pub fn copy(&self) -> Self {
        let Self { fs, rows, owners, events } = self;
        Self { fs: fs.copy(), rows: rows.clone(), owners: owners.clone(), events: events.clone() }
    }

    /// Records an event after the operations so far.
    pub fn record(&mut self, event: Event) {
        self.record_all(vec![event]);
    }

    /// Records events of one WAL record.
    pub fn record_all(&mut self, events: Vec<Event>) {
        self.events.push((self.fs.operations(), events));
    }

    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// The number of events that happened before `operations` had been done.
    pub fn events_before(&self, operations: u64) -> usize {
        self.events.iter().filter(|(at, _)| *at < operations).count()
    }

    /// The state after the first so many events.
    pub fn view(&self, events: usize) -> View {
        let mut view = View::default();
        for event in self.events[..events].iter().flat_map(|(_, events)| events) {
            match *event {
                Event::Committed(row) => drop(view.rows.insert(row)),
                Event::Prepared(row) => drop(view.in_doubt.insert(row)),
                Event::Decided(row, committed) => {
                    view.in_doubt.remove(&row);
                    if committed {
                        view.rows.insert(row);
                    }
                }
                Event::Deleted(row) => drop(view.rows.remove(&row)),
                Event::Created(oid) => drop(view.databases.insert(oid)),
                Event::Dropped(oid) => {
                    view.databases.remove(&oid);
                    view.rows.retain(|row| self.rows[*row].database != oid);
                }
                Event::Owned(owner) => view.owner = Some(owner),
            }
        }
        view
    }

    /// The state after all events.
    pub fn now(&self) -> View {
        self.view(self.events())
    }

    /// The payloads that rows of a database refer to.
    pub fn references(&self, view: &View, database: u32) -> Vec<PayloadRef> {
        let rows = view.rows.iter().chain(&view.in_doubt).map(|row| &self.rows[*row]);
        rows.filter(|row| row.database == database).map(|row| row.payload).collect()
    }

    /// A row that refers to a payload which the store has.
    pub fn add(&mut self, database: u32, payload: PayloadRef, bytes: &[u8]) -> usize {
        let paths = places(database, &payload.id);
        let stored = paths.iter().find_map(|path| self.fs.peek(path)).unwrap_or_default();
        self.rows.push(Row { database, payload, bytes: bytes.into(), stored, was_in_trash: false });
        self.rows.len() - 1
    }
}

/// Where a payload's file may be.
pub fn places(database: u32, id: &PayloadId) -> [String; 2] {
    [format!("{database}/{}", id.live_path()), format!("{database}/{}", id.trash_path())]
}

/// A backend and its cache, which it loses when it dies.
pub struct Session {
    fs: MemFs,
    config: Config,
    store: Option<FileStore<MemFs>>,
    cache: Option<DirSyncCache>,
    pub pending: Pending,
    /// What its transaction has written.
    written: Vec<(PayloadRef, Vec<u8>)>,
}

impl Session {
    pub fn new(world: &World) -> Self {
        Self::of(world, DATABASE)
    }

    /// In another database.
    pub fn of(world: &World, database: u32) -> Self {
        Self::with(world, Config { database, ..registered(world.fs.root()) })
    }

    pub fn with(world: &World, config: Config) -> Self {
        let fs = world.fs.clone();
        Self { fs, config, store: None, cache: None, pending: Pending::new(), written: Vec::new() }
    }

    /// The store, opened when it is first needed in a transaction.
    pub fn store(&mut self) -> &FileStore<MemFs> {
        let Self { fs, config, store, cache, .. } = self;
        store.get_or_insert_with(|| {
            let store = FileStore::with_fs(fs.clone(), config.clone());
            store.with_cache(cache.take().unwrap_or_default())
        })
    }

    /// Writes a payload.
    pub fn insert(&mut self, birth: u64, bytes: &[u8], key: Option<&Key>) -> Result<()> {
        self.store();
        let store = self.store.as_ref().unwrap();
        let payload = write_with(store, birth, bytes, key, &mut self.pending)?;
        self.written.push((payload, bytes.into()));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.store();
        self.pending.sync(self.store.as_ref().unwrap(), &mut || ())
    }

    /// PRE_COMMIT, and the commit record. Returns the rows.
    pub fn commit(&mut self, world: &mut World) -> Result<Vec<usize>> {
        self.end(world, Event::Committed)
    }

    /// PRE_PREPARE, and the record of the prepared transaction.
    pub fn prepare(&mut self, world: &mut World) -> Result<Vec<usize>> {
        self.end(world, Event::Prepared)
    }

    fn end(&mut self, world: &mut World, event: fn(usize) -> Event) -> Result<Vec<usize>> {
        self.sync()?;
        let database = self.config.database;
        let written = std::mem::take(&mut self.written);
        let rows: Vec<_> =
            written.iter().map(|(payload, bytes)| world.add(database, *payload, bytes)).collect();
        let mut events: Vec<_> = rows.iter().copied().map(event).collect();
        if !rows.is_empty() && world.now().owner.is_none() {
            events.push(Event::Owned(0));
        }
        world.record_all(events);
        self.forget();
        Ok(rows)
    }

    /// Abort: forgets what was written and unlinks nothing (I5).
    pub fn rollback(&mut self) {
        self.written.clear();
        self.forget();
    }

    /// ROLLBACK in a procedure that keeps values in its variables: they stay pending.
    pub fn rollback_in_procedure(&mut self) {
        self.close();
    }

    fn forget(&mut self) {
        self.pending.forget();
        self.close();
    }

    fn close(&mut self) {
        if let Some(store) = self.store.take() {
            self.cache = Some(store.into_cache());
        }
    }
}
