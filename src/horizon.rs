//! The snapshot that a run of the vacuum holds, and the removal horizon whose standing still makes a mark valid.

use crate::catalog::Extension;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

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

/// Below these ids deleted tuples are removed, in tables and in catalogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizons {
    data: u32,
    catalog: u32,
}

impl Horizons {
    /// The horizon of tables, as a 64-bit transaction id.
    pub fn full(&self) -> u64 {
        full_transaction_id(self.data.into())
    }

    /// As they are now.
    pub fn now(extension: &Extension) -> Result<Self, ErrorReport> {
        let history = extension.relation_oid(c"rbytea_vacuum_history")?;
        Ok(Self {
            data: oldest_non_removable(history),
            catalog: oldest_non_removable(pg_sys::RelationRelationId),
        })
    }
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
