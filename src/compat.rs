//! The one place for differences between PostgreSQL majors.

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
