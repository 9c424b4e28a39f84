//! Descriptors of files that stay open from call to call: PostgreSQL counts them, and closes files of its own for them.

use crate::pg::error::{self, Report};
use pgrx::{PgSqlErrorCode, pg_sys};

/// A descriptor that is open for as long as this lives.
pub struct Descriptor(());

impl Descriptor {
    /// Of a file that is about to be opened; `hint` says what to close when there are too many.
    pub fn acquire(hint: &str) -> Result<Self, Report> {
        // SAFETY: counts a descriptor, and may close files that PostgreSQL opens again when it needs them.
        if unsafe { pg_sys::AcquireExternalFD() } {
            return Ok(Self(()));
        }
        Err(error::report(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            "too many open files in this session",
        )
        .set_hint(format!("{hint}, or raise max_files_per_process.")))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was counted, and is closed by now or soon.
        unsafe { pg_sys::ReleaseExternalFD() }
    }
}
