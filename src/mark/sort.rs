//! The references that a mark has found, sorted in bounded memory however many there are: what fits stays in memory,
//! the rest goes through PostgreSQL's own sort and its temporary files.

use crate::pg::error::Report;
use crate::pg::{compat, memory};
use pgrx::pg_sys;
use rbytea_store::judgement::{REFERENCE_LEN, Reference};
use std::ptr::null_mut;

/// Most memory in kilobytes, however large maintenance_work_mem is: more makes the sort hardly faster.
const MOST: i32 = 32 * 1024;

/// The references that a mark has found so far: in memory as long as they fit half of maintenance_work_mem (the other
/// half is for the plan).
pub struct Sort {
    buffer: Vec<Reference>,
    room: usize,
    spilled: Option<Spilled>,
    /// What PostgreSQL's sort belongs to, if one is begun: neither a tuple's context nor a subtransaction of the mark.
    place: Place,
}

impl Sort {
    /// Nothing found yet.
    pub fn begin() -> Self {
        let room = kilobytes().unsigned_abs() as usize * 1024 / size_of::<Reference>();
        Self { buffer: Vec::new(), room, spilled: None, place: Place::current() }
    }

    /// Adds a reference.
    pub fn put(&mut self, reference: Reference) -> Result<(), Report> {
        if self.buffer.len() >= self.room {
            self.make_room();
        }
        memory::push(&mut self.buffer, reference)
    }

    #[cold]
    fn make_room(&mut self) {
        sort(&mut self.buffer);
        self.buffer.dedup();
        // Otherwise duplicates have made room.
        if self.buffer.len() > self.room / 2 {
            let place = self.place;
            let spilled = self.spilled.get_or_insert_with(|| Spilled::begin(place));
            self.buffer.drain(..).for_each(|reference| spilled.put(&reference));
        }
    }

    /// Sorts.
    pub fn sorted(mut self) -> SortedReferences {
        let Some(mut spilled) = self.spilled else {
            sort(&mut self.buffer);
            return SortedReferences::Memory { references: self.buffer, next: 0 };
        };
        self.buffer.drain(..).for_each(|reference| spilled.put(&reference));
        spilled.perform();
        SortedReferences::Spilled(spilled)
    }
}

/// In the order of the encoded references, without comparing byte by byte.
fn sort(references: &mut [Reference]) {
    references.sort_unstable_by_key(|reference| (u128::from_be_bytes(reference.key.0), reference.len));
}

fn kilobytes() -> i32 {
    // SAFETY: a plain read of a setting.
    unsafe { pg_sys::maintenance_work_mem / 2 }.min(MOST)
}

/// The references of a mark in ascending order, duplicates included.
pub enum SortedReferences {
    /// All of them.
    Memory {
        /// Sorted.
        references: Vec<Reference>,
        /// Index of the next one.
        next: usize,
    },
    /// In a sort of PostgreSQL.
    Spilled(Spilled),
}

impl SortedReferences {
    /// Starts again with the smallest reference.
    pub fn rewind(&mut self) {
        match self {
            Self::Memory { next, .. } => *next = 0,
            Self::Spilled(spilled) => spilled.rewind(),
        }
    }
}

impl Iterator for SortedReferences {
    type Item = Reference;

    fn next(&mut self) -> Option<Reference> {
        match self {
            Self::Memory { references, next } => {
                let reference = references.get(*next).copied();
                *next += usize::from(reference.is_some());
                reference
            }
            Self::Spilled(spilled) => spilled.next(),
        }
    }
}

/// A memory context and a resource owner.
#[derive(Clone, Copy)]
struct Place {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Place {
    fn current() -> Self {
        // SAFETY: plain reads.
        unsafe { Self { context: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner } }
    }

    /// Runs `work` here.
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        // SAFETY: both outlive the mark. What was current before is put back; an ERROR on the way ends a
        // subtransaction, which does the same.
        unsafe {
            let before = Self::current();
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
            let result = work();
            pg_sys::CurrentResourceOwner = before.owner;
            pg_sys::MemoryContextSwitchTo(before.context);
            result
        }
    }
}

/// A bytea datum that holds one encoded reference.
#[repr(C, align(4))]
struct Datum {
    header: [u8; 4],
    bytes: [u8; REFERENCE_LEN],
}

/// A sort of PostgreSQL, which keeps to its memory and writes temporary files.
pub struct Spilled {
    state: *mut pg_sys::Tuplesortstate,
    place: Place,
    datum: Datum,
}

impl Spilled {
    fn begin(place: Place) -> Self {
        let mut datum = Datum { header: [0; 4], bytes: [0; REFERENCE_LEN] };
        // SAFETY: bytea has a btree operator class; the sort is ended by drop, or with its context and resource owner
        // when an ERROR passes. The datum is as long as its header will say.
        let state = place.run(|| unsafe {
            pgrx::set_varsize_4b((&raw mut datum).cast(), size_of::<Datum>() as i32);
            let cache = pg_sys::lookup_type_cache(pg_sys::BYTEAOID, pg_sys::TYPECACHE_LT_OPR as i32);
            pg_sys::tuplesort_begin_datum(
                pg_sys::BYTEAOID,
                (*cache).lt_opr,
                pg_sys::InvalidOid,
                false,
                kilobytes(),
                null_mut(),
                pg_sys::TUPLESORT_RANDOMACCESS as i32,
            )
        });
        Self { state, place, datum }
    }

    fn put(&mut self, reference: &Reference) {
        self.datum.bytes = reference.encode();
        let (state, datum) = (self.state, pg_sys::Datum::from(&raw const self.datum));
        // SAFETY: the sort copies the datum.
        self.place.run(|| unsafe { pg_sys::tuplesort_putdatum(state, datum, false) });
    }

    fn perform(&mut self) {
        let state = self.state;
        // SAFETY: the sort has been begun and not yet performed.
        self.place.run(|| unsafe { pg_sys::tuplesort_performsort(state) });
    }

    fn rewind(&mut self) {
        // SAFETY: the sort was begun with random access and has been performed.
        unsafe { pg_sys::tuplesort_rescan(self.state) }
    }

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

impl Drop for Spilled {
    fn drop(&mut self) {
        // During unwinding the transaction's abort frees it; calling into the server then could raise a second error.
        if !std::thread::panicking() {
            // SAFETY: begun by us and not ended yet.
            unsafe { pg_sys::tuplesort_end(self.state) }
        }
    }
}
