//! The update of rows whose payloads are stored after the fact. It is made below SQL: the rows' values do not change,
//! so no trigger, rule, policy or privilege applies; only indexes get the new versions, and generated columns are
//! computed anew, because they may depend on the file.

use crate::pg::error::{self, Report};
use crate::pg::heap_scan::{HeapScan, Slot};
use crate::pg::memory::TupleMemory;
use crate::pg::relation::Relation;
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::subtransaction::subtransaction;
use crate::pg::{catalog, compat};
use crate::value::columns::{Closure, Columns};
use crate::value::datum::{Peek, Rbytea};
use crate::write::published;
use crate::write::row_trigger::{Replaced, ensure_all_live, ensure_live, store_inline};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::ptr::null_mut;

/// Stores the inline payloads in `columns` of every visible row, and checks references. False if the table takes no updates.
///
/// # Safety
/// `relation` must be a table, or a materialized view of which nothing is to be stored, locked so that no other
/// session writes to it; `columns` must be of it.
pub unsafe fn rows(relation: &Relation, columns: &Columns, types: &Closure) -> Result<bool, Report> {
    let mut memory = TupleMemory::new();
    // Does not see the versions that are written here.
    let snapshot = ActiveSnapshot::latest();
    // SAFETY: as promised by the caller; the snapshot is the active one.
    let mut writer = unsafe { Writer::new(relation, &snapshot, Constraints::Ignored) };
    let mut scan = HeapScan::visible(relation, &snapshot);
    while let Some(slot) = scan.next() {
        let go_on = memory.with(|| -> Result<bool, Report> {
            // SAFETY: the slot holds a tuple of the relation, which has these columns and is locked.
            unsafe {
                let versions = |column| (slot.attribute(column), slot.attribute(column));
                published::check(relation.as_ptr(), columns, types, versions)?;
                let replaced = look(slot, columns, types)?;
                if replaced.is_empty() { Ok(true) } else { writer.replace(slot, replaced) }
            }
        })?;
        if !go_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Stores what is inline in one row and returns the references.
///
/// # Safety
/// `slot` must hold a tuple with these columns.
unsafe fn look(slot: &Slot<'_>, columns: &Columns, types: &Closure) -> Result<Replaced, Report> {
    let mut replaced = Replaced::default();
    for &(column, type_oid) in &columns.containers {
        // SAFETY: as promised by the caller; a datum of the column's type, held by the slot.
        unsafe {
            if let Some(datum) = slot.attribute(column) {
                ensure_all_live(datum, type_oid, types)?;
            }
        }
    }
    for &column in &columns.stored {
        // SAFETY: as promised by the caller; a datum of one of our columns, held by the slot.
        let Some(value) = (unsafe { slot.attribute(column).map(|datum| Rbytea::from_raw(datum)) }) else {
            continue;
        };
        match value.peek()? {
            Peek::Inline(len) => {
                if let Some(stored) = store_inline(&value, len)? {
                    replaced.push(column, stored);
                }
            }
            Peek::External(payload) => ensure_live(&payload)?,
        }
    }
    Ok(replaced)
}

/// Whether the constraints of a table are checked. They may depend on the file, as generated columns may.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Constraints {
    /// No: the statement that has made the rows is not to fail for what they were before.
    Ignored,
    /// Yes, as in an UPDATE.
    Checked,
}

/// What writing needs beyond reading; made for the first row that is written. Freed by drop, or by the abort of the
/// (sub)transaction while an ERROR unwinds.
pub struct Writer<'a> {
    relation: &'a Relation,
    snapshot: &'a ActiveSnapshot,
    constraints: Constraints,
    /// Lives longer than a tuple.
    memory: pg_sys::MemoryContext,
    open: Option<Open>,
}

/// The table's indexes, and what evaluates their expressions.
struct Open {
    estate: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
}

impl<'a> Writer<'a> {
    /// # Safety
    /// `relation` must be a table that is locked for writing.
    pub unsafe fn new(
        relation: &'a Relation,
        snapshot: &'a ActiveSnapshot,
        constraints: Constraints,
    ) -> Self {
        // SAFETY: a plain read; the current context outlives the scan.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        Self { relation, snapshot, constraints, memory, open: None }
    }

