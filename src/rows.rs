//! The result of a set-returning function, in the tuple store that the executor reads.

use pgrx::pg_sys;

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
