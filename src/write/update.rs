//! The update of rows whose payloads are stored after the fact. It is made below SQL: the rows' values do not change, so no
//! trigger, rule, policy or privilege has a say in it; only indexes learn of the new versions, and generated columns, which
//! may be about the file.

use crate::pg::error::{self, Report};
use crate::pg::memory::TupleMemory;
use crate::pg::{catalog, compat};
use crate::value::columns::{Closure, Columns};
use crate::value::datum::{Peek, Rbytea};
use crate::write::row_trigger::{Replaced, ensure_all_live, ensure_live, store_inline};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, check_for_interrupts, pg_sys};
use std::num::NonZeroUsize;
use std::ptr::null_mut;

/// Stores the inline payloads in `columns` of every visible row, and checks references.
///
/// # Safety
/// `relation` must be a table, or a materialized view of which nothing is to be stored, open and locked so that nobody else writes to it; `columns` must be of it.
pub unsafe fn rows(relation: pg_sys::Relation, columns: &Columns, types: &Closure) -> Result<(), Report> {
    let mut memory = TupleMemory::new();
    // SAFETY: as promised by the caller. Scan, slots and snapshot live to the end of the block, or are released by the
    // abort when an error passes; the snapshot does not see the versions that are written here.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let snapshot = pg_sys::GetActiveSnapshot();
        let mut writer = Writer::new(relation, snapshot, Constraints::Ignored);
        let slot = pg_sys::table_slot_create(relation, null_mut());
        let scan = pg_sys::table_beginscan(relation, snapshot, 0, null_mut());
        while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            check_for_interrupts!();
            let go_on = memory.with(|| -> Result<bool, Report> {
                let replaced = look(slot, columns, types)?;
                if replaced.is_empty() { Ok(true) } else { writer.replace(slot, replaced) }
            })?;
            if !go_on {
                break;
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        writer.close();
        pg_sys::PopActiveSnapshot();
    }
    Ok(())
}

