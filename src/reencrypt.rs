//! rbytea_reencrypt(): brings the payloads of a table under the newest key, or out of encryption. Files never change, so
//! each payload is written once more and its row refers to the new file; the old one is garbage for the vacuum. The work
//! is committed in batches: it can be stopped at any time, and called again.

use crate::catalog::{self, Extension};
use crate::columns::Closure;
use crate::datum::{Peek, Rbytea, RbyteaResult};
use crate::externalize::Replaced;
use crate::inline_rows::as_owner;
use crate::inline_rows::update::Writer;
use crate::memory::TupleMemory;
use crate::progress::Reencryption;
use crate::store::{KeyRing, Payload, PayloadId};
use crate::walk::Types;
use crate::{compat, error, keys, settings, xact};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, Spi, check_for_interrupts, pg_extern, pg_sys};
use std::num::NonZeroUsize;
use std::ptr::null_mut;
use std::rc::Rc;

/// The procedure; its arguments are the table and the number of payloads in a batch.
#[pg_extern]
fn rbytea_reencrypt(
    relation: pg_sys::Oid,
    batch: i32,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    // SAFETY: fcinfo is the call at hand; the check looks at the server's state and raises an ERROR in recovery.
    let extension = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_reencrypt()".as_ptr());
        if is_atomic(fcinfo) {
            return Err(in_transaction());
        }
        Extension::of_call(fcinfo)
    };
    let batch = u64::try_from(batch).ok().filter(|batch| *batch > 0).ok_or_else(|| {
        error::report(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "a batch must have at least one payload",
        )
    })?;
    let type_oid = extension.type_oid()?;
    let tables = tables(relation, type_oid)?;
    // SAFETY: closed below. An ERROR that passes through aborts the transaction, which closes it too.
    unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
    let progress = Reencryption::begin();
    let mut again = true;
    // Rows may move between partitions meanwhile, to one where the work is done.
    while std::mem::take(&mut again) {
        for &table in &tables {
            again |= reencrypt(table, type_oid, batch, &progress)? && tables.len() > 1;
        }
    }
    drop(progress);
    // SAFETY: connected above.
    unsafe { pg_sys::SPI_finish() };
    Ok(())
}

/// Whether the call may not end the transaction.
///
/// # Safety
/// `fcinfo` must be the call at hand.
unsafe fn is_atomic(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: as promised by the caller; the node's tag says which structure it is.
    unsafe {
        let context = (*fcinfo).context;
        let call = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_CallContext;
        !call || (*context.cast::<pg_sys::CallContext>()).atomic
    }
}

fn in_transaction() -> ErrorReport {
    error::report(
        PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION,
        "rbytea_reencrypt() cannot run inside of a transaction block",
    )
    .set_detail("It commits after each batch.")
    .set_hint("CALL it as a statement of its own.")
}

/// The table, or the leaf partitions and descendants of it, that have rows.
fn tables(relation: pg_sys::Oid, type_oid: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, ErrorReport> {
    // SAFETY: lookups in the catalogs; a relation that is opened is closed again.
    unsafe {
        let kind = pg_sys::get_rel_relkind(relation) as u8;
        let name = catalog::relation_name(relation).unwrap_or_default();
        if !matches!(kind, b'r' | b'p') || pg_sys::get_rel_persistence(relation) as u8 == b't' {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("cannot re-encrypt the payloads of {name}"),
            )
            .set_detail("It is not a table, or a temporary one."));
        }
        if !compat::owns_relation(relation) {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of table {name}"),
            ));
        }
        let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let columns = columns(open, type_oid);
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        if columns.is_empty() {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("table {name} has no column of type rbytea"),
            ));
        }
    }
    // Partitions and descendants that have rows of their own.
    let query = "WITH RECURSIVE tree AS (
                     SELECT $1 AS relid
                     UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i, tree WHERE i.inhparent OPERATOR(pg_catalog.=) tree.relid)
                 SELECT c.oid FROM pg_catalog.pg_class c, tree
                  WHERE c.oid OPERATOR(pg_catalog.=) tree.relid AND c.relkind OPERATOR(pg_catalog.=) 'r' ORDER BY c.oid";
    let tables = Spi::connect(|client| {
        client
            .select(query, None, &[relation.into()])?
            .map(|row| row.get::<pg_sys::Oid>(1))
            .collect::<Result<Vec<_>, _>>()
    });
    Ok(tables.map_err(|error| error::internal(error.to_string()))?.into_iter().flatten().collect())
}

