//! rbytea_from_lo(): a payload out of a large object, read as PostgreSQL's own functions read it, with the rights that they ask for.

use crate::pg::error::{self, Report};
use crate::stream::builder::{self, Builder};
use crate::value::datum::RbyteaResult;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, direct_function_call, pg_extern, pg_sys};
use std::ffi::{c_char, c_int};

unsafe extern "C-unwind" {
    /// libpq/be-fsstubs.h: reads from where the descriptor stands; the number of bytes.
    fn lo_read(fd: c_int, buf: *mut c_char, len: c_int) -> c_int;
}

/// libpq/libpq-fs.h
const INV_READ: i32 = 0x40000;

/// Bytes that are read at once: some hundred rows of pg_largeobject.
const PIECE: usize = 256 * 1024;

/// The bytes of a large object as a value.
#[pg_extern]
fn rbytea_from_lo(lo: pg_sys::Oid) -> Result<RbyteaResult, ErrorReport> {
    builder::check_may_write(c"rbytea_from_lo()");
    let object = LargeObject::open(lo)?;
    let mut builder = Builder::with_len(object.len);
    let mut buffer = vec![0; PIECE.min(object.len as usize)];
    loop {
        let piece = object.read(&mut buffer);
        if piece.is_empty() {
            break;
        }
        builder.append(piece)?;
    }
    object.close()?;
    Ok(builder.finish()?)
}

/// An open large object. An ERROR leaves it to the end of the (sub)transaction.
struct LargeObject {
    fd: i32,
    /// Bytes that it has, which no transaction changes for this statement.
    len: u64,
}

impl LargeObject {
    fn open(lo: pg_sys::Oid) -> Result<Self, Report> {
        // SAFETY: functions of SQL with the arguments that they declare; they look at nothing else of their call.
        unsafe {
            let fd: i32 =
                called(direct_function_call(pg_sys::be_lo_open, &[lo.into_datum(), INV_READ.into_datum()]))?;
            let seek = |offset: i64, whence: i32| {
                let arguments = [fd.into_datum(), offset.into_datum(), whence.into_datum()];
                called::<i64>(direct_function_call(pg_sys::be_lo_lseek64, &arguments))
            };
            let len = seek(0, libc::SEEK_END)?;
            seek(0, libc::SEEK_SET)?;
            Ok(Self { fd, len: len.unsigned_abs() })
        }
    }

    /// The next bytes; none at the end.
    fn read<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        // SAFETY: the buffer has room for so many bytes; nothing between the boundary and the server needs its destructor run.
        let read = unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                lo_read(self.fd, buffer.as_mut_ptr().cast(), buffer.len() as c_int)
            })
        };
        buffer.get(..read.unsigned_abs() as usize).unwrap_or_default()
    }

    fn close(self) -> Result<(), Report> {
        // SAFETY: as above.
        unsafe { called::<i32>(direct_function_call(pg_sys::be_lo_close, &[self.fd.into_datum()])).map(drop) }
    }
}

fn called<T>(result: Option<T>) -> Result<T, Report> {
    result.ok_or_else(|| error::internal("a function of large objects returned NULL"))
}
