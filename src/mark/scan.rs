//! The scan of one relation: every tuple that is not dead to everyone, and every reference in it.

use crate::mark::Scan;
use crate::mark::relations::is_catalog;
use crate::pg::error::{self, Report};
use crate::pg::memory::TupleMemory;
use crate::pg::{catalog, compat, progress};
use crate::value::walk::{Types, Walker};
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_sys};

/// How many tuples go by between two reports of progress.
const TUPLES_SHOWN: u64 = 1024;

/// Scans a relation that is locked. One that is gone holds nothing; one that cannot be read ends the run (I10).
pub fn relation(relid: pg_sys::Oid, context: &mut Scan<'_>) -> Result<(), Report> {
    // SAFETY: the relation is closed again.
    let relation = unsafe { pg_sys::try_relation_open(relid, pg_sys::AccessShareLock as i32) };
    if relation.is_null() {
        return Ok(());
    }
    // SAFETY: open and locked.
    let result = unsafe { scan(relation, context) };
    // SAFETY: opened above. Not reached when an ERROR passes through; the abort of the subtransaction closes it then.
    unsafe { pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32) };
    result
}

/// # Safety
/// `relation` must be open and locked.
unsafe fn scan(relation: pg_sys::Relation, context: &mut Scan<'_>) -> Result<(), Report> {
    let Scan { relations, found, pace } = context;
    // SAFETY: the relation is open; its descriptor lives as long as it is.
    let columns = unsafe {
        let tupdesc = (*relation).rd_att;
        let columns: Vec<(i32, pg_sys::Oid)> = (0..(*tupdesc).natts as usize)
            .map(|index| (index, &*compat::attribute(tupdesc, index)))
            .filter(|(_, attribute)| !attribute.attisdropped && relations.leads_to_value(attribute.atttypid))
            .map(|(index, attribute)| (index as i32 + 1, attribute.atttypid))
            .collect();
        if columns.is_empty() {
            return Ok(());
        }
        if (*(*relation).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
            return Err(foreign_access_method((*relation).rd_id));
        }
        columns
    };
    let mut walker = Walker::new(*relations);
    let mut memory = TupleMemory::new();
    // SAFETY: the scan, its slot and its snapshot live to the end of the block; tuples are looked at while the slot
    // holds their page pinned, and what detoasting allocates goes to a context that is reset for each tuple.
    unsafe {
        let mut snapshot = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_NON_VACUUMABLE,
            vistest: pg_sys::GlobalVisTestFor(relation),
            ..Default::default()
        };
        let catalog = is_catalog((*relation).rd_id);
        let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
        let scan =
            pg_sys::table_beginscan_strat(relation, &mut snapshot, 0, std::ptr::null_mut(), true, false);
        while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            check_for_interrupts!();
            pace.step()?;
            found.tuples += u64::from(!catalog);
            if found.tuples.is_multiple_of(TUPLES_SHOWN) {
                progress::tuples(found.tuples);
            }
            let deleted = is_deleted(slot);
            if deleted && catalog {
                // Lookups in the catalogs never use an old snapshot.
                continue;
            }
            memory.with(|| -> Result<(), Report> {
                for &(column, type_oid) in &columns {
                    let mut is_null = false;
                    let datum = pg_sys::slot_getattr(slot, column, &mut is_null);
                    if !is_null {
                        walker.walk(datum, type_oid, &mut |payload| found.reference(payload, deleted))?;
                    }
                }
                Ok(())
            })?;
        }
        pg_sys::table_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
    }
    Ok(())
}

/// Whether the tuple was deleted by a transaction that committed: it counts only because an old snapshot may see it.
/// The visibility check has just set the hint bit. (Only a message depends on this.)
///
/// # Safety
/// `slot` must hold a heap tuple.
unsafe fn is_deleted(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: as promised by the caller; the tuple is not copied and lives as long as the slot holds it.
    let infomask = unsafe {
        let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, std::ptr::null_mut());
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
