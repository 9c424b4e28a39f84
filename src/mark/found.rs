//! What a mark has found: while it scans, and when it is valid. Keeps references in bounded memory (`sort`).

use crate::mark::relations::{self, Relations};
use crate::mark::sort::{Sort, SortedReferences};
use crate::pg::error::Report;
use pgrx::pg_sys;
use rbytea_store::PayloadRef;
use rbytea_store::judgement::Reference;
use std::ops::Range;

/// What a valid mark found.
pub struct Mark {
    /// The marked payloads, sorted.
    pub references: SortedReferences,
    /// Relations scanned, PostgreSQL's catalogs aside.
    pub relations: u64,
    /// Tuples in them.
    pub tuples: u64,
    /// References in recently dead tuples: deleted, but an old snapshot may see them.
    pub recently_dead: u64,
    /// The removal horizon: every transaction below had ended before the mark, and no snapshot took it for running.
    pub horizon: u64,
    /// Temporary tables of other sessions that can hold references, which only those sessions can read.
    pub hidden: Vec<pg_sys::Oid>,
}

/// Which references are looked for.
#[derive(Clone)]
pub enum Wanted {
    /// To payloads that were born in the range.
    Born(Range<u64>),
    /// To encrypted payloads; the id of the key takes the place of the length.
    Encrypted,
}

/// What a mark has found so far.
pub struct Found {
    wanted: Wanted,
    sort: Sort,
    /// Tuples looked at, those of PostgreSQL's catalogs aside.
    pub tuples: u64,
    recently_dead: u64,
}

impl Found {
    /// Nothing yet.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, sort: Sort::begin(), tuples: 0, recently_dead: 0 }
    }

    /// Adds a reference, if it is looked for. `deleted`: its tuple is recently dead.
    pub fn reference(&mut self, payload: &PayloadRef, deleted: bool) -> Result<(), Report> {
        let reference = match &self.wanted {
            // Other births are not judged in this run.
            Wanted::Born(births) => births.contains(&payload.id.birth).then(|| Reference::to(payload)),
            Wanted::Encrypted => {
                payload.key_id.map(|id| Reference { len: id.into(), ..Reference::to(payload) })
            }
        };
        if let Some(reference) = reference {
            self.sort.put(reference)?;
            self.recently_dead += u64::from(deleted);
        }
        Ok(())
    }

    /// After the scan of these relations, during which the removal horizon was this one.
    pub fn finish(self, relations: &Relations, horizon: u64) -> Mark {
        let scanned = relations.relids().iter().filter(|&&relid| !relations::is_catalog(relid));
        Mark {
            references: self.sort.sorted(),
            relations: scanned.count() as u64,
            tuples: self.tuples,
            recently_dead: self.recently_dead,
            horizon,
            hidden: relations.hidden().to_vec(),
        }
    }
}
