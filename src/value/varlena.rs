//! A varlena of any form, detoasted as far as somebody asks for its bytes.

use crate::pg::error::{self, Report};
use pgrx::{pg_sys, varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_any, varsize_any_exhdr};
use std::ptr;

/// A varlena of any form: plain, short, compressed, in a TOAST table, expanded.
#[derive(Clone, Copy)]
pub struct Varlena {
    datum: *mut pg_sys::varlena,
}

/// Detoasted bytes; a copy that detoasting made is freed when this is dropped.
pub struct Detoasted {
    detoasted: *mut pg_sys::varlena,
    original: *mut pg_sys::varlena,
}

impl Varlena {
    /// Wraps a non-null datum.
    ///
    /// # Safety
    /// `datum` must be a non-null datum of variable length that outlives the result.
    pub unsafe fn from_raw(datum: pg_sys::Datum) -> Self {
        Self { datum: datum.cast_mut_ptr() }
    }

    /// The datum.
    pub fn as_ptr(&self) -> *mut pg_sys::varlena {
        self.datum
    }

    /// The bytes after the header, if they lie in the datum as they are.
    #[inline]
    pub fn plain(&self) -> Option<&[u8]> {
        // SAFETY: self.datum is a varlena of any form; the bytes of a plain one live as long as it.
        unsafe {
            let plain = varatt_is_4b_u(self.datum) || varatt_is_1b(self.datum) && !varatt_is_1b_e(self.datum);
            plain.then(|| {
                std::slice::from_raw_parts(vardata_any(self.datum).cast(), varsize_any_exhdr(self.datum))
            })
        }
    }

    /// Bytes after the header of the detoasted varlena, without detoasting it.
    #[inline]
    pub fn len(&self) -> usize {
        if let Some(bytes) = self.plain() {
            return bytes.len();
        }
        // SAFETY: self.datum is a varlena of any form, and the function takes every form.
        unsafe { pg_sys::toast_raw_datum_size(self.datum.into()) - pg_sys::VARHDRSZ }
    }

    /// All of it.
    pub fn detoast(&self) -> Detoasted {
        // SAFETY: self.datum is a varlena of any form.
        let detoasted = unsafe { pg_sys::pg_detoast_datum_packed(self.datum) };
        Detoasted { detoasted, original: self.datum }
    }

    /// Bytes `offset..offset + len` behind the header, as far as there are any.
    pub fn slice(&self, offset: usize, len: usize) -> Result<Detoasted, Report> {
        let (Ok(offset), Ok(len)) = (i32::try_from(offset), i32::try_from(len)) else {
            return Err(error::internal("a range of a datum is longer than any datum"));
        };
        // SAFETY: self.datum is a varlena of any form; a slice is always a fresh copy, cut at the end of the value.
        let slice = unsafe { pg_sys::pg_detoast_datum_slice(self.datum, offset, len) };
        Ok(Detoasted { detoasted: slice, original: std::ptr::null_mut() })
    }
}

impl Detoasted {
    /// The bytes after the varlena header.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: detoasted is a varlena in plain or short form that lives as long as self.
        unsafe {
            std::slice::from_raw_parts(vardata_any(self.detoasted).cast(), varsize_any_exhdr(self.detoasted))
        }
    }
}

impl Detoasted {
    /// The same; a copy stays until its memory context is reset.
    pub fn leak<'a>(self) -> &'a [u8] {
        let bytes = ptr::from_ref(self.bytes());
        std::mem::forget(self);
        // SAFETY: as above, and nobody frees it any more. The caller knows until when it is there.
        unsafe { &*bytes }
    }
}

impl Drop for Detoasted {
    fn drop(&mut self) {
        if self.detoasted != self.original {
            // SAFETY: detoasting made this copy by palloc for us alone.
            unsafe { pg_sys::pfree(self.detoasted.cast()) }
        }
    }
}
