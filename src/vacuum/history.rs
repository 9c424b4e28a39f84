//! The table rbytea_vacuum_history: what each run did, and the lock that keeps runs of one database apart.

use crate::catalog::Extension;
use crate::error;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Spi, pg_sys};

/// One row of the history.
#[derive(Debug, Default)]
pub struct Run {
    /// End of the WAL that was flushed before files were moved.
    pub lsn: u64,
    /// Every transaction below had ended; births below it were swept.
    pub upper: u64,
    /// Relations scanned.
    pub relations: u64,
    /// Tuples looked at.
    pub tuples: u64,
    /// Files seen in LIVE.
    pub files: u64,
    /// Files moved to TRASH.
    pub trashed: u64,
    /// Files moved back from TRASH.
    pub restored: u64,
    /// Bytes of the files moved to TRASH.
    pub bytes: u64,
}

/// Takes the lock that allows one run at a time in this database, for the rest of the transaction.
pub fn lock(extension: &Extension) -> Result<(), ErrorReport> {
    let history = extension.relation_oid(c"rbytea_vacuum_history")?;
    // SAFETY: locks an existing relation; SHARE UPDATE EXCLUSIVE conflicts with itself and with nothing that reads.
    unsafe { pg_sys::LockRelationOid(history, pg_sys::ShareUpdateExclusiveLock as i32) };
    Ok(())
}

/// Adds a run that has just finished.
pub fn record(extension: &Extension, started: TimestampWithTimeZone, run: &Run) -> Result<(), ErrorReport> {
    let insert = format!(
        "INSERT INTO {} (started, finished, lsn, lower, upper, relations, tuples, files, trashed, restored, purged, bytes)
         VALUES ($1, pg_catalog.clock_timestamp(), '0/0'::pg_catalog.pg_lsn OPERATOR(pg_catalog.+) $2::pg_catalog.numeric,
                 '0', $3::pg_catalog.text::pg_catalog.xid8, $4, $5, $6, $7, $8, 0, $9)",
        extension.qualified("rbytea_vacuum_history")?
    );
    let number = |number: u64| DatumWithOid::from(number.cast_signed());
    let arguments = [
        DatumWithOid::from(started),
        number(run.lsn),
        number(run.upper),
        number(run.relations),
        number(run.tuples),
        number(run.files),
        number(run.trashed),
        number(run.restored),
        number(run.bytes),
    ];
    Spi::run_with_args(&insert, &arguments).map_err(|error| error::internal(error.to_string()))
}
