//! What is no payload of this database: directories that DROP DATABASE leaves to later runs in other databases, and
//! temporary files that a crash leaves. Run after the purge, with the history locked.

use crate::pg::catalog;
use crate::pg::error::{self, Report};
use crate::pg::pace::Pace;
use crate::session::opening::Access;
use crate::session::transaction;
use crate::vacuum::history::{self, Run};
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use rbytea_store::Backend;
use std::time::{Duration, SystemTime};

/// Temporary files of OWNER that are younger may belong to a backend that is writing it.
const OWNER_WRITTEN: Duration = Duration::from_secs(24 * 60 * 60);

/// Renames the directories of databases that no transaction knows any more, and deletes those that have been
/// renamed for the retention. No horizon matters: no session can be connected to such a database, or was when it was
/// dropped. Removes temporary files: while the history is locked, no backend copies files into this database.
pub fn collect(retention: Option<Duration>, pace: &mut Pace, run: &mut Run) -> Result<(), Report> {
    transaction::with_store(Access::Write, |store| {
        let long_ago = SystemTime::now().checked_sub(OWNER_WRITTEN).unwrap_or(SystemTime::UNIX_EPOCH);
        store.remove_leftovers(long_ago)?;
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
            if purged.complete {
                let message = format!(
                    "rbytea deleted the payload files of dropped database {}, the last {} of them now",
                    dropped.oid, purged.files
                );
                error::emit(
                    error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message),
                    PgLogLevel::LOG,
                );
            }
            run.purged += purged.files;
            run.purged_bytes += purged.bytes;
        }
        Ok(())
    })
}

fn trash(store: &dyn Backend, database: u32) -> Result<(), Report> {
    let oid = pg_sys::Oid::from(database);
    if catalog::database_may_exist(oid) {
        return Ok(());
    }
    // The OID may be given to a new database at any moment; that one waits for this lock before it gets files.
    let Some(_lock) = catalog::try_lock_database(oid) else { return Ok(()) };
    if !catalog::database_may_exist(oid) && store.trash_database(database, SystemTime::now())? {
        let message = format!(
            "rbytea put the payload files of dropped database {database} aside, to be deleted after the retention"
        );
        error::emit(error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message), PgLogLevel::LOG);
    }
    Ok(())
}