/// Goes through a table until a whole pass has found nothing to do: rows that others update meanwhile may go where the pass
/// has been. Returns whether there was anything to do.
fn reencrypt(
    table: pg_sys::Oid,
    type_oid: pg_sys::Oid,
    batch: u64,
    progress: &Reencryption,
) -> Result<bool, ErrorReport> {
    let mut position = Position::default();
    let (mut any, mut in_this_pass) = (false, false);
    loop {
        let target = Target::current()?;
        match one_batch(table, type_oid, &target, batch, &mut position, progress)? {
            Passed::Gone => return Ok(any),
            Passed::Batch => in_this_pass = true,
            Passed::End { replaced } => {
                if !in_this_pass && replaced == 0 {
                    return Ok(any);
                }
                (position, in_this_pass) = (Position::default(), false);
            }
        }
        any = true;
        // SAFETY: SPI is connected and may end the transaction; it begins the next one.
        unsafe { pg_sys::SPI_commit() };
        check_for_interrupts!();
    }
}

/// What payloads are to be.
struct Target {
    ring: Option<Rc<KeyRing>>,
}

impl Target {
    /// As new payloads are now.
    fn current() -> Result<Self, ErrorReport> {
        Ok(Self { ring: settings::qss_mode().then(keys::ring).transpose()? })
    }

    fn is_met_by(&self, payload: &Payload) -> bool {
        payload.key_id == self.ring.as_ref().map(|ring| ring.newest().id())
    }

    fn copy(&self, payload: &Payload) -> Result<Payload, ErrorReport> {
        xact::copy_payload(payload, self.ring.as_ref().map(|ring| ring.newest()))
    }
}

/// Where a pass goes on: after this tuple.
#[derive(Clone, Copy, Default)]
struct Position(Option<(u32, u16)>);

/// How a batch has ended.
enum Passed {
    /// The batch is full.
    Batch,
    /// The table ended, after so many payloads of this batch.
    End { replaced: u64 },
    /// There is no such table any more.
    Gone,
}

fn one_batch(
    table: pg_sys::Oid,
    type_oid: pg_sys::Oid,
    target: &Target,
    batch: u64,
    position: &mut Position,
    progress: &Reencryption,
) -> Result<Passed, ErrorReport> {
    // SAFETY: the relation is closed again below, or by the abort of the transaction. It stays locked to its end.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::RowExclusiveLock as i32);
        if relation.is_null() {
            return Ok(Passed::Gone);
        }
        let columns = columns(relation, type_oid);
        let result = if columns.is_empty() {
            Ok(Passed::Gone)
        } else {
            if (*(*relation).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
                let name = catalog::relation_name(table).unwrap_or_default();
                return Err(error::report(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    format!("cannot re-encrypt the payloads of {name}: its access method is not heap"),
                ));
            }
            // A publication without a replica identity refuses.
            pg_sys::CheckCmdReplicaIdentity(relation, pg_sys::CmdType::CMD_UPDATE);
            as_owner((*(*relation).rd_rel).relowner, || {
                pass(relation, &columns, target, batch, position, progress)
            })
        };
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        result
    }
}

/// Columns of type rbytea or of a domain over it, also generated ones: they have their references from the others.
///
/// # Safety
/// `relation` must be open.
unsafe fn columns(relation: pg_sys::Relation, type_oid: pg_sys::Oid) -> Vec<NonZeroUsize> {
    let types = Closure::new(type_oid);
    // SAFETY: as promised by the caller; attributes are numbered from 0 to natts - 1.
    unsafe {
        let tupdesc = (*relation).rd_att;
        (0..(*tupdesc).natts as usize)
            .filter(|&index| {
                let attribute = &*compat::attribute(tupdesc, index);
                !attribute.attisdropped
                    && attribute.attgenerated as u8 != b'v'
                    && types.leads_to_value(attribute.atttypid)
                    && pg_sys::getBaseType(attribute.atttypid) == type_oid
            })
            .filter_map(|index| NonZeroUsize::new(index + 1))
            .collect()
    }
}

/// # Safety
/// `relation` must be an open heap table, locked for writing, with these columns.
unsafe fn pass(
    relation: pg_sys::Relation,
    columns: &[NonZeroUsize],
    target: &Target,
    batch: u64,
    position: &mut Position,
    progress: &Reencryption,
) -> Result<Passed, ErrorReport> {
    let mut memory = TupleMemory::new();
    let mut replaced = 0;
    // SAFETY: as promised by the caller. Scan, slots and snapshot live to the end of the block, or are released by the abort
    // when an error passes; the snapshot does not see the versions that are written here.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let snapshot = pg_sys::GetActiveSnapshot();
        let mut writer = Writer::new(relation, snapshot);
        let found = pg_sys::table_slot_create(relation, null_mut());
        let locked = pg_sys::table_slot_create(relation, null_mut());
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        progress.table((*relation).rd_id, blocks);
        let (mut first, mut last) = (position.next(), tid(pg_sys::InvalidBlockNumber, u16::MAX));
        let scan = pg_sys::table_beginscan_tidrange(relation, snapshot, &mut first, &mut last);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        while replaced < batch && pg_sys::table_scan_getnextslot_tidrange(scan, forward, found) {
            check_for_interrupts!();
            let mut at = (*found).tts_tid;
            *position = Position::at(&at);
            replaced += memory.with(|| -> Result<u64, ErrorReport> {
                if !concerns(found, columns, target)? {
                    return Ok(0);
                }
                // Others may be changing the row: its last version is what counts.
                if !lock(relation, &mut at, snapshot, locked) {
                    return Ok(0);
                }
                let (new, payloads) = rewritten(locked, columns, target)?;
                if payloads > 0 {
                    writer.replace(locked, new)?;
                }
                pg_sys::ExecClearTuple(locked);
                Ok(payloads)
            })?;
            progress.done(position.block(), replaced);
        }
        pg_sys::table_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(locked);
        pg_sys::ExecDropSingleTupleTableSlot(found);
        writer.close();
        pg_sys::PopActiveSnapshot();
    }
    progress.batch(replaced);
    Ok(if replaced < batch { Passed::End { replaced } } else { Passed::Batch })
}

