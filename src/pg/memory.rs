//! Expanded datums, memory for one tuple at a time, and lists that grow with the data: Rust ends the process when there is no memory,
//! and with it the server; these raise an ERROR instead.

use crate::pg::error::{self, Report};
use pgrx::{PgMemoryContexts, PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, c_void};

/// Adds an item to a list that may become long.
#[inline]
pub fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), Report> {
    if list.len() == list.capacity() {
        list.try_reserve(1).map_err(|_| out_of_memory())?;
    }
    list.push(item);
    Ok(())
}

/// PostgreSQL's own error, with a HINT.
pub fn out_of_memory() -> Report {
    error::report(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory")
        .set_detail("The vacuum could not keep its lists of payloads.")
        .set_hint("Lower maintenance_work_mem.")
}

/// The setting maintenance_work_mem, in bytes.
pub fn maintenance_work_mem() -> usize {
    // SAFETY: a plain read of a setting, in kilobytes.
    unsafe { pg_sys::maintenance_work_mem }.unsigned_abs() as usize * 1024
}

/// A copy of bytes in the current memory context, which lives as long as that; an ERROR if there is no memory.
pub fn copied(bytes: &[u8]) -> &'static [u8] {
    if bytes.is_empty() {
        return &[];
    }
    // SAFETY: the allocation has room for them; the caller lets go of the copy before its memory context ends.
    unsafe {
        let copy: *mut u8 = pg_sys::palloc(bytes.len()).cast();
        copy.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        std::slice::from_raw_parts(copy, bytes.len())
    }
}

/// A read-only expanded datum (utils/expandeddatum.h) in a memory context of its own, a child of the current one; `fill` writes what is
/// behind the header.
///
/// # Safety
/// `T` must begin with an ExpandedObjectHeader, as C lays it out, and own nothing that needs to be dropped; the methods must be for it.
pub unsafe fn expanded<T>(
    context: &'static CStr,
    methods: &'static pg_sys::ExpandedObjectMethods,
    fill: impl FnOnce(*mut T),
) -> pg_sys::Datum {
    // SAFETY: as promised by the caller; the context is what EOH_init_header asks for.
    unsafe {
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            context.as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
        );
        let object: *mut T = pg_sys::MemoryContextAlloc(context, size_of::<T>()).cast();
        let header: *mut pg_sys::ExpandedObjectHeader = object.cast();
        pg_sys::EOH_init_header(header, methods, context);
        fill(object);
        pg_sys::Datum::from((&raw mut (*header).eoh_ro_ptr).cast::<c_void>())
    }
}

/// A memory context that is emptied for each tuple of a scan.
pub struct TupleMemory {
    context: PgMemoryContexts,
}

impl TupleMemory {
    /// Below the current context.
    pub fn new() -> Self {
        Self { context: PgMemoryContexts::new("rbytea tuple") }
    }

    /// Runs `work` with the emptied context as the current one. An ERROR that passes restores the outer context,
    /// because this one is deleted on its way.
    pub fn with<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: nothing that an earlier call allocated is referred to any more: `work` borrows nothing from it.
        unsafe { self.context.reset() };
        // SAFETY: our context outlives `inside`, which makes the outer one current again.
        let inside = Inside { outer: unsafe { pg_sys::MemoryContextSwitchTo(self.context.value()) } };
        let result = work();
        drop(inside);
        result
    }
}

struct Inside {
    outer: pg_sys::MemoryContext,
}

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: the context that was current before, which outlives the scan.
        unsafe { pg_sys::MemoryContextSwitchTo(self.outer) };
    }
}
