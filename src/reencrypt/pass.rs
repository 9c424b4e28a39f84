//! One batch of rbytea_reencrypt(): a piece of a table's scan, row by row. Below SQL like the update of rows after DDL: the
//! payloads do not change, so no trigger, constraint or policy has a say.

use crate::pg::compat;
use crate::pg::error::Report;
use crate::pg::memory::TupleMemory;
use crate::pg::progress::Reencryption;
use crate::pg::subtransaction::subtransaction;
use crate::reencrypt::{Passed, Target};
use crate::value::columns::Closure;
use crate::value::datum::{Peek, Rbytea, RbyteaResult};
use crate::value::walk::Types;
use crate::write::row_trigger::Replaced;
use crate::write::update::{Constraints, Writer};
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_sys};
use rbytea_store::{PayloadId, PayloadRef};
use std::num::NonZeroUsize;
use std::ptr::null_mut;

/// Where a pass goes on: after this tuple.
#[derive(Clone, Copy, Default)]
pub struct Position(Option<(u32, u16)>);

/// Columns of type rbytea or of a domain over it, without generated ones: those are computed anew.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn columns(relation: pg_sys::Relation, type_oid: pg_sys::Oid) -> Vec<NonZeroUsize> {
    let types = Closure::new(type_oid);
    // SAFETY: as promised by the caller; attributes are numbered from 0 to natts - 1.
    unsafe {
        let tupdesc = (*relation).rd_att;
        (0..(*tupdesc).natts as usize)
            .filter(|&index| {
                let attribute = &*compat::attribute(tupdesc, index);
                !attribute.attisdropped
                    && attribute.attgenerated == 0
                    && types.leads_to_value(attribute.atttypid)
                    && pg_sys::getBaseType(attribute.atttypid) == type_oid
            })
            .filter_map(|index| NonZeroUsize::new(index + 1))
            .collect()
    }
}

/// Goes on with a pass until the batch is full or the table ends.
///
/// # Safety
/// `relation` must be an open heap table, locked for writing, with these columns.
pub unsafe fn pass(
    relation: pg_sys::Relation,
    columns: &[NonZeroUsize],
    target: &Target,
    batch: u64,
    position: &mut Position,
    progress: &Reencryption,
) -> Result<Passed, Report> {
    let mut memory = TupleMemory::new();
    let (mut replaced, mut missed, mut busy) = (0, false, false);
    // SAFETY: as promised by the caller. Scan, slots and snapshot live to the end of the block, or are released by the abort
    // when an error passes; the snapshot does not see the versions that are written here.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let snapshot = pg_sys::GetActiveSnapshot();
        let mut writer = Writer::new(relation, snapshot, Constraints::Checked);
        let found = pg_sys::table_slot_create(relation, null_mut());
        let locked = pg_sys::table_slot_create(relation, null_mut());
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        progress.table((*relation).rd_id, blocks);
        let (mut first, mut last) = (position.next(), tid(pg_sys::InvalidBlockNumber, u16::MAX));
        let scan = pg_sys::table_beginscan_tidrange(relation, snapshot, &mut first, &mut last);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        while replaced < batch && pg_sys::table_scan_getnextslot_tidrange(scan, forward, found) {
            check_for_interrupts!();
            let at = (*found).tts_tid;
            let before = std::mem::replace(position, Position::at(&at));
            replaced += memory.with(|| -> Result<u64, Report> {
                if !concerns(found, columns, target)? {
                    return Ok(0);
                }
                // Others may be changing the row: they are waited for, but not while rows of the batch are locked.
                let policy = if replaced == 0 {
                    pg_sys::LockWaitPolicy::LockWaitBlock
                } else {
                    pg_sys::LockWaitPolicy::LockWaitSkip
                };
                match lock(relation, at, snapshot, locked, policy)? {
                    Locked::Yes => {}
                    Locked::Busy => {
                        busy = true;
                        return Ok(0);
                    }
                    Locked::Gone => return Ok(0),
                    Locked::Elsewhere => {
                        missed = true;
                        return Ok(0);
                    }
                }
                let (new, payloads) = rewritten(locked, columns, target)?;
                if payloads > 0 {
                    writer.replace(locked, new)?;
                }
                pg_sys::ExecClearTuple(locked);
                Ok(payloads)
            })?;
            progress.done(position.block(), replaced);
            if busy {
                // The next batch begins with this row, and waits.
                *position = before;
                break;
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(locked);
        pg_sys::ExecDropSingleTupleTableSlot(found);
        writer.close();
        pg_sys::PopActiveSnapshot();
    }
    progress.batch(replaced);
    Ok(if busy || replaced >= batch { Passed::Batch } else { Passed::End { replaced, missed } })
}

/// What came of locking a row.
enum Locked {
    /// The slot holds its last version.
    Yes,
    /// It has been deleted.
    Gone,
    /// It is in another partition now.
    Elsewhere,
    /// Somebody else has it locked, and was not to be waited for.
    Busy,
}

/// Locks the last version of a row for an update and has it in `slot`.
///
/// # Safety
/// `tid` must be of a tuple of the relation that the snapshot sees, `slot` of its kind.
unsafe fn lock(
    relation: pg_sys::Relation,
    mut tid: pg_sys::ItemPointerData,
    snapshot: pg_sys::Snapshot,
    slot: *mut pg_sys::TupleTableSlot,
    policy: pg_sys::LockWaitPolicy::Type,
) -> Result<Locked, Report> {
    let mut attempt = |flags: u32| {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: as promised by the caller.
        unsafe {
            pg_sys::table_tuple_lock(
                relation,
                &mut tid,
                snapshot,
                slot,
                pg_sys::GetCurrentCommandId(true),
                pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                policy,
                flags as u8,
                &mut failure,
            )
        }
    };
    match attempt(0) {
        pg_sys::TM_Result::TM_Ok => return Ok(Locked::Yes),
        pg_sys::TM_Result::TM_WouldBlock => return Ok(Locked::Busy),
        pg_sys::TM_Result::TM_Updated => {}
        _ => return Ok(Locked::Gone),
    }
    // Following it is an ERROR where it leads to another partition.
    // SAFETY: what the slot holds was pinned outside of the subtransaction.
    unsafe { pg_sys::ExecClearTuple(slot) };
    let followed = subtransaction(|| {
        let result = attempt(pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION);
        if result == pg_sys::TM_Result::TM_Ok {
            // SAFETY: the slot holds the tuple; its page must not stay pinned beyond the subtransaction.
            unsafe { pg_sys::ExecMaterializeSlot(slot) };
        }
        Ok(result)
    });
    match followed {
        Ok(pg_sys::TM_Result::TM_Ok) => Ok(Locked::Yes),
        Ok(pg_sys::TM_Result::TM_WouldBlock) => Ok(Locked::Busy),
        Ok(_) => Ok(Locked::Gone),
        Err(caught) if caught.code == PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE => {
            Ok(Locked::Elsewhere)
        }
        Err(caught) => Err(caught.into()),
    }
}

/// The references of a row that are not as they should be.
///
/// # Safety
/// `slot` must hold a tuple with these columns.
unsafe fn outdated(
    slot: *mut pg_sys::TupleTableSlot,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<Vec<(NonZeroUsize, PayloadRef)>, Report> {
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
) -> Result<bool, Report> {
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
) -> Result<(Replaced, u64), Report> {
    let mut replaced = Replaced::default();
    // Two columns may refer to the same payload.
    let mut copies: Vec<(PayloadId, PayloadRef)> = Vec::new();
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
