//! One batch of work on the payloads of a table that others use meanwhile: a piece of its scan, row by row. Below SQL like
//! the update of rows after DDL: the payloads do not change, so no trigger or policy applies.

use crate::pg::error::Report;
use crate::pg::heap_scan::{HeapScan, Slot};
use crate::pg::memory::TupleMemory;
use crate::pg::relation::Relation;
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::subtransaction::subtransaction;
use crate::pg::{catalog, error, spi};
use crate::write::row_trigger::Replaced;
use crate::write::update::{Constraints, Writer};
use pgrx::{PgSqlErrorCode, pg_sys};

/// What is done to each row.
pub trait Work {
    /// Whether there is something to do to this version of a row.
    ///
    /// # Safety
    /// `row` must hold a tuple of the table.
    unsafe fn concerns(&self, row: &Slot<'_>) -> Result<bool, Report>;

    /// Writes payloads of a row that is locked. Returns what the row has instead, and how many payloads were written.
    ///
    /// # Safety
    /// As for [`concerns`](Self::concerns).
    unsafe fn replace(&mut self, row: &Slot<'_>) -> Result<(Replaced, u64), Report>;

    /// Whether a batch begins by waiting for whoever has its first row locked; rows that are not waited for are missed.
    fn waits(&self) -> bool;

    /// What becomes of the table's constraints.
    fn constraints(&self) -> Constraints;

    /// Called after each row, with the block and the payloads written so far. The batch ends with false.
    fn goes_on(&mut self, block: u32, payloads: u64) -> bool;
}

/// Where a pass goes on: after this tuple.
#[derive(Clone, Copy, Default)]
pub struct Position(Option<(u32, u16)>);

/// How a batch has ended.
pub enum Passed {
    /// The batch is full, with so many payloads, or was to end.
    Batch(u64),
    /// The table ended.
    End {
        /// Payloads of this batch.
        replaced: u64,
        /// Some row has gone to another partition meanwhile, was locked and not waited for, or takes no update.
        missed: bool,
    },
    /// There is no such table any more.
    Gone,
}

/// Blocks of a table.
pub fn blocks(relation: &Relation) -> u32 {
    // SAFETY: the relation is open, and has storage.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(relation.as_ptr(), pg_sys::ForkNumber::MAIN_FORKNUM) }
}

/// Goes on with a pass until the batch is full or the table ends.
///
/// # Safety
/// `relation` must be a heap table, locked for writing, that the work is about.
pub unsafe fn pass(
    relation: &Relation,
    work: &mut impl Work,
    batch: u64,
    position: &mut Position,
) -> Result<Passed, Report> {
    let mut memory = TupleMemory::new();
    let (mut replaced, mut missed, mut busy, mut ended) = (0, false, false, false);
    // Does not see the versions that are written here.
    let snapshot = ActiveSnapshot::latest();
    // SAFETY: as promised by the caller; the snapshot is the active one.
    let mut writer = unsafe { Writer::new(relation, &snapshot, work.constraints()) };
    let locked = Slot::of(relation);
    let mut scan = HeapScan::visible_from(relation, &snapshot, position.next());
    while replaced < batch
        && !ended
        && let Some(found) = scan.next()
    {
        let at = found.tid();
        let before = std::mem::replace(position, Position::at(&at));
        replaced += memory.with(|| -> Result<u64, Report> {
            // SAFETY: as promised by the caller; a slot is looked at only while it holds a tuple of the relation.
            unsafe {
                if !work.concerns(found)? {
                    return Ok(0);
                }
                // Others may be changing the row: they are waited for, but not while rows of the batch are locked.
                let policy = if replaced == 0 && work.waits() {
                    pg_sys::LockWaitPolicy::LockWaitBlock
                } else {
                    pg_sys::LockWaitPolicy::LockWaitSkip
                };
                match lock(relation, at, &snapshot, &locked, policy)? {
                    Locked::Yes => {}
                    Locked::Busy => {
                        busy = work.waits();
                        missed |= !busy;
                        return Ok(0);
                    }
                    Locked::Gone => return Ok(0),
                    Locked::Elsewhere => {
                        missed = true;
                        return Ok(0);
                    }
                }
                let (new, mut payloads) = work.replace(&locked)?;
                if payloads > 0 && !writer.replace(&locked, new)? {
                    (missed, payloads) = (true, 0);
                }
                pg_sys::ExecClearTuple(locked.as_ptr());
                Ok(payloads)
            }
        })?;
        ended = !work.goes_on(position.block(), replaced);
        if busy {
            // The next batch begins with this row, and waits.
            *position = before;
            ended = true;
        }
    }
    Ok(if ended || replaced >= batch { Passed::Batch(replaced) } else { Passed::End { replaced, missed } })
}

/// Generated columns may be about the file, and change with it. What checks keys of them are triggers and deferred
/// constraints, which an update below SQL does not fire.
pub fn refuse_dependent_keys(table: pg_sys::Oid, verb: &str) -> Result<(), Report> {
    let query = c"SELECT c.oid FROM pg_constraint c, pg_attribute a
                   WHERE a.attrelid = $1 AND a.attgenerated <> '' AND (c.contype = 'f' OR c.condeferrable)
                     AND (c.conrelid = a.attrelid AND a.attnum = ANY (c.conkey)
                          OR c.confrelid = a.attrelid AND a.attnum = ANY (c.confkey))
                   LIMIT 1";
    let Some(constraint) = spi::value(query, &[table.into()])? else { return Ok(()) };
    let table = catalog::relation_name(table).unwrap_or_default();
    let constraint = catalog::constraint_name(constraint).unwrap_or_default();
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("cannot {verb} the payloads of {table}"),
    )
    .set_detail(format!(
        "Its constraint {constraint} has a generated column, which may be about the file, and could not be checked."
    ))
    .set_hint("Drop the constraint, and add it again afterwards."))
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

impl Position {
    fn at(tid: &pg_sys::ItemPointerData) -> Self {
        let block = (u32::from(tid.ip_blkid.bi_hi) << 16) | u32::from(tid.ip_blkid.bi_lo);
        Self(Some((block, tid.ip_posid)))
    }

    /// Before the first tuple.
    pub fn is_start(self) -> bool {
        self.0.is_none()
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
