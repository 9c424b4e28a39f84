//! A stored payload as an expanded datum of type bytea (utils/expandeddatum.h): it holds the reference, and the file is read
//! straight into the memory that whoever flattens it has allocated. byteasend, and a tuple that is formed, copy a plain
//! datum once more. It holds nothing open and refers to no memory but its own.

use crate::pg::error::{self, Report};
use crate::pg::memory;
use crate::session::read;
use crate::value::datum::{ByteaResult, Peek, Rbytea};
use pgrx::{pg_guard, pg_sys, set_varsize_4b};
use rbytea_store::PayloadRef;
use rbytea_store::value::MAX_BYTEA;
use std::ffi::c_void;
use std::mem::MaybeUninit;

#[repr(C)]
struct Expanded {
    /// First, because PostgreSQL points to it.
    header: pg_sys::ExpandedObjectHeader,
    payload: PayloadRef,
}

static METHODS: pg_sys::ExpandedObjectMethods =
    pg_sys::ExpandedObjectMethods { get_flat_size: Some(get_flat_size), flatten_into: Some(flatten_into) };

/// The payload as bytea, in the current memory context; a stored one is not read yet.
pub fn bytea(value: &Rbytea) -> Result<ByteaResult, Report> {
    let payload = match value.peek()? {
        Peek::Inline(_) => return read::whole(value),
        Peek::External(payload) => payload,
    };
    if payload.len > MAX_BYTEA {
        return Err(error::too_large(payload.len));
    }
    // SAFETY: it is laid out as C does it, begins with the header, and owns nothing; the datum is of type bytea.
    unsafe {
        Ok(ByteaResult::from_raw(memory::expanded(c"rbytea payload", &METHODS, |object: *mut Expanded| {
            (&raw mut (*object).payload).write(payload);
        })))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn get_flat_size(object: *mut pg_sys::ExpandedObjectHeader) -> pg_sys::Size {
    // SAFETY: PostgreSQL passes an object with these methods, which is ours.
    pg_sys::VARHDRSZ + unsafe { (*object.cast::<Expanded>()).payload.len } as usize
}

#[pg_guard]
unsafe extern "C-unwind" fn flatten_into(
    object: *mut pg_sys::ExpandedObjectHeader,
    result: *mut c_void,
    size: pg_sys::Size,
) {
    // SAFETY: as above; the result has room for the size that get_flat_size has said.
    let read = unsafe {
        set_varsize_4b(result.cast(), size as i32);
        let data = result.cast::<MaybeUninit<u8>>().add(pg_sys::VARHDRSZ);
        let data = std::slice::from_raw_parts_mut(data, size - pg_sys::VARHDRSZ);
        read::into(&(*object.cast::<Expanded>()).payload, data)
    };
    if let Err(report) = read {
        error::raise(report);
    }
}
