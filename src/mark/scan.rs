//! The scan of one locked relation: every non-removable tuple, and every reference in it. What cannot be read is an
//! error.

use crate::mark::found::Found;
use crate::mark::relations::{Relations, is_catalog};
use crate::pg::error::{self, Report};
use crate::pg::heap_scan::{HeapScan, Slot};
use crate::pg::memory::TupleMemory;
use crate::pg::pace::Pace;
use crate::pg::relation::{Relation, Unlock};
use crate::pg::{catalog, progress};
use crate::value::walk::{Types, Walker};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::num::NonZeroUsize;

/// How many tuples go by between two reports of progress.
const TUPLES_SHOWN: u64 = 1024;

/// Scans a relation that is locked. One that is gone holds nothing; one that cannot be read ends the run (I10).
pub fn relation(
    relid: pg_sys::Oid,
    relations: &Relations,
    found: &mut Found,
    pace: &mut Pace,
) -> Result<(), Report> {
    let Some(relation) = Relation::try_open(relid, pg_sys::AccessShareLock, Unlock::AtClose) else {
        return Ok(());
    };
    let columns: Vec<(NonZeroUsize, pg_sys::Oid)> = relation
        .attributes()
        .map(|(column, attribute)| (column, attribute.atttypid))
        .filter(|&(_, type_oid)| relations.leads_to_value(type_oid))
        .collect();
    if columns.is_empty() {
        return Ok(());
    }
    if !relation.is_heap() {
        return Err(foreign_access_method(relid));
    }
    let catalog = is_catalog(relid);
    let mut walker = Walker::new(relations);
    let mut memory = TupleMemory::new();
    let mut scan = HeapScan::non_removable(&relation);
    while let Some(slot) = scan.next() {
        pace.step()?;
        if !catalog {
            found.tuples += 1;
        }
        if found.tuples.is_multiple_of(TUPLES_SHOWN) {
            progress::tuples(found.tuples);
        }
        // SAFETY: the slot holds a tuple of a heap.
        let deleted = unsafe { is_deleted(slot) };
        if deleted && catalog {
            // No session looks catalogs up with an old snapshot.
            continue;
        }
        // What detoasting allocates goes to the memory of the tuple.
        memory.with(|| -> Result<(), Report> {
            for &(column, type_oid) in &columns {
                // SAFETY: the slot holds a tuple of the relation, which has the column with this type; the page is
                // pinned meanwhile.
                unsafe {
                    if let Some(datum) = slot.attribute(column) {
                        walker.walk(datum, type_oid, &mut |payload| found.reference(payload, deleted))?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether the tuple is recently dead: deleted by a transaction that committed, but an old snapshot may see it.
/// The visibility check has just set the hint bit. (Only a message depends on this.)
///
/// # Safety
/// `slot` must hold a heap tuple.
unsafe fn is_deleted(slot: &Slot<'_>) -> bool {
    // SAFETY: as promised by the caller; the tuple is not copied and lives as long as the slot holds it.
    let infomask = unsafe {
        let tuple = pg_sys::ExecFetchSlotHeapTuple(slot.as_ptr(), false, std::ptr::null_mut());
        u32::from((*(*tuple).t_data).t_infomask)
    };
    infomask & pg_sys::HEAP_XMAX_COMMITTED != 0 && infomask & pg_sys::HEAP_XMAX_LOCK_ONLY == 0
}

fn foreign_access_method(relid: pg_sys::Oid) -> Report {
    let name = catalog::relation_name(relid).unwrap_or_default();
    error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("the vacuum cannot read table {name}: its access method is not heap"),
    )
    .set_detail("Without knowing what it refers to, no payload file can be called garbage.")
    .set_hint("Move the table with ALTER TABLE ... SET ACCESS METHOD heap, or drop its rbytea columns.")
}
