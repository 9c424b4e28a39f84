//! The files of a check: what the store has that no row needs, or that it should not have.

use crate::check::findings::{Findings, Problem};
use crate::mark;
use crate::mark::horizon::RunSnapshot;
use crate::pg::catalog::{self, Objects};
use crate::pg::error::{self, Report};
use crate::pg::pace::Pace;
use crate::pg::progress::{self, Phase};
use crate::pg::{compat, settings};
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use rbytea_store::inspect::Inspector;
use rbytea_store::judgement::{MarkKey, Reference};
use rbytea_store::{Error, FileStore, Flaw, OWNER, PayloadId};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Checks the root of the store and the part of this database.
pub fn check(
    objects: &Objects,
    store: &FileStore,
    snapshot: &RunSnapshot,
    pace: &mut Pace,
    findings: &mut Findings,
) -> Result<(), Report> {
    // SAFETY: reads the server's state.
    let standby = unsafe { pg_sys::RecoveryInProgress() };
    let births = 0..snapshot.upper();
    let mut mark = match obstacle(findings) {
        None => Some(mark::mark(objects, snapshot, &births, pace)?),
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
    let mut references = mark.as_mut().map(|mark| mark.references.by_ref().peekable());
    let mut unreferenced = false;
    for era in look(findings, |report| store.inspect_database(report))? {
        for shard in look(findings, |report| store.inspect_era(era, report))? {
            pace.file()?;
            let listing = look(findings, |report| store.inspect_shard(shard, report))?;
            if let Some(references) = &mut references {
                let old = listing.payloads.iter().filter(|id| id.birth < births.end);
                for id in unneeded(old, references) {
                    // It may have been moved meanwhile. What cannot be looked at has been reported.
                    if matches!(store.is_live(id), Ok(true)) {
                        unreferenced = true;
                        findings.file(Some(id.uuid), Problem::Unreferenced, &store.live_path(id));
                    }
                }
            }
            // Whoever replays the primary's WAL is behind it.
            let young = listing.payloads.iter().filter(|id| !standby && id.birth >= births.end);
            for id in young.filter(|id| id.birth >= next_transaction()) {
                findings.file(Some(id.uuid), Problem::FutureTransaction, &store.live_path(id));
            }
        }
    }
    if unreferenced && hidden {
        tell(
            "temporary tables of other sessions may refer to some of the unreferenced files",
            "Nobody but those sessions can read them.",
        );
    }
    if unreferenced && standby {
        tell(
            "sessions of the primary may still see rows that refer to some of the unreferenced files",
            "A standby does not know the snapshots of the primary.",
        );
    }
    Ok(())
}

/// Those of the files that no reference names. Both ascend; unlike the vacuum, nobody asks which references have no file.
fn unneeded<'a>(
    files: impl Iterator<Item = &'a PayloadId>,
    references: &mut Peekable<impl Iterator<Item = Reference>>,
) -> impl Iterator<Item = &'a PayloadId> {
    files.filter(move |id| {
        let key = MarkKey::of(id);
        while references.next_if(|reference| reference.key < key).is_some() {
            check_for_interrupts!();
        }
        check_for_interrupts!();
        references.peek().is_none_or(|reference| reference.key != key)
    })
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

/// Says who else may know of a file that is garbage as far as can be told here.
fn tell(message: &str, detail: &str) {
    let report = error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message);
    error::tell(report.set_detail(detail), PgLogLevel::NOTICE);
}

/// Looks at a directory. One that cannot be read is a finding, and has nothing in it.
fn look<T: Default>(
    findings: &mut Findings,
    inspect: impl FnOnce(Inspector<'_>) -> Result<T, Error>,
) -> Result<T, Report> {
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
fn owner(store: &FileStore, standby: bool, findings: &mut Findings) -> Result<(), Report> {
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
