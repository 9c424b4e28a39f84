//! A bytea that has become an rbytea by a cast, as an expanded datum (utils/expandeddatum.h): it points to the bytes of the bytea, which
//! whoever flattens it copies once, a tuple that is formed for instance. Read-only: PostgreSQL never keeps such a datum for
//! longer than the function's arguments, but copies it.

use crate::pg::memory;
use crate::value::varlena::Varlena;
use pgrx::{pg_guard, pg_sys, set_varsize_4b, varatt_is_1b_e, vartag_external, vartag_is_expanded};
use rbytea_store::value::INLINE;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

#[repr(C)]
struct Converted {
    /// First, because PostgreSQL points to it.
    header: pg_sys::ExpandedObjectHeader,
    payload: *const u8,
    len: usize,
}

static METHODS: pg_sys::ExpandedObjectMethods =
    pg_sys::ExpandedObjectMethods { get_flat_size: Some(get_flat_size), flatten_into: Some(flatten_into) };

/// An inline value with this payload, in the current memory context.
///
/// # Safety
/// The payload must live as long as an argument of the function that returns the value. It is no longer than that of an inline value.
pub unsafe fn datum(payload: &[u8]) -> pg_sys::Datum {
    // SAFETY: it is laid out as C does it, begins with the header, and owns nothing.
    unsafe {
        memory::expanded(c"rbytea converted", &METHODS, |object: *mut Converted| {
            (*object).payload = payload.as_ptr();
            (*object).len = payload.len();
        })
    }
}

/// The payload, if this is such a datum.
pub fn payload(value: &Varlena) -> Option<&[u8]> {
    let datum = value.as_ptr();
    // SAFETY: a varlena says what it is; an expanded one points to its object.
    unsafe {
        if !varatt_is_1b_e(datum) || !vartag_is_expanded(vartag_external(datum).into()) {
            return None;
        }
        let object = pg_sys::DatumGetEOHP(datum.into());
        if !ptr::eq((*object).eoh_methods, &METHODS) {
            return None;
        }
        let converted = &*object.cast::<Converted>();
        Some(std::slice::from_raw_parts(converted.payload, converted.len))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn get_flat_size(object: *mut pg_sys::ExpandedObjectHeader) -> pg_sys::Size {
    // SAFETY: PostgreSQL passes an object with these methods, which is ours.
    pg_sys::VARHDRSZ + 1 + unsafe { (*object.cast::<Converted>()).len }
}

#[pg_guard]
unsafe extern "C-unwind" fn flatten_into(
    object: *mut pg_sys::ExpandedObjectHeader,
    result: *mut c_void,
    size: pg_sys::Size,
) {
    // SAFETY: as above; the result has room for the size that get_flat_size has said.
    unsafe {
        set_varsize_4b(result.cast(), size as i32);
        let converted = &*object.cast::<Converted>();
        let data = result.cast::<MaybeUninit<u8>>().add(pg_sys::VARHDRSZ);
        let data = std::slice::from_raw_parts_mut(data, size - pg_sys::VARHDRSZ);
        data[0].write(INLINE);
        data[1..].write_copy_of_slice(std::slice::from_raw_parts(converted.payload, converted.len));
    }
}
