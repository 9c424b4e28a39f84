//! A payload that is made of pieces: a few bytes stay in memory and become an inline value, which the row trigger stores as any other; more
//! of them are written to the store as they come. One of the callers of `transaction::begin_payload` (I3).

use crate::pg::descriptor::Descriptor;
use crate::pg::error::{self, Report};
use crate::pg::{interrupts, settings};
use crate::session::transaction;
use crate::value::datum::RbyteaResult;
use pgrx::{PgSqlErrorCode, pg_sys};
use rbytea_store::{PayloadRef, Writer};
use std::cell::Cell;
use std::ffi::CStr;
use std::fs::File;

/// Longest payload that is kept in memory, in bytes.
pub const IN_MEMORY: usize = 256 * 1024;

/// A payload being made. Belongs to the transaction; dropped unfinished, it leaves garbage.
pub struct Builder {
    /// All bytes, while they are few.
    start: Vec<u8>,
    /// Where they are from then on.
    stored: Option<(Writer, Open)>,
    /// Bytes of the whole payload, if that is known.
    expected: Option<u64>,
}

impl Builder {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self { start: Vec::new(), stored: None, expected: None }
    }

    /// The same for a payload of `len` bytes.
    pub fn with_len(len: u64) -> Self {
        Self { expected: Some(len), ..Self::new() }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.stored.as_ref().map_or(self.start.len() as u64, |(writer, _)| writer.len())
    }

    /// Appends bytes. After an error, or an interrupt that unwinds, nothing can be made of it any more.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Report> {
        if self.stored.is_none() {
            let fits = self.start.len() + bytes.len() <= IN_MEMORY;
            if fits && self.expected.is_none_or(|len| len <= IN_MEMORY as u64) {
                self.start.extend_from_slice(bytes);
                return Ok(());
            }
        }
        let (start, expected) = (std::mem::take(&mut self.start), self.expected);
        let writer = self.writer()?;
        transaction::write(writer, &start, expected)?;
        transaction::write(writer, bytes, expected)
    }

    /// Takes all bytes of a file of the server without copying them, if nothing has been appended and the file system can. Whether it
    /// could.
    pub fn clone_from(&mut self, file: &File) -> Result<bool, Report> {
        Ok(self.writer()?.clone_from(file, &mut interrupts::check)?)
    }

    fn writer(&mut self) -> Result<&mut Writer, Report> {
        if self.stored.is_none() {
            let open = Open::one_more()?;
            self.stored = Some((transaction::begin_payload(self.expected)?, open));
        }
        self.stored.as_mut().map(|(writer, _)| writer).ok_or_else(not_begun)
    }

    /// The value.
    pub fn finish(self) -> Result<RbyteaResult, Report> {
        match self.stored {
            None => RbyteaResult::inline(&self.start),
            Some(_) => Ok(RbyteaResult::external(&self.finish_stored()?)),
        }
    }

    /// The same for one that is being written to the store.
    pub fn finish_stored(self) -> Result<PayloadRef, Report> {
        let (writer, _open) = self.stored.ok_or_else(not_begun)?;
        transaction::finish_payload(writer)
    }
}

fn not_begun() -> Report {
    error::internal("a payload was not begun")
}

/// An ERROR where the transaction must not write.
pub fn check_may_write(what: &CStr) {
    // SAFETY: both look at the transaction's and the server's state and raise an ERROR where writing is not allowed.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(what.as_ptr());
        pg_sys::PreventCommandDuringRecovery(what.as_ptr());
    }
}

thread_local! {
    /// Payloads of this session that are being written to files.
    static OPEN: Cell<i32> = const { Cell::new(0) };
}

/// One of a bounded number of files that are being written.
struct Open(#[allow(dead_code, reason = "it is given back when it is dropped")] Descriptor);

impl Open {
    fn one_more() -> Result<Self, Report> {
        let most = settings::max_uploads();
        if OPEN.get() >= most {
            return Err(too_many(most));
        }
        let descriptor = Descriptor::acquire("Finish uploads before more are begun")?;
        OPEN.set(OPEN.get() + 1);
        Ok(Self(descriptor))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

/// The error for one upload more than there may be.
pub fn too_many(most: i32) -> Report {
    error::report(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "too many uploads in this session")
        .set_detail(format!("\"rbytea.max_uploads\" is {most}."))
        .set_hint(
            "Finish uploads before more are begun, give rbytea_agg() an ORDER BY so that groups come one after the other, or raise \
             the setting.",
        )
}
