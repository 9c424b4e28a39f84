//! What a recovery after a crash has had no room for. The disk has what was written later, too, and a payload may be one that has made room
//! for that: then its purge is replayed later. What is left at a checkpoint, or at the end, is needed. Relies on records being
//! followed in their order; knows no file.

use std::collections::BTreeMap;

use crate::payload::PayloadId;
use crate::record::{Event, Record};

/// A place in the WAL, which grows.
pub type Lsn = u64;

/// A payload and its database.
type Key = (u32, PayloadId);

/// Where a payload's records begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The first of them that was replayed.
    pub place: Lsn,
    /// Of its bytes in the payload.
    pub offset: u64,
}

/// Payloads without room, and those that have not ended.
#[derive(Debug, Default)]
pub struct Room {
    lacking: BTreeMap<Key, Lsn>,
    begun: BTreeMap<Key, Beginning>,
}

impl Room {
    /// Whether a record is about a payload that has no room: the rest of it has none either.
    pub fn is_lacking(&self, record: &Record<'_>) -> bool {
        matches!(&record.event, Event::Put { id, .. } if self.lacking.contains_key(&(record.database, *id)))
    }

    /// Takes notice of what becomes of the payloads.
    pub fn follow(&mut self, record: &Record<'_>) {
        let database = record.database;
        match &record.event {
            // Clones of it are as useless.
            Event::Abandon { id } => {
                self.lacking.retain(|(_, of), _| of != id);
                self.begun.remove(&(database, *id));
            }
            Event::Purge { ids, .. } => {
                for id in ids {
                    self.lacking.remove(&(database, *id));
                    self.begun.remove(&(database, *id));
                }
            }
            // Another database may have the OID when what was dropped is purged.
            Event::Drop { .. } => {
                self.lacking.retain(|(of, _), _| *of != database);
                self.begun.retain(|(of, _), _| *of != database);
            }
            Event::Clone { source, ids } => {
                let begins = |id| self.lacking.get(&(*source, id)).copied();
                let clones: Vec<_> =
                    ids.iter().filter_map(|id| Some(((database, *id), begins(*id)?))).collect();
                self.lacking.extend(clones);
            }
            _ => {}
        }
    }

    /// Where the payload begins that this record, which is at this place, puts.
    pub fn beginning(&mut self, record: &Record<'_>, place: Lsn) -> Beginning {
        let Event::Put { id, offset, last, .. } = &record.event else {
            return Beginning { place, offset: 0 };
        };
        let (key, this) = ((record.database, *id), Beginning { place, offset: *offset });
        if *last { self.begun.remove(&key).unwrap_or(this) } else { *self.begun.entry(key).or_insert(this) }
    }

    /// A payload has no room.
    pub fn lacks(&mut self, database: u32, id: PayloadId, beginning: Beginning) {
        self.begun.remove(&(database, id));
        self.lacking.insert((database, id), beginning.place);
    }

    /// How many payloads are left that begin before the redo pointer of a checkpoint. If it is none, recovery may begin there the next time:
    /// what is before is durable, and not replayed again.
    pub fn at_checkpoint(&mut self, redo: Lsn) -> usize {
        let left = self.lacking.values().filter(|place| **place < redo).count();
        if left == 0 {
            self.begun.retain(|_, beginning| beginning.place >= redo);
        }
        left
    }
}