/// Stores what is inline in one row and returns the references.
///
/// # Safety
/// `slot` must hold a tuple with these columns.
unsafe fn look(
    slot: *mut pg_sys::TupleTableSlot,
    columns: &Columns,
    types: &Closure,
) -> Result<Replaced, Report> {
    let mut replaced = Replaced::default();
    let value = |column: NonZeroUsize| {
        let mut is_null = false;
        // SAFETY: as promised by the caller.
        let datum = unsafe { pg_sys::slot_getattr(slot, column.get() as i32, &mut is_null) };
        (!is_null).then_some(datum)
    };
    for (column, type_oid) in &columns.containers {
        if let Some(datum) = value(*column) {
            // SAFETY: a datum of the column's type, held by the slot.
            unsafe { ensure_all_live(datum, *type_oid, types)? };
        }
    }
    for &column in &columns.stored {
        let Some(datum) = value(column) else { continue };
        // SAFETY: a datum of one of our columns, held by the slot.
        let value = unsafe { Rbytea::from_raw(datum) };
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

/// Whether the constraints of a table have a say. They may be about the file, as generated columns may.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Constraints {
    /// No: the statement that has made the rows is not to fail for what they were before.
    Ignored,
    /// Yes, as in an UPDATE.
    Checked,
}

/// What writing needs beyond reading; made for the first row that is written.
pub struct Writer {
    relation: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    constraints: Constraints,
    /// Lives longer than a tuple.
    memory: pg_sys::MemoryContext,
    open: Option<Open>,
}

struct Open {
    estate: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Writer {
    /// # Safety
    /// `relation` must be a table, open and locked for writing; `snapshot` must be the active one.
    pub unsafe fn new(
        relation: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
        constraints: Constraints,
    ) -> Self {
        // SAFETY: a plain read; the current context outlives the scan.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        Self { relation, snapshot, constraints, memory, open: None }
    }

    /// Writes the new version of the row in `slot`. False if the table takes no updates.
    ///
    /// # Safety
    /// `slot` must hold a tuple of the relation that nobody else can change.
    pub unsafe fn replace(
        &mut self,
        slot: *mut pg_sys::TupleTableSlot,
        replaced: Replaced,
    ) -> Result<bool, Report> {
        // SAFETY: as promised by the caller.
        unsafe {
            let owner = (*(*self.relation).rd_rel).relowner;
            if self.open.is_none() {
                if !takes_updates(self.relation)? {
                    return Ok(false);
                }
                // Constants in the expressions of indexes are computed when the indexes are opened.
                self.open = Some(as_owner(owner, || Ok(self.open()))?);
            }
            let Some(open) = &self.open else { return Ok(false) };
            let old = pg_sys::ExecFetchSlotHeapTuple(slot, false, null_mut());
            let new = replaced.apply(old, (*self.relation).rd_att);
            pg_sys::ExecForceStoreHeapTuple(new, open.slot, false);
            let mut tid = (*slot).tts_tid;
            as_owner(owner, || self.write(open, &mut tid))?;
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
    unsafe fn write(&self, open: &Open, tid: pg_sys::ItemPointer) -> Result<(), Report> {
        // SAFETY: as promised by the caller; a relation without constraints has no structure of them.
        unsafe {
            let constraints = (*(*self.relation).rd_att).constr.as_ref();
            if constraints.is_some_and(|constraints| constraints.has_generated_stored) {
                compat::compute_generated(open.target, open.estate, open.slot);
            }
            if self.constraints == Constraints::Checked {
                if constraints.is_some() {
                    pg_sys::ExecConstraints(open.target, open.slot, open.estate);
                }
                if (*(*self.relation).rd_rel).relispartition {
                    pg_sys::ExecPartitionCheck(open.target, open.slot, open.estate, true);
                }
            }
            compat::update_tuple(self.relation, tid, open.slot, self.snapshot, open.target, open.estate);
        }
        Ok(())
    }

    /// # Safety
    /// As for [`rows`].
    unsafe fn open(&self) -> Open {
        // SAFETY: the executor state has a context of its own, which must not be below that of the tuple at hand; the
        // other two are allocated in it. An ERROR on the way ends the scan, and the tuple's context is left then.
        unsafe {
            let memory = pg_sys::MemoryContextSwitchTo(self.memory);
            let estate = pg_sys::CreateExecutorState();
            pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            let target: *mut pg_sys::ResultRelInfo =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(target, self.relation, 0, null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let slot = pg_sys::table_slot_create(self.relation, null_mut());
            pg_sys::MemoryContextSwitchTo(memory);
            Open { estate, target, slot }
        }
    }

    /// # Safety
    /// Must be called once, after the last row.
    pub unsafe fn close(self) {
        if let Some(open) = self.open {
            // SAFETY: made by open(), and used no more.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(open.slot);
                pg_sys::ExecCloseIndices(open.target);
                pg_sys::FreeExecutorState(open.estate);
            }
        }
    }
}

/// Whether the publications of a table allow updates of it: it may lack a replica identity, or have one that a row filter
/// or a column list does not fit. Its rows stay as they are then, complete and only large, and a WARNING says so.
///
/// # Safety
/// `relation` must be open.
unsafe fn takes_updates(relation: pg_sys::Relation) -> Result<bool, Report> {
    // SAFETY: the pattern of PL/pgSQL's exception blocks: whatever happens, the subtransaction ends here, and memory
    // context and resource owner are those of before.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let back = move || {
            pg_sys::MemoryContextSwitchTo(memory);
            pg_sys::CurrentResourceOwner = owner;
        };
        let relid = (*relation).rd_id;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        PgTryBuilder::new(move || {
            pg_sys::CheckCmdReplicaIdentity(relation, pg_sys::CmdType::CMD_UPDATE);
            pg_sys::ReleaseCurrentSubTransaction();
            back();
            Ok(true)
        })
        .catch_others(move |caught| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            back();
            match &caught {
                CaughtError::PostgresError(report) if is_refusal(report.sql_error_code()) => {
                    warn_refused(relid, report.message());
                    Ok(false)
                }
                _ => caught.rethrow(),
            }
        })
        .execute()
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
    error::tell(report, PgLogLevel::WARNING);
}

/// Runs `work` as a table's owner, in whose name its expressions are evaluated.
pub fn as_owner<T>(owner: pg_sys::Oid, work: impl FnOnce() -> Result<T, Report>) -> Result<T, Report> {
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
