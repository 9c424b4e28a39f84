//! The files of a check: what the store has that no row needs, or that it should not have.

use super::{Findings, Problem};
use crate::catalog::{self, Extension};
use crate::horizon::RunSnapshot;
use crate::mark;
use crate::pace::Pace;
use crate::progress::{self, Phase};
use crate::store::inspect::Report;
use crate::store::{Error, FileStore, Flaw, OWNER, PayloadId};
use crate::vacuum::plan::Marks;
use pgrx::check_for_interrupts;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
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
    let mut mark = mark::mark(extension, snapshot, &births, pace)?;
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
    let mut marks = Marks::new(&mut mark.references);
    for era in look(findings, |report| store.inspect_database(report))? {
        for shard in look(findings, |report| store.inspect_era(era, report))? {
            pace.file()?;
            let listing = look(findings, |report| store.inspect_shard(shard, report))?;
            for id in marks.judge(&listing.payloads, &births).garbage {
                // It may have been moved meanwhile.
                if store.is_live(&id)? {
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
    Ok(())
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
        checked => checked?,
    }
    Ok(())
}

/// Asked after the file has been seen: its transaction had begun before.
fn next_transaction() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value
}
