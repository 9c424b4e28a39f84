//! One batch of rbytea_reencrypt(): a piece of a table's scan, row by row. Below SQL like the update of rows after
//! DDL: the payloads do not change, so no trigger or policy applies.

use crate::pg::error::Report;
use crate::pg::heap_scan::{HeapScan, Slot};
use crate::pg::memory::TupleMemory;
use crate::pg::progress::Reencryption;
use crate::pg::relation::Relation;
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::subtransaction::subtransaction;
use crate::reencrypt::target::Target;
use crate::value::datum::{Peek, Rbytea, RbyteaResult};
use crate::write::row_trigger::Replaced;
use crate::write::update::{Constraints, Writer};
use pgrx::{PgSqlErrorCode, pg_sys};
use rbytea_store::{PayloadId, PayloadRef};
use std::num::NonZeroUsize;

/// Where a pass goes on: after this tuple.
#[derive(Clone, Copy, Default)]
pub struct Position(Option<(u32, u16)>);

/// How a batch has ended.
pub enum Passed {
    /// The batch is full.
    Batch,
    /// The table ended.
    End {
        /// Payloads of this batch.
        replaced: u64,
        /// Some row has gone to another partition meanwhile.
        missed: bool,
    },
    /// There is no such table any more.
    Gone,
}

/// Goes on with a pass until the batch is full or the table ends.
///
/// # Safety
/// `relation` must be a heap table, locked for writing, with these columns.
pub unsafe fn pass(
    relation: &Relation,
    columns: &[NonZeroUsize],
    target: &Target,
    batch: u64,
    position: &mut Position,
    progress: &Reencryption,
) -> Result<Passed, Report> {
    let mut memory = TupleMemory::new();
    let (mut replaced, mut missed, mut busy) = (0, false, false);
    // Does not see the versions that are written here.
    let snapshot = ActiveSnapshot::latest();
    // SAFETY: as promised by the caller; the snapshot is the active one.
    let mut writer = unsafe { Writer::new(relation, &snapshot, Constraints::Checked) };
    let locked = Slot::of(relation);
    // SAFETY: the relation is open, and has storage.
    let blocks = unsafe {
        pg_sys::RelationGetNumberOfBlocksInFork(relation.as_ptr(), pg_sys::ForkNumber::MAIN_FORKNUM)
    };
    progress.table(relation.oid(), blocks);
    let mut scan = HeapScan::visible_from(relation, &snapshot, position.next());
    while replaced < batch
        && let Some(found) = scan.next()
    {
        let at = found.tid();
        let before = std::mem::replace(position, Position::at(&at));
        replaced += memory.with(|| -> Result<u64, Report> {
            // SAFETY: as promised by the caller; a slot is looked at only while it holds a tuple of the relation.
            unsafe {
                if outdated(found, columns, target)?.is_empty() {
                    return Ok(0);
                }
                // Others may be changing the row: they are waited for, but not while rows of the batch are locked.
                let policy = if replaced == 0 {
                    pg_sys::LockWaitPolicy::LockWaitBlock
                } else {
                    pg_sys::LockWaitPolicy::LockWaitSkip
                };
                match lock(relation, at, &snapshot, &locked, policy)? {
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
                let (new, payloads) = rewritten(&locked, columns, target)?;
                if payloads > 0 {
                    writer.replace(&locked, new)?;
                }
                pg_sys::ExecClearTuple(locked.as_ptr());
                Ok(payloads)
            }
        })?;
        progress.done(position.block(), replaced);
        if busy {
            // The next batch begins with this row, and waits.
            *position = before;
            break;
        }
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
    /// Another transaction has it locked, and was not to be waited for.
    Busy,
}

/// Locks the last version of a row for an update and has it in `slot`.
///
/// # Safety
/// `tid` must be of a tuple of the relation that the snapshot sees, and the slot of the relation.
unsafe fn lock(
    relation: &Relation,
    mut tid: pg_sys::ItemPointerData,
    snapshot: &ActiveSnapshot,
    slot: &Slot<'_>,
    policy: pg_sys::LockWaitPolicy::Type,
) -> Result<Locked, Report> {
    let mut attempt = |flags: u32| {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: as promised by the caller.
        unsafe {
            pg_sys::table_tuple_lock(
                relation.as_ptr(),
                &mut tid,
                snapshot.as_ptr(),
                slot.as_ptr(),
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
    unsafe { pg_sys::ExecClearTuple(slot.as_ptr()) };
    let followed = subtransaction(|| {
        let result = attempt(pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION);
        if result == pg_sys::TM_Result::TM_Ok {
            // SAFETY: the slot holds the tuple; its page must not stay pinned beyond the subtransaction.
            unsafe { pg_sys::ExecMaterializeSlot(slot.as_ptr()) };
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
    slot: &Slot<'_>,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<Vec<(NonZeroUsize, PayloadRef)>, Report> {
    let mut found = Vec::new();
    for &column in columns {
        // SAFETY: as promised by the caller; a datum of one of our columns, held by the slot.
        let Some(value) = (unsafe { slot.attribute(column).map(|datum| Rbytea::from_raw(datum)) }) else {
            continue;
        };
        if let Peek::External(payload) = value.peek()?
            && !target.is_met_by(&payload)
        {
            found.push((column, payload));
        }
    }
    Ok(found)
}

/// Writes the payloads of a row once more; returns the references to them, and how many files there are.
///
/// # Safety
/// As for [`outdated`].
unsafe fn rewritten(
    slot: &Slot<'_>,
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
        replaced.push(column, RbyteaResult::external(&copy));
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
