//! The mark: which payloads some tuple refers to. Counts every tuple that is not dead to everyone, in every relation
//! that can hold a value, and is valid only if the removal horizon did not move meanwhile: then nothing that was alive
//! at its start can have vanished before the scan came to it, so a reference that was copied during the scan has a
//! source that was counted.

pub mod horizon;
pub mod preconditions;
mod relations;
mod scan;
mod sort;

pub use relations::{fingerprint, hidden, holding, made_of_rows_of};
pub use sort::SortedReferences;

use crate::mark::horizon::{Horizons, RunSnapshot};
use crate::pg::catalog::Extension;
use crate::pg::error::{self, Report};
use crate::pg::injection::{self, Point};
use crate::pg::pace::Pace;
use crate::pg::progress::{self, Phase};
use crate::pg::subtransaction::{Caught, subtransaction};
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_sys};
use rbytea_store::PayloadRef;
use rbytea_store::judgement::Reference;
use relations::Relations;
use sort::Sort;
use std::collections::BTreeMap;
use std::ops::Range;

/// How often a mark is begun before the run is given up. The snapshot stays the same, and the horizon can rise only up
/// to its xmin: every further attempt outlives more of the transactions that are older than the run.
const ATTEMPTS: u32 = 5;

/// What a valid mark found.
pub struct Mark {
    /// The marked payloads, sorted.
    pub references: SortedReferences,
    /// Relations scanned, PostgreSQL's catalogs aside.
    pub relations: u64,
    /// Tuples in them.
    pub tuples: u64,
    /// References in tuples that are deleted but that an old snapshot may still see.
    pub held: u64,
    /// Below it, every transaction had ended before the mark, and every snapshot had been given up that did not see so.
    pub horizon: u64,
    /// Temporary tables of other sessions that can hold references, which nobody but those can read.
    pub hidden: Vec<pg_sys::Oid>,
}

/// Marks the payloads that were born in the range, which must end at `snapshot.upper()` at most.
pub fn mark(
    extension: &Extension,
    snapshot: &RunSnapshot,
    births: &Range<u64>,
    pace: &mut Pace,
) -> Result<Mark, Report> {
    debug_assert!(births.end <= snapshot.upper());
    mark_what(extension, &What::Born(births.clone()), pace)
}

/// How many payloads each key has encrypted that some tuple refers to, by the id of the key. The snapshot must be held.
pub fn keys(
    extension: &Extension,
    _snapshot: &RunSnapshot,
    pace: &mut Pace,
) -> Result<BTreeMap<u64, u64>, Report> {
    let mut payloads = BTreeMap::new();
    let mut last = None;
    for reference in mark_what(extension, &What::Encrypted, pace)?.references {
        // The same payload in many rows comes as often, one after the other.
        if last.replace(reference) != Some(reference) {
            *payloads.entry(reference.len).or_default() += 1;
        }
    }
    Ok(payloads)
}

/// References that are looked for.
#[derive(Clone)]
enum What {
    /// To payloads that were born in the range.
    Born(Range<u64>),
    /// To encrypted payloads; the id of the key takes the place of the length.
    Encrypted,
}

fn mark_what(extension: &Extension, what: &What, pace: &mut Pace) -> Result<Mark, Report> {
    let type_oid = extension.type_oid()?;
    for _ in 0..ATTEMPTS {
        progress::phase(Phase::Locking);
        let (before, relations) = lock_under_standing_horizon(extension, type_oid, pace)?;
        injection::at(Point::BeforeMark);
        progress::phase(Phase::Marking);
        progress::relations(relations.relids().len());
        let mut found = Found::new(what.clone());
        let scanned = scan_all(&relations, &mut found, pace);
        injection::at(Point::BeforeSecondHorizon);
        let valid = Horizons::now(extension)? == before;
        match scanned {
            Ok(()) if valid => return Ok(found.finish(&relations, before.full())),
            // Void (I10): a snapshot that could see more than the rest is gone, and tuples with it.
            Ok(()) => {}
            // The TOAST rows of a tuple go with it, also while somebody reads it who is no snapshot.
            Err(caught) if !valid && is_missing_chunk(caught.code) => {}
            Err(caught) => return Err(caught.into()),
        }
    }
    Err(error::report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the vacuum was given up")
        .set_detail(format!("The removal horizon moved during each of {ATTEMPTS} marks. Nothing was moved."))
        .set_hint("Run it again when fewer long transactions end; rvacuum_plan() tells the same without moving files."))
}

/// A relation is let go as soon as it has been scanned: what is removed from it after that has been counted.
fn scan_all(relations: &Relations, found: &mut Found, pace: &mut Pace) -> Result<(), Caught> {
    let relids = relations.relids();
    for (index, &relid) in relids.iter().enumerate() {
        let unscanned = relids.get(index..).unwrap_or_default();
        progress::relation(relid, index);
        let scanned = subtransaction(|| scan::relation(relid, &mut Scan { relations, found, pace }));
        if scanned.is_err() {
            unscanned.iter().for_each(|&relid| relations.unlock(relid));
            return scanned;
        }
        relations.unlock(relid);
        if Some(&relid) == relids.iter().find(|&&relid| !relations::is_catalog(relid)) {
            injection::at(Point::BetweenRelations);
        }
    }
    Ok(())
}

/// The scan of a mark, at one of its relations.
pub struct Scan<'a> {
    relations: &'a Relations,
    found: &'a mut Found,
    pace: &'a mut Pace,
}

fn is_missing_chunk(code: PgSqlErrorCode) -> bool {
    matches!(code, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR | PgSqlErrorCode::ERRCODE_DATA_CORRUPTED)
}

/// Takes the horizon, then finds and locks every relation before the first one is scanned: TRUNCATE, DROP and table
/// rewrites remove tuples without waiting for any snapshot, so they must not come between the scans of two relations.
///
/// The horizon comes first: a reference may be copied into a table that is made after the search, but from then on only
/// from tuples that the scan will still meet. Waiting for locks outlives transactions; that is no reason to scan in vain.
fn lock_under_standing_horizon(
    extension: &Extension,
    type_oid: pg_sys::Oid,
    pace: &Pace,
) -> Result<(Horizons, Relations), Report> {
    loop {
        let before = Horizons::now(extension)?;
        let relations = relations::lock_all(type_oid, pace)?;
        if Horizons::now(extension)? == before {
            return Ok((before, relations));
        }
        check_for_interrupts!();
    }
}

/// What a mark has found so far.
pub struct Found {
    what: What,
    sort: Sort,
    tuples: u64,
    held: u64,
}

impl Found {
    fn new(what: What) -> Self {
        Self { what, sort: Sort::begin(), tuples: 0, held: 0 }
    }

    fn reference(&mut self, payload: &PayloadRef, deleted: bool) -> Result<(), Report> {
        let reference = match &self.what {
            // Other births are not judged in this run.
            What::Born(births) => births.contains(&payload.id.birth).then(|| Reference::to(payload)),
            What::Encrypted => {
                payload.key_id.map(|id| Reference { len: id.into(), ..Reference::to(payload) })
            }
        };
        if let Some(reference) = reference {
            self.sort.put(reference)?;
            self.held += u64::from(deleted);
        }
        Ok(())
    }

    fn finish(self, relations: &Relations, horizon: u64) -> Mark {
        Mark {
            references: self.sort.sorted(),
            relations: relations.relids().iter().filter(|&&relid| !relations::is_catalog(relid)).count()
                as u64,
            tuples: self.tuples,
            held: self.held,
            horizon,
            hidden: relations.hidden().to_vec(),
        }
    }
}
