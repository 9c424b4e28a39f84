//! Where payloads are marked: locks every relation that can hold a reference, scans them, and does so again if the
//! removal horizon moved meanwhile (I10).

use crate::mark::columnstore;
use crate::mark::found::{Found, Mark, Wanted};
use crate::mark::horizon::{Horizons, RunSnapshot};
use crate::mark::relations::{self, Relations};
use crate::mark::scan;
use crate::pg::catalog::Objects;
use crate::pg::error::{self, Report};
use crate::pg::injection::{self, Point};
use crate::pg::pace::Pace;
use crate::pg::progress::{self, Phase};
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::subtransaction::{Caught, subtransaction};
use crate::value::walk::Types;
use pgrx::{PgSqlErrorCode, check_for_interrupts};
use std::collections::BTreeMap;
use std::ops::Range;

/// How often a mark is begun before the run is given up. The snapshot stays the same, and the horizon can rise only up
/// to its xmin: every further attempt outlives more of the transactions that are older than the run.
const ATTEMPTS: u32 = 5;

/// Marks the payloads that were born in the range, which must end at `snapshot.upper()` at most.
pub fn mark(
    objects: &Objects,
    snapshot: &RunSnapshot,
    births: &Range<u64>,
    pace: &mut Pace,
) -> Result<Mark, Report> {
    debug_assert!(births.end <= snapshot.upper());
    mark_wanted(objects, &Wanted::Born(births.clone()), pace)
}

/// How many payloads each key has encrypted that some tuple refers to, by the id of the key. The snapshot must be
/// held.
pub fn keys(
    objects: &Objects,
    _snapshot: &RunSnapshot,
    pace: &mut Pace,
) -> Result<BTreeMap<u64, u64>, Report> {
    let mut payloads = BTreeMap::new();
    let mut last = None;
    for reference in mark_wanted(objects, &Wanted::Encrypted, pace)?.references {
        // The same payload in many rows comes as often, one after the other.
        if last.replace(reference) != Some(reference) {
            *payloads.entry(reference.len).or_default() += 1;
        }
    }
    Ok(payloads)
}

fn mark_wanted(objects: &Objects, wanted: &Wanted, pace: &mut Pace) -> Result<Mark, Report> {
    for _ in 0..ATTEMPTS {
        progress::phase(Phase::Locking);
        let (before, relations) = lock_under_standing_horizon(objects, pace)?;
        injection::at(Point::BeforeMark);
        progress::phase(Phase::Marking);
        progress::relations(relations.relids().len());
        let mut found = Found::new(wanted.clone());
        let scanned = scan_all(&relations, &mut found, pace);
        injection::at(Point::BeforeSecondHorizon);
        let valid = Horizons::now(objects) == before;
        match scanned {
            Ok(()) if valid => {
                // As of now, not of when the statement began: of what is compressed later the rows have been scanned.
                let _snapshot = ActiveSnapshot::latest();
                columnstore::refuse(relations.relids(), |of| relations.leads_to_value(of))?;
                return Ok(found.finish(&relations, before.full()));
            }
            // Void (I10): a snapshot that could see more than the rest is gone, and tuples with it.
            Ok(()) => {}
            // A tuple's TOAST rows are removed with it, also while this scan reads it: no MVCC snapshot protects them.
            Err(caught) if !valid && is_missing_chunk(caught.code) => {}
            Err(caught) => return Err(caught.into()),
        }
    }
    Err(error::report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the vacuum was given up")
        .set_detail(format!("The removal horizon moved during each of {ATTEMPTS} marks. Nothing was moved."))
        .set_hint("Run it again when fewer long transactions end; rvacuum_plan() tells the same without moving files."))
}

/// A relation is unlocked as soon as it has been scanned: what is removed from it after that has been counted.
fn scan_all(relations: &Relations, found: &mut Found, pace: &mut Pace) -> Result<(), Caught> {
    let relids = relations.relids();
    for (index, &relid) in relids.iter().enumerate() {
        let unscanned = relids.get(index..).unwrap_or_default();
        progress::relation(relid, index);
        let scanned = subtransaction(|| scan::relation(relid, relations, found, pace));
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

fn is_missing_chunk(code: PgSqlErrorCode) -> bool {
    matches!(code, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR | PgSqlErrorCode::ERRCODE_DATA_CORRUPTED)
}

/// Takes the horizon, then finds and locks every relation before the first one is scanned: TRUNCATE, DROP and table
/// rewrites remove tuples without waiting for any snapshot, so they must not come between the scans of two relations.
///
/// The horizon comes first: a reference may be copied into a table that is made after the search, but from then on
/// only from tuples that the scan will still meet. Waiting for locks outlives transactions; that is no reason to scan
/// in vain.
fn lock_under_standing_horizon(objects: &Objects, pace: &Pace) -> Result<(Horizons, Relations), Report> {
    loop {
        let before = Horizons::now(objects);
        let relations = relations::lock_all(objects.type_oid, pace)?;
        if Horizons::now(objects) == before {
            return Ok((before, relations));
        }
        check_for_interrupts!();
    }
}
