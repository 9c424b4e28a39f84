//! The files of a check: what the store has that no row needs, or that it should not have.

use super::{Findings, Problem};
use crate::catalog::{self, Extension};
use crate::horizon::RunSnapshot;
use crate::pace::Pace;
use crate::progress::{self, Phase};
use crate::store::inspect::Report;
use crate::store::{Error, FileStore, Flaw, OWNER, PayloadId};
use crate::vacuum::plan::Marks;
use crate::{compat, error, mark, settings};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Checks the root of the store and the part of this database.
pub fn check(
    extension: &Extension,
    store: &FileStore,
    snapshot: &RunSnapshot,
    pace: &mut Pace,
    findings: &mut Findings,
) -> Result<(), ErrorReport> {
    // SAFETY: reads the server's state.
    let standby = unsafe { pg_sys::RecoveryInProgress() };
    let births = 0..snapshot.upper();
    let mut mark = match obstacle(findings) {
        None => Some(mark::mark(extension, snapshot, &births, pace)?),
        Some(why) => {
            tell_of_no_mark(why);
            None
        }
    };
    progress::phase(Phase::Sweeping);
    owner(store, standby, findings)?;
    look(findings, |report| store.inspect_root(report))?;
    // The primary may have databases that this standby has not heard of yet.
    if !standby {
        for database in store.databases()? {
            if !catalog::database_may_exist(database.into()) {
                findings.file(None, Problem::Unreferenced, Path::new(&database.to_string()));
            }
        }
    }
    look(findings, |report| store.inspect_trash(report))?;
    let hidden = mark.as_ref().is_some_and(|mark| !mark.hidden.is_empty());
    let mut marks = mark.as_mut().map(|mark| Marks::new(&mut mark.references));
    let mut unreferenced = false;
    for era in look(findings, |report| store.inspect_database(report))? {
        for shard in look(findings, |report| store.inspect_era(era, report))? {
            pace.file()?;
            let listing = look(findings, |report| store.inspect_shard(shard, report))?;
            let verdict = marks.as_mut().map(|marks| marks.judge(&listing.payloads, &births));
            for id in verdict.unwrap_or_default().garbage {
                check_for_interrupts!();
                // It may have been moved meanwhile. What cannot be looked at has been reported.
                if matches!(store.is_live(&id), Ok(true)) {
                    unreferenced = true;
                    findings.file(Some(id.uuid), Problem::Unreferenced, &store.live_path(&id));
                }
            }
            // Whoever replays the primary's WAL is behind it.
            let young = listing.payloads.iter().filter(|id| !standby && id.birth >= births.end);
            for id in young.filter(|id| id.birth >= next_transaction()) {
                findings.file(Some(id.uuid), Problem::FutureTransaction, &store.live_path(id));
            }
        }
    }
    if hidden && unreferenced {
        tell_of_hidden();
    }
    Ok(())
}

/// Why nobody can tell which files no row refers to (I10).
fn obstacle(findings: &Findings) -> Option<&'static str> {
    if !findings.values_are_valid {
        Some("A row holds an invalid value, and what it refers to is not known.")
    } else if compat::snapshots_expire() {
        Some("While old_snapshot_threshold is set, the server may remove rows that a snapshot still sees.")
    } else if settings::is_on(c"zero_damaged_pages") || settings::is_on(c"ignore_checksum_failure") {
        Some(
            "While zero_damaged_pages or ignore_checksum_failure is on, rows of damaged pages look as if they did not exist.",
        )
    } else {
        None
    }
}

fn tell_of_no_mark(why: &str) {
    let report = error::report(PgSqlErrorCode::ERRCODE_WARNING, "unreferenced files were not looked for");
    error::tell(report.set_detail(why), PgLogLevel::WARNING);
}

/// As far as anybody but their sessions can tell, such files are garbage: they can be read from TRASH.
fn tell_of_hidden() {
    let message = "temporary tables of other sessions may refer to some of the unreferenced files";
    let report = error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message);
    error::tell(report.set_detail("Nobody but those sessions can read them."), PgLogLevel::NOTICE);
}

/// Looks at a directory. One that cannot be read is a finding, and has nothing in it.
fn look<T: Default>(
    findings: &mut Findings,
    inspect: impl FnOnce(Report<'_>) -> Result<T, Error>,
) -> Result<T, ErrorReport> {
    let inspected = inspect(&mut |flaw, path| {
        check_for_interrupts!();
        let problem = match flaw {
            None => return Ok(()),
            Some(Flaw::ForeignName) => Problem::ForeignName,
            Some(Flaw::WrongRights) => Problem::WrongRights,
            Some(Flaw::Unreadable) => Problem::Unreadable,
        };
        let payload = path.file_name().and_then(|name| PayloadId::parse_file_name(name.as_bytes()));
        findings.file(payload.map(|id| id.uuid), problem, &path);
        Ok(())
    });
    match inspected {
        Err(Error::Io { path, .. }) => {
            findings.file(None, Problem::Unreadable, &path);
            Ok(T::default())
        }
        inspected => Ok(inspected?),
    }
}

/// A standby knows no timeline of its own, and its data directory is not the owner's.
fn owner(store: &FileStore, standby: bool, findings: &mut Findings) -> Result<(), ErrorReport> {
    match store.check_owner() {
        Err(Error::NotOwner { found, expected })
            if standby && found.system_identifier == expected.system_identifier => {}
        Err(Error::NotOwner { .. } | Error::OwnerCorrupt { .. } | Error::UnknownFormat { .. }) => {
            findings.file(None, Problem::WrongOwner, Path::new(OWNER));
        }
        Err(Error::Io { path, .. }) => findings.file(None, Problem::Unreadable, &path),
        checked => checked?,
    }
    Ok(())
}

/// Asked after the file has been seen: its transaction had begun before.
fn next_transaction() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value
}
