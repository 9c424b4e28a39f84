//! The mark: which payloads some tuple refers to. Counts every tuple that is not dead to everyone, in every relation
//! that can hold a value, and is valid only if the removal horizon did not move meanwhile: then nothing that was alive
//! at its start can have vanished before the scan came to it, so a reference that was copied during the scan has a
//! source that was counted.

mod relations;
mod scan;
mod walk;

use crate::catalog::Extension;
use crate::error;
use crate::horizon::{Horizons, RunSnapshot};
use crate::vacuum::plan::MarkKey;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_sys};
use relations::Relations;
use std::ptr::null_mut;

/// How often a mark is begun before the run is given up. The snapshot stays the same, and the horizon can rise only up
/// to its xmin: every further attempt outlives more of the transactions that are older than the run.
const ATTEMPTS: u32 = 5;

/// What a valid mark found.
pub struct Mark {
    /// The marked payloads, sorted.
    pub keys: SortedKeys,
    /// Relations scanned.
    pub relations: u64,
    /// Tuples looked at.
    pub tuples: u64,
    /// References in tuples that are deleted but that an old snapshot may still see.
    pub held: u64,
}

/// Marks the payloads that were born below `snapshot.upper()`.
pub fn mark(extension: &Extension, snapshot: &RunSnapshot) -> Result<Mark, ErrorReport> {
    let type_oid = extension.type_oid()?;
    for _ in 0..ATTEMPTS {
        let (before, relations) = lock_under_standing_horizon(extension, type_oid)?;
        let mut found = Found::new(snapshot.upper());
        for &relid in relations.relids() {
            scan::relation(relid, &relations, &mut found)?;
        }
        if Horizons::now(extension)? == before {
            return found.finish(relations.relids().len());
        }
        // Void (I10): a snapshot that could see more than the rest is gone, and tuples with it.
    }
    Err(error::report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the vacuum was given up")
        .set_detail(format!("The removal horizon moved during each of {ATTEMPTS} marks. Nothing was moved."))
        .set_hint("Run it again when fewer long transactions end; rvacuum_plan() tells the same without moving files."))
}

/// Takes the horizon, then finds and locks every relation before the first one is scanned: TRUNCATE, DROP and table
/// rewrites remove tuples without waiting for any snapshot, so they must not come between the scans of two relations.
///
/// The horizon comes first: a reference may be copied into a table that is made after the search, but from then on only
/// from tuples that the scan will still meet. Waiting for locks outlives transactions; that is no reason to scan in vain.
fn lock_under_standing_horizon(
    extension: &Extension,
    type_oid: pg_sys::Oid,
) -> Result<(Horizons, Relations), ErrorReport> {
    loop {
        let before = Horizons::now(extension)?;
        let relations = relations::lock_all(type_oid);
        if Horizons::now(extension)? == before {
            return Ok((before, relations));
        }
        check_for_interrupts!();
    }
}

/// What a mark has found so far.
pub struct Found {
    upper: u64,
    sort: Sort,
    tuples: u64,
    held: u64,
}

impl Found {
    fn new(upper: u64) -> Self {
        Self { upper, sort: Sort::begin(), tuples: 0, held: 0 }
    }

    fn reference(&mut self, payload: &crate::store::Payload) {
        // Later births are not judged in this run.
        if payload.id.birth < self.upper {
            self.sort.put(&MarkKey::of(&payload.id));
        }
    }

    fn finish(self, relations: usize) -> Result<Mark, ErrorReport> {
        Ok(Mark {
            keys: self.sort.sorted(),
            relations: relations as u64,
            tuples: self.tuples,
            held: self.held,
        })
    }
}

/// PostgreSQL's own sort, which keeps to maintenance_work_mem and spills to temporary files: memory stays bounded
/// however many payloads there are. Keys go through it as values of the type uuid, which orders 16 bytes.
struct Sort {
    state: *mut pg_sys::Tuplesortstate,
}

impl Sort {
    fn begin() -> Self {
        // SAFETY: uuid has a btree operator class; the sort lives in the current memory context and is ended by drop,
        // or with its context and resource owner when an ERROR passes.
        let state = unsafe {
            let cache = pg_sys::lookup_type_cache(pg_sys::UUIDOID, pg_sys::TYPECACHE_LT_OPR as i32);
            pg_sys::tuplesort_begin_datum(
                pg_sys::UUIDOID,
                (*cache).lt_opr,
                pg_sys::InvalidOid,
                false,
                pg_sys::maintenance_work_mem,
                null_mut(),
                pg_sys::TUPLESORT_RANDOMACCESS as i32,
            )
        };
        Self { state }
    }

    fn put(&mut self, key: &MarkKey) {
        // SAFETY: a uuid datum points to 16 bytes, which are copied.
        unsafe { pg_sys::tuplesort_putdatum(self.state, pg_sys::Datum::from(key.0.as_ptr()), false) }
    }

    fn sorted(mut self) -> SortedKeys {
        let state = std::mem::replace(&mut self.state, null_mut());
        // SAFETY: the sort has been begun and not yet performed.
        unsafe { pg_sys::tuplesort_performsort(state) };
        SortedKeys { state }
    }
}

impl Drop for Sort {
    fn drop(&mut self) {
        end(self.state);
    }
}

/// The keys of a mark in ascending order, duplicates included.
pub struct SortedKeys {
    state: *mut pg_sys::Tuplesortstate,
}

impl SortedKeys {
    /// Starts again with the smallest key.
    pub fn rewind(&mut self) {
        // SAFETY: the sort was begun with random access and has been performed.
        unsafe { pg_sys::tuplesort_rescan(self.state) }
    }
}

impl Iterator for SortedKeys {
    type Item = MarkKey;

    fn next(&mut self) -> Option<MarkKey> {
        // SAFETY: the sort has been performed; a datum that it returns points to 16 bytes.
        unsafe {
            let datum = crate::compat::tuplesort_getdatum(self.state)?;
            let mut key = [0; 16];
            key.copy_from_slice(std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), 16));
            pg_sys::pfree(datum.cast_mut_ptr());
            Some(MarkKey(key))
        }
    }
}

impl Drop for SortedKeys {
    fn drop(&mut self) {
        end(self.state);
    }
}

fn end(state: *mut pg_sys::Tuplesortstate) {
    // During unwinding the transaction's abort frees it; calling into the server then could raise a second error.
    if !state.is_null() && !std::thread::panicking() {
        // SAFETY: begun by us and not ended yet.
        unsafe { pg_sys::tuplesort_end(state) }
    }
}
