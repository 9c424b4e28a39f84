//! The one place for differences between PostgreSQL majors: each function does the same under all of them.

use pgrx::pg_sys;

/// Attribute `index` (from 0) of a tuple descriptor. PostgreSQL 18 moved the array behind the compact attributes.
///
/// # Safety
/// `tupdesc` must be valid and `index` below its `natts`.
pub unsafe fn attribute(tupdesc: pg_sys::TupleDesc, index: usize) -> *const pg_sys::FormData_pg_attribute {
    #[cfg(feature = "pg18")]
    // SAFETY: as promised by the caller.
    return unsafe { pg_sys::TupleDescAttr(tupdesc, index as i32) };
    #[cfg(not(feature = "pg18"))]
    // SAFETY: as promised by the caller; attrs is a flexible array of natts elements.
    return unsafe { (*tupdesc).attrs.as_ptr().add(index) };
}

/// A column's statistics target, or the default. 16 made it narrower, and it moved from the attribute
/// to ANALYZE's own structure in 17.
///
/// # Safety
/// `stats` must be what ANALYZE passes to a typanalyze function.
pub unsafe fn statistics_target(stats: *mut pg_sys::VacAttrStats) -> i32 {
    // SAFETY: as promised by the caller; examine_attribute has filled the structure.
    let target = unsafe {
        #[cfg(feature = "pg15")]
        let target = (*(*stats).attr).attstattarget;
        #[cfg(feature = "pg16")]
        let target = i32::from((*(*stats).attr).attstattarget);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        let target = (*stats).attstattarget;
        target
    };
    // SAFETY: a plain read of a setting.
    if target < 0 { unsafe { pg_sys::default_statistics_target } } else { target }
}

/// Whether snapshots may lose rows by age: `old_snapshot_threshold`, which PostgreSQL 17 removed.
pub fn snapshots_expire() -> bool {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    // SAFETY: a plain read of a setting that is fixed at server start.
    return unsafe { pg_sys::old_snapshot_threshold } >= 0;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    return false;
}

/// The next datum of a performed datum sort, as a copy; None at the end. PostgreSQL 16 made the copy optional.
///
/// # Safety
/// `state` must be a datum sort over a pass-by-reference type that has been performed.
pub unsafe fn tuplesort_getdatum(state: *mut pg_sys::Tuplesortstate) -> Option<pg_sys::Datum> {
    let (mut datum, mut is_null) = (pg_sys::Datum::null(), false);
    // SAFETY: as promised by the caller.
    let found = unsafe {
        #[cfg(feature = "pg15")]
        let found = pg_sys::tuplesort_getdatum(state, true, &mut datum, &mut is_null, std::ptr::null_mut());
        #[cfg(not(feature = "pg15"))]
        let found =
            pg_sys::tuplesort_getdatum(state, true, true, &mut datum, &mut is_null, std::ptr::null_mut());
        found
    };
    found.then_some(datum)
}

/// Replaces a tuple that no other transaction can have changed, and adds it to the indexes that need it. PostgreSQL 16
/// distinguishes summarizing indexes.
///
/// # Safety
/// `slot` must hold a new version of the tuple at `tid` of `relation`, visible to `snapshot`; `target` must be the
/// relation's, with its indexes open, and `estate` its executor state.
pub unsafe fn update_tuple(
    relation: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
    target: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
) {
    use std::ptr::null_mut;
    // SAFETY: as promised by the caller.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            let mut needed = false;
            pg_sys::simple_table_tuple_update(relation, tid, slot, snapshot, &mut needed);
            if needed && (*target).ri_NumIndices > 0 {
                pg_sys::ExecInsertIndexTuples(target, slot, estate, false, false, null_mut(), null_mut());
            }
        }
        #[cfg(not(feature = "pg15"))]
        {
            use pg_sys::TU_UpdateIndexes::{TU_None, TU_Summarizing};
            let mut needed = TU_None;
            pg_sys::simple_table_tuple_update(relation, tid, slot, snapshot, &mut needed);
            if needed != TU_None && (*target).ri_NumIndices > 0 {
                let summarizing = needed == TU_Summarizing;
                pg_sys::ExecInsertIndexTuples(
                    target,
                    slot,
                    estate,
                    false,
                    false,
                    null_mut(),
                    null_mut(),
                    summarizing,
                );
            }
        }
    }
}

