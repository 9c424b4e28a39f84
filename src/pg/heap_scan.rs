//! The scan of a table: the one place that begins, advances and ends one. Looks for interrupts before each tuple.

use crate::pg::relation::Relation;
use crate::pg::snapshot::{self, ActiveSnapshot};
use pgrx::{check_for_interrupts, pg_sys};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ptr::null_mut;

/// A slot for a tuple of a relation; dropped with self, or by the abort of the (sub)transaction while an ERROR
/// unwinds.
pub struct Slot<'a> {
    slot: *mut pg_sys::TupleTableSlot,
    /// Its descriptor is the relation's.
    relation: PhantomData<&'a Relation>,
}

impl<'a> Slot<'a> {
    /// An empty slot, in the current memory context.
    pub fn of(relation: &'a Relation) -> Self {
        // SAFETY: the relation is open, and stays so as long as self lives.
        let slot = unsafe { pg_sys::table_slot_create(relation.as_ptr(), null_mut()) };
        Self { slot, relation: PhantomData }
    }

    /// The slot, for as long as self lives.
    pub fn as_ptr(&self) -> *mut pg_sys::TupleTableSlot {
        self.slot
    }

    /// The transaction that wrote the tuple, also if that is frozen.
    ///
    /// # Safety
    /// The slot must hold a heap tuple.
    pub unsafe fn xmin(&self) -> pg_sys::TransactionId {
        // SAFETY: as promised by the caller; the tuple is not copied.
        unsafe {
            let tuple = pg_sys::ExecFetchSlotHeapTuple(self.slot, false, null_mut());
            (*(*tuple).t_data).t_choice.t_heap.t_xmin
        }
    }

    /// Where the tuple is.
    pub fn tid(&self) -> pg_sys::ItemPointerData {
        // SAFETY: the slot lives as long as self.
        unsafe { (*self.slot).tts_tid }
    }

    /// A column's datum as it is stored; None if it is NULL. Lives as long as the slot holds the tuple.
    ///
    /// # Safety
    /// The slot must hold a tuple, and the column be of the relation.
    #[inline(always)]
    pub unsafe fn attribute(&self, column: NonZeroUsize) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: as promised by the caller.
        let datum = unsafe { pg_sys::slot_getattr(self.slot, column.get() as i32, &mut is_null) };
        (!is_null).then_some(datum)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // While an ERROR unwinds, the abort unpins the page of the tuple and frees the slot with its memory context.
        if !std::thread::panicking() {
            // SAFETY: made by of(), in a memory context that outlives self.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) }
        }
    }
}

/// A scan; ended by drop, or by the abort of the (sub)transaction while an ERROR unwinds.
pub struct HeapScan<'a> {
    scan: pg_sys::TableScanDesc,
    /// Whether it goes through a range of tuple ids.
    by_tid: bool,
    slot: Slot<'a>,
    /// A snapshot of its own, to which the scan points; NULL if the caller has it.
    snapshot: *mut pg_sys::SnapshotData,
}

impl<'a> HeapScan<'a> {
    /// Every non-removable tuple, from the first block to the last.
    pub fn non_removable(relation: &'a Relation) -> Self {
        // SAFETY: the relation is open; the snapshot goes with the scan.
        Self::with_own_snapshot(relation, unsafe { snapshot::non_removable(relation.as_ptr()) })
    }

    /// Every tuple, visible or not, from the first block to the last.
    pub fn any(relation: &'a Relation) -> Self {
        Self::with_own_snapshot(relation, snapshot::any())
    }

    fn with_own_snapshot(relation: &'a Relation, snapshot: pg_sys::SnapshotData) -> Self {
        let snapshot = Box::into_raw(Box::new(snapshot));
        let scan = begin(relation, snapshot, false);
        Self { scan, by_tid: false, slot: Slot::of(relation), snapshot }
    }

    /// The tuples that the snapshot sees. May begin in the middle of the table, where another scan is.
    pub fn visible(relation: &'a Relation, snapshot: &'a ActiveSnapshot) -> Self {
        let scan = begin(relation, snapshot.as_ptr(), true);
        Self { scan, by_tid: false, slot: Slot::of(relation), snapshot: null_mut() }
    }

    /// The tuples that the snapshot sees from this tuple id to the end of the table, in the order of their ids.
    pub fn visible_from(
        relation: &'a Relation,
        snapshot: &'a ActiveSnapshot,
        mut first: pg_sys::ItemPointerData,
    ) -> Self {
        let ip_blkid = pg_sys::BlockIdData { bi_hi: u16::MAX, bi_lo: u16::MAX };
        let mut last = pg_sys::ItemPointerData { ip_blkid, ip_posid: u16::MAX };
        // SAFETY: relation and snapshot outlive self; both tuple ids are copied.
        let scan = unsafe {
            pg_sys::table_beginscan_tidrange(relation.as_ptr(), snapshot.as_ptr(), &mut first, &mut last)
        };
        Self { scan, by_tid: true, slot: Slot::of(relation), snapshot: null_mut() }
    }

    /// The next tuple; None after the last one. Its page stays pinned until the next call.
    #[inline(always)]
    pub fn next(&mut self) -> Option<&Slot<'a>> {
        check_for_interrupts!();
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        // SAFETY: scan and slot are of the same relation, and both live as long as self.
        let found = unsafe {
            if self.by_tid {
                pg_sys::table_scan_getnextslot_tidrange(self.scan, forward, self.slot.as_ptr())
            } else {
                pg_sys::table_scan_getnextslot(self.scan, forward, self.slot.as_ptr())
            }
        };
        found.then_some(&self.slot)
    }
}

/// `anywhere`: it may begin where another scan of the relation is.
fn begin(relation: &Relation, snapshot: pg_sys::Snapshot, anywhere: bool) -> pg_sys::TableScanDesc {
    // SAFETY: the relation is open; both callers see to it that relation and snapshot outlive the scan. There are no
    // keys.
    unsafe { pg_sys::table_beginscan_strat(relation.as_ptr(), snapshot, 0, null_mut(), true, anywhere) }
}

impl Drop for HeapScan<'_> {
    fn drop(&mut self) {
        // While an ERROR unwinds, the abort unpins the scan's page and frees the scan with its memory context.
        if !std::thread::panicking() {
            // SAFETY: begun by one of the constructors, and not ended yet.
            unsafe { pg_sys::table_endscan(self.scan) }
        }
        if !self.snapshot.is_null() {
            // SAFETY: made by with_own_snapshot(); the scan has been ended, or the abort frees it without a look at this.
            drop(unsafe { Box::from_raw(self.snapshot) });
        }
    }
}
