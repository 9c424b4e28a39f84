//! Results of functions that pgrx has no type for: a set, in the tuple store that the executor reads, and a single
//! datum.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::impl_sql_translatable;

/// A tuple store to put rows into.
pub struct Rows {
    result: *mut pg_sys::ReturnSetInfo,
}

impl Rows {
    /// Sets up the result of a call; an ERROR if the caller takes no set.
    ///
    /// # Safety
    /// `fcinfo` must be the call at hand of a function that returns a set of records, and outlive the result.
    pub unsafe fn begin(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: as promised by the caller.
        unsafe {
            pg_sys::InitMaterializedSRF(fcinfo, 0);
            Self { result: (*fcinfo).resultinfo.cast() }
        }
    }

    /// Adds a row; None is NULL. The values must be of the types that the SQL declares, in number and order.
    pub fn put<const N: usize>(&mut self, values: [Option<pg_sys::Datum>; N]) {
        let mut nulls = values.map(|value| value.is_none());
        let mut values = values.map(|value| value.unwrap_or(pg_sys::Datum::null()));
        // SAFETY: begin() made the tuple store and its descriptor; values are copied.
        unsafe {
            let (store, tupdesc) = ((*self.result).setResult, (*self.result).setDesc);
            debug_assert_eq!((*tupdesc).natts as usize, N);
            pg_sys::tuplestore_putvalues(store, tupdesc, values.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
}

/// A datum that is returned as it is; None is NULL. For functions whose calling convention pgrx has no type for.
pub struct RawResult(pub Option<pg_sys::Datum>);

impl_sql_translatable!(RawResult, "internal");

// SAFETY: the function that builds a RawResult vouches for the datum.
unsafe impl BoxRet for RawResult {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.0 {
            // SAFETY: as above.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