/// Switches cost-based delay on if `vacuum_cost_delay` asks for it. PostgreSQL 16 keeps the effective values apart
/// from the settings.
pub fn begin_cost_delay() {
    // SAFETY: plain writes of the backend's own variables; VacuumUpdateCosts only copies settings.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::VacuumCostActive = pg_sys::VacuumCostDelay > 0.0;
        }
        #[cfg(not(feature = "pg15"))]
        pg_sys::VacuumUpdateCosts();
        pg_sys::VacuumCostBalance = 0;
    }
}

/// Looks at pending interrupts, and sleeps when the balance of costs has reached `vacuum_cost_limit`. PostgreSQL 18
/// distinguishes ANALYZE.
pub fn vacuum_delay_point() {
    // SAFETY: may be called wherever an ERROR may be raised.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
    }
}

/// The effective `vacuum_cost_limit`.
pub fn vacuum_cost_limit() -> i32 {
    // SAFETY: a plain read of the backend's own variable.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            pg_sys::VacuumCostLimit
        }
        #[cfg(not(feature = "pg15"))]
        {
            pg_sys::vacuum_cost_limit
        }
    }
}

/// Adds bytes to the WAL record that is being made. Its arguments have changed with 16 and 18.
///
/// # Safety
/// A record must have been begun, and the bytes stay where they are until it is inserted.
pub unsafe fn xlog_register_data(bytes: &[u8]) {
    // SAFETY: as promised by the caller; the server only reads.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::XLogRegisterData(bytes.as_ptr().cast_mut().cast(), bytes.len() as i32);
        #[cfg(any(feature = "pg16", feature = "pg17"))]
        pg_sys::XLogRegisterData(bytes.as_ptr().cast_mut().cast(), bytes.len() as u32);
        #[cfg(feature = "pg18")]
        pg_sys::XLogRegisterData(bytes.as_ptr().cast(), bytes.len() as u32);
    }
}

/// In recovery: waits for, or cancels, queries of a database whose snapshots are older than this FullTransactionId. 16 has one
/// argument more.
///
/// # Safety
/// Called by the startup process.
pub unsafe fn resolve_recovery_conflict(database: u32, removed: u64) {
    let removed = pg_sys::FullTransactionId { value: removed };
    let database = database.into();
    // SAFETY: as promised by the caller.
    unsafe {
        #[cfg(feature = "pg15")]
        {
            let node = pg_sys::RelFileNode { dbNode: database, ..Default::default() };
            pg_sys::ResolveRecoveryConflictWithSnapshotFullXid(removed, node);
        }
        #[cfg(not(feature = "pg15"))]
        {
            let locator = pg_sys::RelFileLocator { dbOid: database, ..Default::default() };
            pg_sys::ResolveRecoveryConflictWithSnapshotFullXid(removed, false, locator);
        }
    }
}

/// The number of a wait event of our own. 15 and 16 have one for all extensions.
pub fn wait_event(name: &std::ffi::CStr) -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = name;
        pg_sys::PG_WAIT_EXTENSION
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: the name is copied into shared memory.
    unsafe {
        pg_sys::WaitEventExtensionNew(name.as_ptr())
    }
}

