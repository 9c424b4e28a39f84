//! The rows of a check: every reference that a transaction sees, or will see if it commits, looked up in the store.
//! Locks one table at a time, as a SELECT does.

use crate::check::findings::{Findings, Place, Problem};
use crate::check::payloads::Examiner;
use crate::ddl::reconcile::{Target, may_have_unstored_rows};
use crate::mark;
use crate::mark::horizon::RunSnapshot;
use crate::pg::error::{self, Report};
use crate::pg::heap_scan::{HeapScan, Slot};
use crate::pg::memory::{self, TupleMemory};
use crate::pg::pace::Pace;
use crate::pg::relation::{Relation, Unlock};
use crate::pg::subtransaction::{Caught, subtransaction};
use crate::pg::{catalog, snapshot};
use crate::value::datum::{Peek, Rbytea};
use crate::value::walk::{Types, Walker};
use crate::write::row_trigger::is_to_be_stored;
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_sys, varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u};
use rbytea_store::PayloadRef;
use std::num::NonZeroUsize;
use std::ptr::null_mut;

/// The table, or its partitions and descendants, that have rows.
pub fn tree(target: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, Report> {
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
    Ok(with_descendants(target))
}

unsafe extern "C-unwind" {
    /// catalog/pg_inherits.h, which pgrx does not bind.
    fn find_all_inheritors(
        parent: pg_sys::Oid,
        lock: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// As they are now, whatever the transaction's snapshot sees.
fn with_descendants(target: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: reads pg_inherits and returns a list of OIDs, in the current memory context.
    unsafe {
        let list = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            find_all_inheritors(target, pg_sys::NoLock as pg_sys::LOCKMODE, null_mut())
        });
        (0..(*list).length as usize).map(|index| (*(*list).elements.add(index)).oid_value).collect()
    }
}

/// Every relation of the database that can hold a value.
pub fn all(type_oid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mut found = mark::relations_using_type(type_oid);
    found.sort_unstable_by_key(|relid| relid.to_u32());
    found
}

/// Whether the relation is there, has rows of its own, and does not belong to another session.
pub fn has_rows(relid: pg_sys::Oid) -> bool {
    // SAFETY: lookups in the system cache; a relation that is gone has kind 0.
    unsafe {
        let kind = pg_sys::get_rel_relkind(relid) as u8;
        matches!(kind, b'r' | b'm') && !pg_sys::isOtherTempNamespace(pg_sys::get_rel_namespace(relid))
    }
}

/// Checks one relation. One that is gone, that has no rows of its own or that belongs to another session has nothing
/// to check.
pub fn check(
    target: &Target,
    relid: pg_sys::Oid,
    snapshot: &RunSnapshot,
    examiner: &mut Examiner,
    pace: &mut Pace,
    findings: &mut Findings,
) -> Result<(), Report> {
    if !has_rows(relid) {
        return Ok(());
    }
    // Unlocked when it is closed, as after a mark's scan: the check holds one table's lock at a time.
    let Some(relation) = Relation::try_open(relid, pg_sys::AccessShareLock, Unlock::AtClose) else {
        return Ok(());
    };
    let types = &target.types;
    let unstored = may_have_unstored_rows(&relation, target);
    let columns: Vec<Column> = relation
        .attributes()
        .filter(|(_, attribute)| types.leads_to_value(attribute.atttypid))
        .map(|(number, attribute)| Column {
            number,
            type_oid: attribute.atttypid,
            // SAFETY: a lookup in the system cache.
            itself: unsafe { pg_sys::getBaseType(attribute.atttypid) } == types.rbytea(),
            unstored: unstored && attribute.attgenerated == 0,
        })
        .collect();
    if columns.is_empty() {
        return Ok(());
    }
    let mut walker = Walker::new(types);
    let mut memory = TupleMemory::new();
    let mut references = Vec::new();
    // No snapshot but ours decides, and ours cannot see what is being written.
    let mut scan = HeapScan::any(&relation);
    while let Some(slot) = scan.next() {
        pace.step()?;
        // SAFETY: the slot holds a tuple of the relation.
        let counts = || unsafe { counts(&relation, slot, snapshot) };
        if !counts() {
            continue;
        }
        let place = Place { table: relid, ctid: slot.tid() };
        // What detoasting allocates goes to the memory of the tuple.
        memory.with(|| -> Result<(), Report> {
            for column in &columns {
                // SAFETY: the slot holds a tuple of the relation, which has the column.
                let Some(datum) = (unsafe { slot.attribute(column.number) }) else { continue };
                references.clear();
                // SAFETY: a datum of this column, whose page is pinned meanwhile.
                let problem = unsafe { take_apart(datum, column, &mut walker, &mut references)? };
                let problem = problem.filter(|&problem| {
                    // SAFETY: the slot holds a tuple of a heap: others have no row trigger to be without.
                    problem != Problem::NotStored || unsafe { target.may_have_come_past(slot) }
                });
                // Asked again whenever something is wrong: the transaction may have been rolled back meanwhile, and
                // the file be garbage, or the TOAST rows be gone.
                if let Some(problem) = problem
                    && counts()
                {
                    findings.row(place, None, problem, None);
                }
                for payload in &references {
                    check_for_interrupts!();
                    if let Some((problem, path)) = examiner.examine(payload)
                        && counts()
                    {
                        findings.row(place, Some(payload), problem, Some(&path));
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A column that leads to values.
struct Column {
    number: NonZeroUsize,
    type_oid: pg_sys::Oid,
    /// Of the type itself or a domain over it, rather than of one that is made of it.
    itself: bool,
    /// The table was without its row trigger.
    unstored: bool,
}

/// Finds the references in a value; if it is not valid, what was found before that came to light. Returns what is wrong with
/// the value itself.
///
/// # Safety
/// `datum` must be a datum of the column.
unsafe fn take_apart(
    datum: pg_sys::Datum,
    column: &Column,
    walker: &mut Walker<'_>,
    references: &mut Vec<PayloadRef>,
) -> Result<Option<Problem>, Report> {
    // SAFETY: as promised by the caller; what a subtransaction that failed has begun, its end has cleaned up.
    unsafe {
        if !column.itself {
            let mut push = |payload: &PayloadRef| memory::push(references, *payload);
            return invalid(subtransaction(|| walker.walk(datum, column.type_oid, &mut push)));
        }
        let value = Rbytea::from_raw(datum);
        let peeked = if is_plain(datum) {
            match value.peek() {
                Ok(peeked) => peeked,
                // Taken from bytes that were there: there is nothing else that could fail.
                Err(_) => return Ok(Some(Problem::InvalidValue)),
            }
        } else {
            match subtransaction(|| value.peek()) {
                Ok(peeked) => peeked,
                Err(caught) => return invalid(Err(caught)),
            }
        };
        match peeked {
            Peek::External(payload) => memory::push(references, payload).map(|()| None),
            Peek::Inline(len) => Ok((column.unstored && is_to_be_stored(len)).then_some(Problem::NotStored)),
        }
    }
}

/// Whether the value's bytes lie in the row as they are.
///
/// # Safety
/// `datum` must be a varlena.
unsafe fn is_plain(datum: pg_sys::Datum) -> bool {
    let varlena: *mut pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: as promised by the caller.
    unsafe { varatt_is_4b_u(varlena) || varatt_is_1b(varlena) && !varatt_is_1b_e(varlena) }
}

/// What is an ERROR of the value, rather than of the check.
fn invalid(taken_apart: Result<(), Caught>) -> Result<Option<Problem>, Report> {
    use PgSqlErrorCode::*;
    match taken_apart {
        Ok(()) => Ok(None),
        Err(Caught {
            code:
                ERRCODE_DATA_CORRUPTED
                | ERRCODE_INTERNAL_ERROR
                | ERRCODE_UNDEFINED_OBJECT
                | ERRCODE_DATATYPE_MISMATCH
                | ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            ..
        }) => Ok(Some(Problem::InvalidValue)),
        Err(caught) => Err(caught.into()),
    }
}

/// Whether our snapshot sees the tuple, or one taken now would, or one after a running transaction's commit: not what
/// was rolled back, and not what was deleted before.
///
/// # Safety
/// `slot` must hold a tuple of the relation.
unsafe fn counts(relation: &Relation, slot: &Slot<'_>, snapshot: &RunSnapshot) -> bool {
    let (relation, slot) = (relation.as_ptr(), slot.as_ptr());
    // SAFETY: as promised by the caller; a look at a tuple through a dirty snapshot writes to that snapshot.
    unsafe {
        pg_sys::table_tuple_satisfies_snapshot(relation, slot, snapshot.as_ptr())
            || pg_sys::table_tuple_satisfies_snapshot(relation, slot, &mut snapshot::dirty())
    }
}
