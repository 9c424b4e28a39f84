//! A relation that is open and locked, and the columns of a tuple descriptor. Closed by drop, or by the abort while an
//! ERROR unwinds.

use crate::pg::compat;
use pgrx::pg_sys;
use std::num::NonZeroUsize;

/// When the lock that a relation was opened with is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unlock {
    /// With the relation.
    AtClose,
    /// With the transaction.
    AtEnd,
}

/// An open relation; closed by drop, or by the abort of the (sub)transaction while an ERROR unwinds.
pub struct Relation {
    relation: pg_sys::Relation,
    lock: pg_sys::LOCKMODE,
}

impl Relation {
    /// Locks and opens a relation; None if there is none with this OID any more.
    pub fn try_open(relid: pg_sys::Oid, lock: u32, unlock: Unlock) -> Option<Self> {
        let lock = lock as pg_sys::LOCKMODE;
        // SAFETY: we are inside of a transaction; any OID will do, and one without a relation yields NULL.
        let relation = unsafe { pg_sys::try_relation_open(relid, lock) };
        if relation.is_null() {
            return None;
        }
        let lock = if unlock == Unlock::AtClose { lock } else { pg_sys::NoLock as pg_sys::LOCKMODE };
        Some(Self { relation, lock })
    }

    /// The relation, for as long as self lives.
    pub fn as_ptr(&self) -> pg_sys::Relation {
        self.relation
    }

    /// Its OID.
    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: open as long as self lives.
        unsafe { (*self.relation).rd_id }
    }

    /// Its row of pg_class.
    pub fn class(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: open and locked as long as self lives; the relation cache keeps the row of a relation that is open.
        unsafe { &*(*self.relation).rd_rel }
    }

    /// Whether its rows are stored by PostgreSQL's heap, under whatever name.
    pub fn is_heap(&self) -> bool {
        // SAFETY: open as long as self lives; routines are compared by their address.
        unsafe { (*self.relation).rd_tableam == pg_sys::GetHeapamTableAmRoutine() }
    }

    /// The descriptor of its rows.
    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: open as long as self lives.
        unsafe { (*self.relation).rd_att }
    }

    /// Its columns, without those that were dropped.
    pub fn attributes(&self) -> impl Iterator<Item = (NonZeroUsize, &pg_sys::FormData_pg_attribute)> {
        // SAFETY: the descriptor lives as long as the relation is open and locked, which self sees to.
        unsafe { attributes(self.descriptor()) }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        // While an ERROR unwinds, the abort closes it; doing it here as well would be one time too many.
        if !std::thread::panicking() {
            // SAFETY: opened by try_open() with the same resource owner.
            unsafe { pg_sys::relation_close(self.relation, self.lock) }
        }
    }
}

/// The columns of a descriptor with their numbers, without those that were dropped.
///
/// # Safety
/// `tupdesc` must be valid for `'a`.
pub unsafe fn attributes<'a>(
    tupdesc: pg_sys::TupleDesc,
) -> impl Iterator<Item = (NonZeroUsize, &'a pg_sys::FormData_pg_attribute)> {
    // SAFETY: as promised by the caller; attributes are numbered from 0 to natts - 1.
    let (count, attribute) =
        unsafe { ((*tupdesc).natts as usize, move |index| &*compat::attribute(tupdesc, index)) };
    (0..count)
        .map(move |index| (NonZeroUsize::MIN.saturating_add(index), attribute(index)))
        .filter(|(_, attribute): &(_, &'a pg_sys::FormData_pg_attribute)| !attribute.attisdropped)
}
