//! Databases that are gone: DROP DATABASE leaves their directories to later sweeps of other databases.

use super::history::{self, Run};
use crate::pace::Pace;
use crate::store::FileStore;
use crate::xact::{self, Access};
use crate::{catalog, error};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use std::time::{Duration, SystemTime};

/// Moves the directories of databases that no transaction knows any more to TRASH, and deletes those that have been there
/// for the retention. No horizon matters: nobody can be connected to such a database, or have been when it was dropped.
pub fn collect(retention: Option<Duration>, pace: &mut Pace, run: &mut Run) -> Result<(), ErrorReport> {
    xact::with_store(Access::Write, |store| {
        for database in store.databases()? {
            pace.file()?;
            trash(store, database)?;
        }
        let Some(retention) = retention else { return Ok(()) };
        let expired = history::expired(retention);
        for dropped in store.dropped_databases()? {
            if history::stamp(dropped.trashed_at) > expired {
                continue;
            }
            let purged = store.purge_database(&dropped, &mut || {
                check_for_interrupts!();
            })?;
            run.purged += purged.files;
            run.purged_bytes += purged.bytes;
        }
        Ok(())
    })
}

fn trash(store: &FileStore, database: u32) -> Result<(), ErrorReport> {
    let oid = pg_sys::Oid::from(database);
    if catalog::database_may_exist(oid) {
        return Ok(());
    }
    // The OID may be given to a new database at any moment; that one waits for this lock before it gets files.
    let Some(_lock) = catalog::try_lock_database(oid) else { return Ok(()) };
    if !catalog::database_may_exist(oid) && store.trash_database(database, SystemTime::now())? {
        let message = format!("rbytea moved the payload files of dropped database {database} to TRASH");
        error::tell(error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message), PgLogLevel::LOG);
    }
    Ok(())
}