/// This process's transactions may last as long as they want: 17 has a limit.
pub fn without_transaction_timeout() {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: a setting of this process, before its first transaction.
    unsafe {
        pg_sys::SetConfigOption(
            c"transaction_timeout".as_ptr(),
            c"0".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// A signal handler.
pub type SignalHandler = unsafe extern "C-unwind" fn(i32);

unsafe extern "C-unwind" {
    /// postmaster/interrupt.h and tcop/tcopprot.h: as they are, because pgrx's wrappers are no signal handlers.
    pub fn SignalHandlerForConfigReload(signal: i32);
    pub fn SignalHandlerForShutdownRequest(signal: i32);
    pub fn die(signal: i32);
    /// executor/nodeModifyTable.h, which the bindings leave out.
    fn ExecComputeStoredGenerated(
        target: *mut pg_sys::ResultRelInfo,
        estate: *mut pg_sys::EState,
        slot: *mut pg_sys::TupleTableSlot,
        command: pg_sys::CmdType::Type,
    );
}

/// Computes the stored generated columns of a new row.
///
/// # Safety
/// `target` must be of a table that has such columns, `estate` its executor state, `slot` hold the row.
pub unsafe fn compute_generated(
    target: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    slot: *mut pg_sys::TupleTableSlot,
) {
    // CMD_UPDATE would skip columns that depend on no updated column, and the executor state does not list the updated
    // ones.
    let all = pg_sys::CmdType::CMD_INSERT;
    // SAFETY: as promised by the caller; nothing between the boundary and the server needs its destructor run.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| ExecComputeStoredGenerated(target, estate, slot, all));
    }
}

/// Installs a signal handler. PostgreSQL 18 renamed the server's own variant.
pub fn pqsignal(signal: u32, handler: SignalHandler) {
    // SAFETY: called by a background worker before it unblocks signals, with one of the server's own handlers.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal as i32, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal as i32, Some(handler));
    }
}

/// What the server shows of backend number `index` (from 1); None past the last one. Renamed in PostgreSQL 16.
pub fn backend_status(index: i32) -> Option<pg_sys::PgBackendStatus> {
    // SAFETY: both functions check the index and return a pointer into this backend's copy of the status, or NULL.
    unsafe {
        #[cfg(feature = "pg15")]
        let entry = pg_sys::pgstat_fetch_stat_local_beentry(index);
        #[cfg(not(feature = "pg15"))]
        let entry = pg_sys::pgstat_get_local_beentry_by_index(index);
        entry.as_ref().map(|entry| entry.backendStatus)
    }
}

/// Whether the current user owns a relation, or is a superuser. PostgreSQL 16 made one function of many.
pub fn owns_relation(relid: pg_sys::Oid) -> bool {
    // SAFETY: lookups in the catalogs.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(relid, pg_sys::GetUserId());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relid, pg_sys::GetUserId());
    }
}

/// A function for nodes, which returns the node that takes the place of one.
pub type Mutator = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut std::ffi::c_void) -> *mut pg_sys::Node;

/// query_tree_mutator, whose declaration has had the mutator's arguments since 16.
///
/// # Safety
/// As the server's function.
pub unsafe fn query_tree_mutator(
    query: *mut pg_sys::Query,
    mutator: Mutator,
    context: *mut std::ffi::c_void,
    flags: i32,
) -> *mut pg_sys::Query {
    #[cfg(feature = "pg15")]
    // SAFETY: as promised by the caller; the server calls it with both arguments.
    return unsafe {
        let mutator: unsafe extern "C-unwind" fn() -> *mut pg_sys::Node = std::mem::transmute(mutator);
        pg_sys::query_tree_mutator(query, Some(mutator), context, flags)
    };
    #[cfg(not(feature = "pg15"))]
    // SAFETY: as promised by the caller.
    return unsafe { pg_sys::query_tree_mutator_impl(query, Some(mutator), context, flags) };
}

/// expression_tree_mutator, likewise.
///
/// # Safety
/// As the server's function.
pub unsafe fn expression_tree_mutator(
    node: *mut pg_sys::Node,
    mutator: Mutator,
    context: *mut std::ffi::c_void,
) -> *mut pg_sys::Node {
    #[cfg(feature = "pg15")]
    // SAFETY: as promised by the caller; the server calls it with both arguments.
    return unsafe {
        let mutator: unsafe extern "C-unwind" fn() -> *mut pg_sys::Node = std::mem::transmute(mutator);
        pg_sys::expression_tree_mutator(node, Some(mutator), context)
    };
    #[cfg(not(feature = "pg15"))]
    // SAFETY: as promised by the caller.
    return unsafe { pg_sys::expression_tree_mutator_impl(node, Some(mutator), context) };
}