/// Locks the last version of a row for an update, and has it in `slot`. False if the row is gone.
///
/// # Safety
/// `tid` must be of a tuple of the relation that the snapshot sees, `slot` of its kind.
unsafe fn lock(
    relation: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    snapshot: pg_sys::Snapshot,
    slot: *mut pg_sys::TupleTableSlot,
) -> bool {
    let mut failure = pg_sys::TM_FailureData::default();
    // SAFETY: as promised by the caller.
    let result = unsafe {
        pg_sys::table_tuple_lock(
            relation,
            tid,
            snapshot,
            slot,
            pg_sys::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
            pg_sys::LockWaitPolicy::LockWaitBlock,
            pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION as u8,
            &mut failure,
        )
    };
    result == pg_sys::TM_Result::TM_Ok
}

/// The references of a row that are not as they should be.
///
/// # Safety
/// `slot` must hold a tuple with these columns.
unsafe fn outdated(
    slot: *mut pg_sys::TupleTableSlot,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<Vec<(NonZeroUsize, Payload)>, ErrorReport> {
    let mut found = Vec::new();
    for &column in columns {
        let mut is_null = false;
        // SAFETY: as promised by the caller.
        let datum = unsafe { pg_sys::slot_getattr(slot, column.get() as i32, &mut is_null) };
        if is_null {
            continue;
        }
        // SAFETY: a datum of one of our columns, held by the slot.
        if let Peek::External(payload) = unsafe { Rbytea::from_raw(datum) }.peek()?
            && !target.is_met_by(&payload)
        {
            found.push((column, payload));
        }
    }
    Ok(found)
}

/// # Safety
/// As for [`outdated`].
unsafe fn concerns(
    slot: *mut pg_sys::TupleTableSlot,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<bool, ErrorReport> {
    // SAFETY: as promised by the caller.
    unsafe { Ok(!outdated(slot, columns, target)?.is_empty()) }
}

/// Writes the payloads of a row once more; returns the references to them, and how many files there are.
///
/// # Safety
/// As for [`outdated`].
unsafe fn rewritten(
    slot: *mut pg_sys::TupleTableSlot,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<(Replaced, u64), ErrorReport> {
    let mut replaced = Replaced::default();
    // A generated column has the same payload as its source.
    let mut copies: Vec<(PayloadId, Payload)> = Vec::new();
    // SAFETY: as promised by the caller.
    for (column, payload) in unsafe { outdated(slot, columns, target)? } {
        let copy = match copies.iter().find(|(id, _)| *id == payload.id) {
            Some((_, copy)) => *copy,
            None => {
                let copy = target.copy(&payload)?;
                copies.push((payload.id, copy));
                copy
            }
        };
        replaced.push(column, RbyteaResult::external(&copy)?);
    }
    Ok((replaced, copies.len() as u64))
}

impl Position {
    fn at(tid: &pg_sys::ItemPointerData) -> Self {
        let block = (u32::from(tid.ip_blkid.bi_hi) << 16) | u32::from(tid.ip_blkid.bi_lo);
        Self(Some((block, tid.ip_posid)))
    }

    fn block(self) -> u32 {
        self.0.map_or(0, |(block, _)| block)
    }

    /// The first tuple after it.
    fn next(self) -> pg_sys::ItemPointerData {
        match self.0 {
            None => tid(0, 1),
            Some((block, offset)) => tid(block, offset.saturating_add(1)),
        }
    }
}

fn tid(block: u32, offset: u16) -> pg_sys::ItemPointerData {
    let ip_blkid = pg_sys::BlockIdData { bi_hi: (block >> 16) as u16, bi_lo: block as u16 };
    pg_sys::ItemPointerData { ip_blkid, ip_posid: offset }
}
