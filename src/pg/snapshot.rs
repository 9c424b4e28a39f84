//! Snapshots: the latest one as the active one, and those that see more than what is committed.

use pgrx::pg_sys;

/// The latest snapshot, pushed as the active one; popped by drop, or by the abort of the (sub)transaction while an
/// ERROR unwinds.
pub struct ActiveSnapshot {
    snapshot: pg_sys::Snapshot,
}

impl ActiveSnapshot {
    /// Sees what has been committed until now, whatever the snapshot of the statement sees.
    pub fn latest() -> Self {
        // SAFETY: we are inside of a transaction; the active snapshot is a copy, which lives until it is popped.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            Self { snapshot: pg_sys::GetActiveSnapshot() }
        }
    }

    /// The snapshot, for as long as self lives.
    pub fn as_ptr(&self) -> pg_sys::Snapshot {
        self.snapshot
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        // While an ERROR unwinds, the abort pops it; a second pop would take the snapshot of an outer caller.
        if !std::thread::panicking() {
            // SAFETY: pushed by latest(); what was pushed since has been popped again.
            unsafe { pg_sys::PopActiveSnapshot() }
        }
    }
}

/// Sees every non-removable tuple: each that VACUUM must not remove.
///
/// # Safety
/// `relation` must be open. The snapshot must not outlive the transaction.
pub unsafe fn non_removable(relation: pg_sys::Relation) -> pg_sys::SnapshotData {
    pg_sys::SnapshotData {
        snapshot_type: pg_sys::SnapshotType::SNAPSHOT_NON_VACUUMABLE,
        // SAFETY: as promised by the caller; the result is a static of the process.
        vistest: unsafe { pg_sys::GlobalVisTestFor(relation) },
        ..Default::default()
    }
}

/// Sees every tuple.
pub fn any() -> pg_sys::SnapshotData {
    pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_ANY, ..Default::default() }
}

/// Sees what is committed now or may be soon. A look at a tuple writes to it.
pub fn dirty() -> pg_sys::SnapshotData {
    pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..Default::default() }
}
