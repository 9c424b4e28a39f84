//! The table rbytea_vacuum_history: what each run did, and the lock that keeps runs of one database apart.

use crate::catalog::Extension;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, pg_sys};

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

impl Run {
    /// The row that the SQL function rvacuum() adds to the history, in the order of rbytea_vacuum_run()'s columns.
    pub fn row(&self, started: TimestampWithTimeZone) -> [Option<pg_sys::Datum>; 9] {
        let number = |number: u64| Some(pg_sys::Datum::from(number));
        [
            started.into_datum(),
            number(self.lsn),
            number(self.upper),
            number(self.relations),
            number(self.tuples),
            number(self.files),
            number(self.trashed),
            number(self.restored),
            number(self.bytes),
        ]
    }
}