    /// Writes the new version of the row in `slot`. False if the table takes no updates.
    ///
    /// # Safety
    /// `slot` must hold a tuple of the relation that no other transaction can change.
    pub unsafe fn replace(&mut self, slot: &Slot<'_>, replaced: Replaced) -> Result<bool, Report> {
        let owner = self.relation.class().relowner;
        if self.open.is_none() {
            if !takes_updates(self.relation)? {
                return Ok(false);
            }
            // Constants in the expressions of indexes are computed when the indexes are opened.
            self.open = Some(as_owner(owner, || Open::begin(self.relation, self.memory)));
        }
        let Some(open) = &self.open else { return Ok(false) };
        // SAFETY: as promised by the caller; both slots are of the relation.
        unsafe {
            let old = pg_sys::ExecFetchSlotHeapTuple(slot.as_ptr(), false, null_mut());
            let new = replaced.apply(old, self.relation.descriptor());
            pg_sys::ExecForceStoreHeapTuple(new, open.slot, false);
            let mut tid = slot.tid();
            as_owner(owner, || self.write(open, &mut tid));
            pg_sys::ExecClearTuple(open.slot);
            let per_tuple = (*open.estate).es_per_tuple_exprcontext;
            if !per_tuple.is_null() {
                pg_sys::MemoryContextReset((*per_tuple).ecxt_per_tuple_memory);
            }
        }
        Ok(true)
    }

    /// The part that runs code of users: expressions of generated columns, constraints and indexes.
    ///
    /// # Safety
    /// As for [`replace`](Self::replace); `open.slot` must hold the new version of the row at `tid`.
    unsafe fn write(&self, open: &Open, tid: pg_sys::ItemPointer) {
        let relation = self.relation.as_ptr();
        // SAFETY: as promised by the caller; a relation without constraints has no structure of them.
        unsafe {
            let constraints = (*self.relation.descriptor()).constr.as_ref();
            if constraints.is_some_and(|constraints| constraints.has_generated_stored) {
                compat::compute_generated(open.target, open.estate, open.slot);
            }
            if self.constraints == Constraints::Checked {
                if constraints.is_some() {
                    pg_sys::ExecConstraints(open.target, open.slot, open.estate);
                }
                if self.relation.class().relispartition {
                    pg_sys::ExecPartitionCheck(open.target, open.slot, open.estate, true);
                }
            }
            compat::update_tuple(relation, tid, open.slot, self.snapshot.as_ptr(), open.target, open.estate);
        }
    }
}

impl Open {
    /// Of a relation that is locked for writing. `memory` must not be below the memory context of the tuple at hand.
    fn begin(relation: &Relation, memory: pg_sys::MemoryContext) -> Self {
        // SAFETY: the executor state has a context of its own, below `memory`; the other two are allocated in it. An
        // ERROR on the way ends the scan, and the tuple's context is left then.
        unsafe {
            let memory = pg_sys::MemoryContextSwitchTo(memory);
            let estate = pg_sys::CreateExecutorState();
            pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            let target: *mut pg_sys::ResultRelInfo =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(target, relation.as_ptr(), 0, null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let slot = pg_sys::table_slot_create(relation.as_ptr(), null_mut());
            pg_sys::MemoryContextSwitchTo(memory);
            Self { estate, target, slot }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // While an ERROR unwinds, the abort closes the indexes and frees the memory.
        if !std::thread::panicking() {
            // SAFETY: made by begin(), for a relation that is still open.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
                pg_sys::ExecCloseIndices(self.target);
                pg_sys::FreeExecutorState(self.estate);
            }
        }
    }
}

/// Whether the publications of a table allow updates of it: it may lack a replica identity, or have one that a row
/// filter or a column list does not fit. Its rows stay as they are then, complete and only large, and a WARNING says
/// so.
fn takes_updates(relation: &Relation) -> Result<bool, Report> {
    let checked = subtransaction(|| {
        // SAFETY: the relation is open.
        unsafe { pg_sys::CheckCmdReplicaIdentity(relation.as_ptr(), pg_sys::CmdType::CMD_UPDATE) };
        Ok(())
    });
    match checked {
        Ok(()) => Ok(true),
        Err(refused) if is_refusal(refused.code) => {
            warn_refused(relation.oid(), refused.report.message());
            Ok(false)
        }
        Err(caught) => Err(caught.into()),
    }
}

/// The SQLSTATEs of CheckCmdReplicaIdentity (PostgreSQL's execReplication.c).
fn is_refusal(code: PgSqlErrorCode) -> bool {
    code == PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
        || code == PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE
}

fn warn_refused(relid: pg_sys::Oid, reason: &str) {
    let table = catalog::relation_name(relid).unwrap_or_default();
    let report = error::report(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("payloads of table {table} stay in their rows"),
    )
    .set_detail(format!("{reason}."))
    .set_hint("They are complete, only large; an UPDATE of the column stores them.");
    error::emit(report, PgLogLevel::WARNING);
}

/// Runs `work` as a table's owner, in whose name its expressions are evaluated.
fn as_owner<T>(owner: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: what is set here is taken back below, or by the
    // abort of the surrounding (sub)transaction when an ERROR passes through.
    let nest_level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(owner, context | restricted as i32);
        pg_sys::NewGUCNestLevel()
    };
    let result = work();
    // SAFETY: as above.
    unsafe {
        pg_sys::AtEOXact_GUC(false, nest_level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}
