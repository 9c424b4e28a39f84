//! The one place that turns what went wrong into an SQL error: SQLSTATE, message, DETAIL and HINT.

use crate::pg::advice;
use crate::pg::encoding::readable;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use rbytea_store as store;
use rbytea_store::value::{MAX_INLINE, NegativeLength, ValueError};
use std::path::Path;

/// An error of the extension, or of the server, on its way to the client. A type of this crate, so that the errors of
/// the store and of SPI become one with `?`; functions that SQL calls return pgrx's own, which it becomes with `?`
/// again.
#[derive(Debug)]
pub struct Report(ErrorReport);

impl Report {
    /// With a full sentence about what has happened.
    #[must_use]
    pub fn set_detail(self, detail: impl Into<String>) -> Self {
        Self(self.0.set_detail(detail))
    }

    /// With full sentences about what to do.
    #[must_use]
    pub fn set_hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.set_hint(hint))
    }

    /// With more sentences about what to do.
    #[must_use]
    pub fn add_hint(self, hint: &str) -> Self {
        let hint = match self.0.hint() {
            Some(before) => format!("{before} {hint}"),
            None => hint.to_string(),
        };
        self.set_hint(hint)
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.0.message()
    }

    /// The DETAIL, if there is one.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail()
    }

    /// Hands it to the server.
    fn report(self, level: PgLogLevel) {
        self.0.report(level);
    }
}

impl From<ErrorReport> for Report {
    fn from(report: ErrorReport) -> Self {
        Self(report)
    }
}

impl From<Report> for ErrorReport {
    fn from(report: Report) -> Self {
        report.0
    }
}

impl From<pgrx::spi::Error> for Report {
    #[track_caller]
    fn from(error: pgrx::spi::Error) -> Self {
        internal(error.to_string())
    }
}

impl From<store::Error> for Report {
    #[track_caller]
    fn from(error: store::Error) -> Self {
        use store::Kind;
        let code = match error.kind() {
            Kind::NotFound => PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
            Kind::DiskFull => PgSqlErrorCode::ERRCODE_DISK_FULL,
            Kind::Permission => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Kind::Corrupted => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            Kind::Config => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            Kind::NotOwner => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Kind::Unsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            Kind::OutOfRange => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            Kind::ReadOnly | Kind::Io => PgSqlErrorCode::ERRCODE_IO_ERROR,
        };
        // Only an error about the root itself has an absolute path. It is a setting that only superusers may see, as
        // is the path of the key file.
        let about_keys = matches!(error, store::Error::KeyFile { .. } | store::Error::KeyMissing { .. });
        let hide_path = (about_keys || error.path().is_some_and(Path::is_absolute)) && !may_see_paths();
        if hide_path {
            let (message, detail) = match error {
                store::Error::KeyMissing { id, .. } => (
                    format!("encryption key {id} is not available"),
                    "The file that \"rbytea.key_file\" names does not have this key.",
                ),
                store::Error::KeyFile { .. } => (
                    "the encryption keys are not usable".into(),
                    "The file that \"rbytea.key_file\" names is missing or unsuitable.",
                ),
                _ => (
                    "the payload store is not usable".into(),
                    "The directory that \"rbytea.filesystem_storage_path\" names is missing or unsuitable.",
                ),
            };
            return report(code, message)
                .set_detail(detail)
                .set_hint("Ask a superuser, who sees the path and the reason.");
        }
        let shown = |text: String| readable(text.as_bytes());
        let mut report = report(code, shown(advice::message(&error)));
        if let Some(detail) = error.detail() {
            report = report.set_detail(shown(detail));
        }
        if let Some(hint) = advice::hint(&error) {
            report = report.set_hint(shown(hint));
        }
        report
    }
}

/// Superusers may, and the log of a process that is connected to no database.
fn may_see_paths() -> bool {
    // SAFETY: a plain read. superuser() only reads the current user's cached flag or pg_authid; an error of ours is raised inside of a
    // transaction.
    unsafe { pg_sys::MyDatabaseId == pg_sys::InvalidOid || pg_sys::superuser() }
}

impl From<ValueError> for Report {
    #[track_caller]
    fn from(error: ValueError) -> Self {
        report(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, format!("invalid rbytea datum: {error}"))
            .set_hint("The row is corrupted, or a newer version of the extension wrote it.")
    }
}

impl From<NegativeLength> for Report {
    #[track_caller]
    fn from(error: NegativeLength) -> Self {
        report(PgSqlErrorCode::ERRCODE_SUBSTRING_ERROR, error.to_string())
    }
}

/// A report with this SQLSTATE and message.
#[track_caller]
pub fn report(code: PgSqlErrorCode, message: impl Into<String>) -> Report {
    Report(ErrorReport::new(code, message.into(), "rbytea"))
}

/// A payload that no datum can hold.
#[track_caller]
pub fn too_large(len: u64) -> Report {
    report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "payload is too large for one value")
        .set_detail(format!("The payload has {len} bytes; a value in memory holds at most {}.", MAX_INLINE))
        .set_hint("Read it in parts with rbytea_read() or rbytea_chunks().")
}

/// A state that only a bug can bring about.
#[track_caller]
pub fn internal(message: impl Into<String>) -> Report {
    report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message)
}

/// Raises the report as an ERROR.
#[track_caller]
pub fn raise(error: impl Into<Report>) -> ! {
    error.into().report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// Emits a NOTICE, WARNING or LOG. PostgreSQL looks for a cancel after each message and may leave by longjmp; through
/// the boundary that becomes a panic, and what our callers hold is released.
pub fn emit(report: Report, level: PgLogLevel) {
    // SAFETY: nothing between the boundary and the server needs its destructor run.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| report.report(level)) }
}
