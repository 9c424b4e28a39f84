//! The rows of a check: every reference that a transaction sees, or will see if it commits, looked up in the store.

use super::payloads::Examiner;
use super::{Findings, Place, Problem};
use crate::catalog::{self, Extension};
use crate::columns::Closure;
use crate::horizon::RunSnapshot;
use crate::memory::TupleMemory;
use crate::pace::Pace;
use crate::walk::{Types, Walker};
use crate::{compat, error, mark};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, Spi, check_for_interrupts, pg_sys};
use std::ptr::null_mut;

/// The table, or its partitions and descendants, that have rows.
pub fn tree(target: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, ErrorReport> {
    let Some(name) = catalog::relation_name(target) else {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("relation with OID {target} does not exist"),
        ));
    };
    // SAFETY: lookups in the system cache.
    let (kind, hidden) = unsafe {
        let hidden = pg_sys::isOtherTempNamespace(pg_sys::get_rel_namespace(target));
        (pg_sys::get_rel_relkind(target) as u8, hidden)
    };
    if !matches!(kind, b'r' | b'p' | b'm') || hidden {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("cannot check the payloads of {name}"),
        )
        .set_detail(
            "It is neither a table nor a materialized view, or a temporary table of another session.",
        ));
    }
    let query = "WITH RECURSIVE tree AS (
                     SELECT $1 AS relid
                     UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i, tree WHERE i.inhparent OPERATOR(pg_catalog.=) tree.relid)
                 SELECT relid FROM tree ORDER BY relid";
    let found = Spi::connect(|client| {
        client
            .select(query, None, &[target.into()])?
            .map(|row| row.get::<pg_sys::Oid>(1))
            .collect::<Result<Vec<_>, _>>()
    });
    let found = found.map_err(|error| error::internal(error.to_string()))?;
    Ok(found.into_iter().flatten().collect())
}

/// Every relation of the database that can hold a value.
pub fn all(extension: &Extension) -> Result<Vec<pg_sys::Oid>, ErrorReport> {
    let mut found = mark::holding(extension.type_oid()?);
    found.sort_unstable_by_key(|relid| relid.to_u32());
    Ok(found)
}

/// Checks one relation. One that is gone, that has no rows of its own or that belongs to another session has nothing to check.
pub fn check(
    extension: &Extension,
    relid: pg_sys::Oid,
    snapshot: &RunSnapshot,
    examiner: &mut Examiner,
    pace: &mut Pace,
    findings: &mut Findings,
) -> Result<(), ErrorReport> {
    let types = Closure::new(extension.type_oid()?);
    // SAFETY: the relation is closed again; an ERROR that passes through aborts the transaction, which closes it too. The
    // lock stays to the end of the transaction, as that of a SELECT does.
    unsafe {
        let kind = pg_sys::get_rel_relkind(relid) as u8;
        if !matches!(kind, b'r' | b'm') || pg_sys::isOtherTempNamespace(pg_sys::get_rel_namespace(relid)) {
            return Ok(());
        }
        let relation = pg_sys::try_relation_open(relid, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return Ok(());
        }
        let checked = scan(relation, &types, snapshot, examiner, pace, findings);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        checked
    }
}

/// # Safety
/// `relation` must be open and locked.
unsafe fn scan(
    relation: pg_sys::Relation,
    types: &Closure,
    snapshot: &RunSnapshot,
    examiner: &mut Examiner,
    pace: &mut Pace,
    findings: &mut Findings,
) -> Result<(), ErrorReport> {
    // SAFETY: the relation is open; its descriptor lives as long as it is.
    let columns: Vec<(i32, pg_sys::Oid)> = unsafe {
        let tupdesc = (*relation).rd_att;
        (0..(*tupdesc).natts as usize)
            .map(|index| (index as i32 + 1, &*compat::attribute(tupdesc, index)))
            .filter(|(_, attribute)| !attribute.attisdropped && types.leads_to_value(attribute.atttypid))
            .map(|(number, attribute)| (number, attribute.atttypid))
            .collect()
    };
    if columns.is_empty() {
        return Ok(());
    }
    let mut walker = Walker::new(types);
    let mut memory = TupleMemory::new();
    // SAFETY: scan, slot and snapshots live to the end of the block; tuples are looked at while the slot holds their page
    // pinned, and what detoasting allocates goes to a context that is reset for each tuple.
    unsafe {
        // No snapshot but ours decides, and ours cannot see what is being written.
        let mut any =
            pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_ANY, ..Default::default() };
        let slot = pg_sys::table_slot_create(relation, null_mut());
        let scan = pg_sys::table_beginscan_strat(relation, &mut any, 0, null_mut(), true, false);
        while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            check_for_interrupts!();
            pace.step()?;
            if !counts(relation, slot, snapshot) {
                continue;
            }
            let place = Place { table: (*relation).rd_id, ctid: (*slot).tts_tid };
            memory.with(|| -> Result<(), ErrorReport> {
                for &(number, type_oid) in &columns {
                    let mut is_null = false;
                    let datum = pg_sys::slot_getattr(slot, number, &mut is_null);
                    if is_null {
                        continue;
                    }
                    let walked = walker.walk(datum, type_oid, &mut |payload| {
                        if let Some((problem, path)) = examiner.examine(payload)
                            // The transaction may have been rolled back meanwhile, and the file be garbage.
                            && counts(relation, slot, snapshot)
                        {
                            findings.row(place, Some(payload), problem, Some(&path));
                        }
                        Ok(())
                    });
                    // The visitor has no error of its own: the value has.
                    if walked.is_err() {
                        findings.row(place, None, Problem::InvalidValue, None);
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

/// Whether our snapshot sees the tuple, or anybody else does now, or will if a transaction commits: not what was rolled back, and
/// not what was deleted before.
///
/// # Safety
/// `slot` must hold a tuple of the open relation.
unsafe fn counts(
    relation: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: &RunSnapshot,
) -> bool {
    // SAFETY: as promised by the caller; a look at a tuple through a dirty snapshot writes to that snapshot.
    unsafe {
        let mut dirty = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        pg_sys::table_tuple_satisfies_snapshot(relation, slot, snapshot.as_ptr())
            || pg_sys::table_tuple_satisfies_snapshot(relation, slot, &mut dirty)
    }
}
