//! The snapshot that a run of the vacuum holds, and the removal horizon whose standing still makes a mark valid
//! (docs/PROTOCOL.md).

use crate::pg::catalog::Objects;
use pgrx::pg_sys;

/// A registered snapshot: while it is held, nothing that it sees is removed.
pub struct RunSnapshot {
    snapshot: pg_sys::Snapshot,
    upper: u64,
}

impl RunSnapshot {
    /// Takes and registers a fresh snapshot.
    pub fn take() -> Self {
        // SAFETY: we are inside of a transaction; the registration is undone by drop or by the transaction's end.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            Self { snapshot, upper: full_transaction_id((*snapshot).xmin) }
        }
    }

    /// The snapshot, for as long as self lives.
    pub fn as_ptr(&self) -> pg_sys::Snapshot {
        self.snapshot
    }

    /// Every transaction below had ended when the snapshot was taken: the largest birth that can be judged, plus one.
    pub fn upper(&self) -> u64 {
        self.upper
    }
}

impl Drop for RunSnapshot {
    fn drop(&mut self) {
        // During unwinding the transaction's abort releases it; doing it here as well would be one time too many.
        if !std::thread::panicking() {
            // SAFETY: registered by take() with the same resource owner.
            unsafe { pg_sys::UnregisterSnapshot(self.snapshot) }
        }
    }
}

/// The 64-bit form of the id of a transaction that is not older than two billion.
fn full_transaction_id(xid: pg_sys::TransactionId) -> u64 {
    // SAFETY: reads shared memory.
    let next = unsafe { pg_sys::ReadNextFullTransactionId() }.value;
    let xid = u64::from(xid.into_inner());
    let epoch = next >> 32;
    // An id above the next one belongs to the epoch before.
    let epoch = if xid > (next & 0xffff_ffff) { epoch - 1 } else { epoch };
    epoch << 32 | xid
}

/// Tuples that were deleted before these ids may be removed, in tables and in catalogs; and the local xmin that holds
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizons {
    data: u32,
    catalog: u32,
    /// The oldest xmin of this database's snapshots. While the run holds one of its own it can only rise, so two equal
    /// values mean that it stood still. The others may fall as well: a standby's feedback may go and come back.
    local: u32,
}

impl Horizons {
    /// The horizon of tables, as a 64-bit transaction id.
    pub fn full(&self) -> u64 {
        full_transaction_id(self.data.into())
    }

    /// As they are now.
    pub fn now(objects: &Objects) -> Self {
        // An ERROR if the extension has been dropped meanwhile: the relations were found by its type.
        let data = oldest_non_removable(objects.history);
        let catalog = oldest_non_removable(pg_sys::RelationRelationId);
        Self { data, catalog, local: oldest_local_xmin(data) }
    }
}

/// The oldest xmin of a snapshot in this database, which is at or after `horizon` and at or before our own.
fn oldest_local_xmin(horizon: u32) -> u32 {
    // SAFETY: a plain read of this process's own entry. The caller holds a snapshot.
    let own = unsafe { (*pg_sys::MyProc).xmin }.into_inner();
    // Distances from the horizon, so that the ids' wraparound does not matter. No xmin is below `from`; one is at `to`
    // or below, at first our own.
    let (mut from, mut to) = (0, own.wrapping_sub(horizon));
    while from < to {
        let middle = from + (to - from) / 2;
        if others_at_or_before(horizon.wrapping_add(middle)) { to = middle } else { from = middle + 1 }
    }
    horizon.wrapping_add(to)
}

/// Whether another session of this database holds a snapshot whose xmin is `limit` or older. Lazy VACUUMs and logical
/// decoding do not hold the horizon.
fn others_at_or_before(limit: u32) -> bool {
    if limit < pg_sys::FirstNormalTransactionId.into_inner() {
        return false;
    }
    let ignored = pg_sys::PROC_IN_VACUUM | pg_sys::PROC_IN_LOGICAL_DECODING;
    let mut count = 0;
    // SAFETY: reads shared memory and returns an array in the current memory context.
    unsafe {
        let found = pg_sys::GetCurrentVirtualXIDs(limit.into(), true, false, ignored as i32, &mut count);
        pg_sys::pfree(found.cast());
    }
    count > 0
}

fn oldest_non_removable(relid: pg_sys::Oid) -> u32 {
    // SAFETY: opens an existing relation with the weakest lock and closes it again.
    unsafe {
        let relation = pg_sys::relation_open(relid, pg_sys::AccessShareLock as i32);
        let horizon = pg_sys::GetOldestNonRemovableTransactionId(relation);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        horizon.into_inner()
    }
}
