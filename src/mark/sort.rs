//! The references that a mark has found, sorted by PostgreSQL's own sort: it keeps to a given amount of memory and spills to
//! temporary files, however many payloads there are.

use crate::compat;
use crate::vacuum::plan::{REFERENCE_LEN, Reference};
use pgrx::pg_sys;
use std::ptr::null_mut;

/// Most memory for a sort in kilobytes, whatever maintenance_work_mem says: more makes it hardly faster.
const MOST: i32 = 32 * 1024;

/// A bytea datum that holds one encoded reference.
#[repr(C, align(4))]
struct Datum {
    header: [u8; 4],
    bytes: [u8; REFERENCE_LEN],
}

/// A sort that takes references.
pub struct Sort {
    state: *mut pg_sys::Tuplesortstate,
    /// Temporary files belong to it: they must survive the subtransactions of the mark.
    owner: pg_sys::ResourceOwner,
    datum: Datum,
}

impl Sort {
    /// In half of maintenance_work_mem; the other half is for the plan.
    pub fn begin() -> Self {
        let mut datum = Datum { header: [0; 4], bytes: [0; REFERENCE_LEN] };
        // SAFETY: bytea has a btree operator class; the sort lives in the current memory context and is ended by drop,
        // or with its context and resource owner when an ERROR passes. The datum is as long as its header will say.
        unsafe {
            pgrx::set_varsize_4b((&raw mut datum).cast(), size_of::<Datum>() as i32);
            let cache = pg_sys::lookup_type_cache(pg_sys::BYTEAOID, pg_sys::TYPECACHE_LT_OPR as i32);
            let state = pg_sys::tuplesort_begin_datum(
                pg_sys::BYTEAOID,
                (*cache).lt_opr,
                pg_sys::InvalidOid,
                false,
                (pg_sys::maintenance_work_mem / 2).min(MOST),
                null_mut(),
                pg_sys::TUPLESORT_RANDOMACCESS as i32,
            );
            Self { state, owner: pg_sys::CurrentResourceOwner, datum }
        }
    }

    /// Adds a reference.
    pub fn put(&mut self, reference: &Reference) {
        self.datum.bytes = reference.encode();
        let datum = pg_sys::Datum::from(&raw const self.datum);
        self.owned(|state| {
            // SAFETY: the sort copies the datum.
            unsafe { pg_sys::tuplesort_putdatum(state, datum, false) }
        });
    }

    /// Sorts.
    pub fn sorted(mut self) -> SortedReferences {
        self.owned(|state| {
            // SAFETY: the sort has been begun and not yet performed.
            unsafe { pg_sys::tuplesort_performsort(state) }
        });
        SortedReferences { state: std::mem::replace(&mut self.state, null_mut()) }
    }

    fn owned(&mut self, work: impl FnOnce(*mut pg_sys::Tuplesortstate)) {
        // SAFETY: the owner of before is put back; an ERROR on the way ends a subtransaction, which does the same.
        unsafe {
            let before = pg_sys::CurrentResourceOwner;
            pg_sys::CurrentResourceOwner = self.owner;
            work(self.state);
            pg_sys::CurrentResourceOwner = before;
        }
    }
}

impl Drop for Sort {
    fn drop(&mut self) {
        end(self.state);
    }
}

/// The references of a mark in ascending order, duplicates included.
pub struct SortedReferences {
    state: *mut pg_sys::Tuplesortstate,
}

impl SortedReferences {
    /// Starts again with the smallest reference.
    pub fn rewind(&mut self) {
        // SAFETY: the sort was begun with random access and has been performed.
        unsafe { pg_sys::tuplesort_rescan(self.state) }
    }
}

impl Iterator for SortedReferences {
    type Item = Reference;

    fn next(&mut self) -> Option<Reference> {
        // SAFETY: the sort has been performed; the datum that it returns is the copy of one of ours.
        unsafe {
            let datum = compat::tuplesort_getdatum(self.state)?;
            let reference = Reference::decode(&(*datum.cast_mut_ptr::<Datum>()).bytes);
            pg_sys::pfree(datum.cast_mut_ptr());
            Some(reference)
        }
    }
}

impl Drop for SortedReferences {
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
