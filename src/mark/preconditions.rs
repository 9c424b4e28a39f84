//! What must hold before a mark may be made, and the lock that keeps the vacuum of a database from running twice.

use crate::pg::catalog::{Extension, Objects};
use crate::pg::error::{self, Report};
use crate::pg::{compat, settings};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Refuses to mark where tuples may vanish, or come back, although the removal horizon stands still.
pub fn refuse_if_unsafe() -> Result<(), Report> {
    if compat::snapshots_expire() {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the vacuum cannot run while old_snapshot_threshold is set",
        )
        .set_detail("The server may remove rows that a snapshot still sees, and with them the last reference to a file.")
        .set_hint("Set old_snapshot_threshold to -1 and restart the server."));
    }
    for name in [c"zero_damaged_pages", c"ignore_checksum_failure"] {
        if settings::is_on(name) {
            let name = name.to_string_lossy();
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the vacuum cannot run while {name} is on"),
            )
            .set_detail(
                "A damaged page would look as if its rows, and the references in them, did not exist.",
            )
            .set_hint(format!("Set {name} to off once the damaged tables have been repaired.")));
        }
    }
    // SAFETY: reads the transaction's state.
    if unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "the vacuum cannot run in a transaction that has already written",
        )
        .set_detail(
            "A table that this transaction has truncated, dropped or rewritten comes back if it rolls back.",
        )
        .set_hint("Commit first."));
    }
    Ok(())
}

/// Takes the lock that allows one run at a time in this database, for the rest of the transaction. Returns the
/// extension's objects, which it keeps from being dropped; None if the lock is not available at once and the run does
/// not wait.
pub fn lock_history(extension: &Extension, wait: bool) -> Result<Option<Objects>, Report> {
    let mode = pg_sys::ShareUpdateExclusiveLock as i32;
    loop {
        let objects = extension.objects()?;
        // SAFETY: any OID can be locked; SHARE UPDATE EXCLUSIVE conflicts with itself and with nothing that reads.
        unsafe {
            if wait {
                pg_sys::LockRelationOid(objects.history, mode);
            } else if !pg_sys::ConditionalLockRelationOid(objects.history, mode) {
                return Ok(None);
            }
        }
        // The extension may have been dropped, and created anew, before the lock was there.
        if extension.objects()? == objects {
            return Ok(Some(objects));
        }
    }
}

/// Keeps the vacuum of this database away for the rest of the transaction.
pub fn exclude(extension: &Extension) -> Result<(), Report> {
    lock_history(extension, true).map(drop)
}
