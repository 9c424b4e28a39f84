//! The files of a check: what the store has that no row refers to, or that it should not have. Relies on a mark; where
//! none can be made, a WARNING says that unreferenced files were not looked for.

use crate::check::findings::{Findings, Problem};
use crate::mark;
use crate::mark::horizon::RunSnapshot;
use crate::pg::catalog::{self, Objects};
use crate::pg::error::{self, Report};
use crate::pg::pace::Pace;
use crate::pg::progress::{self, Phase};
use crate::pg::{compat, settings};
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_sys};
use rbytea_store::judgement::{MarkKey, Reference};
use rbytea_store::{Backend, Error, Flaw, Inspection, Listing, OWNER, PayloadId, Shard};
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Checks the root of the store and the part of this database.
pub fn check(
    objects: &Objects,
    store: &dyn Backend,
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
            report_no_mark(why);
            None
        }
    };
    progress::phase(Phase::Sweeping);
    owner(store, standby, findings)?;
    let hidden = mark.as_ref().is_some_and(|mark| !mark.hidden.is_empty());
    let references = mark.as_mut().map(|mark| mark.references.by_ref().peekable());
    let mut walk = Walk {
        store,
        standby,
        upper: births.end,
        references,
        pace,
        findings,
        unreferenced: false,
        failed: None,
    };
    store.inspect(&mut walk)?;
    let unreferenced = walk.unreferenced;
    if let Some(report) = walk.failed {
        return Err(report);
    }
    if unreferenced && hidden {
        report_notice(
            "temporary tables of other sessions may refer to some of the unreferenced files",
            "Only those sessions can read them.",
        );
    }
    if unreferenced && standby {
        report_notice(
            "sessions of the primary may still see rows that refer to some of the unreferenced files",
            "A standby does not know the snapshots of the primary.",
        );
    }
    Ok(())
}

/// The files that no reference names. Both ascend; references without a file are found by the check of the rows.
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

/// Why it cannot be known which files no row refers to (I10).
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

fn report_no_mark(why: &str) {
    let report = error::report(PgSqlErrorCode::ERRCODE_WARNING, "unreferenced files were not looked for");
    error::emit(report.set_detail(why), PgLogLevel::WARNING);
}

/// Names sessions that may still refer to a file which no row refers to here.
fn report_notice(message: &str, detail: &str) {
    let report = error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message);
    error::emit(report.set_detail(detail), PgLogLevel::NOTICE);
}

/// The way of a check through the store.
struct Walk<'a, R: Iterator<Item = Reference>> {
    store: &'a dyn Backend,
    standby: bool,
    /// What is born below it is judged.
    upper: u64,
    /// None if there is no mark.
    references: Option<Peekable<R>>,
    pace: &'a mut Pace,
    findings: &'a mut Findings,
    /// Whether a file was found that no row needs.
    unreferenced: bool,
    /// What has ended it.
    failed: Option<Report>,
}

impl<R: Iterator<Item = Reference>> Walk<'_, R> {
    fn fail(&mut self, error: impl Into<Report>) -> ControlFlow<()> {
        self.failed = Some(error.into());
        ControlFlow::Break(())
    }
}

impl<R: Iterator<Item = Reference>> Inspection for Walk<'_, R> {
    fn entry(&mut self, flaw: Option<Flaw>, path: &Path) -> ControlFlow<()> {
        check_for_interrupts!();
        let problem = match flaw {
            None => return ControlFlow::Continue(()),
            Some(Flaw::ForeignName) => Problem::ForeignName,
            Some(Flaw::WrongRights) => Problem::WrongRights,
            Some(Flaw::Unreadable) => Problem::Unreadable,
        };
        let payload = path.file_name().and_then(|name| PayloadId::parse_file_name(name.as_bytes()));
        self.findings.file(payload.map(|id| id.uuid), problem, path);
        ControlFlow::Continue(())
    }

    fn root_done(&mut self) -> ControlFlow<()> {
        // The primary may have databases that this standby has not replayed yet.
        if self.standby {
            return ControlFlow::Continue(());
        }
        match self.store.databases() {
            Ok(databases) => {
                let gone = databases.into_iter().filter(|&oid| !catalog::database_may_exist(oid.into()));
                for database in gone {
                    self.findings.file(None, Problem::Unreferenced, Path::new(&database.to_string()));
                }
                ControlFlow::Continue(())
            }
            Err(error) => self.fail(error),
        }
    }

    fn shard(&mut self, _shard: Shard, listing: &Listing) -> ControlFlow<()> {
        if let Err(report) = self.pace.file() {
            return self.fail(report);
        }
        if let Some(references) = &mut self.references {
            let old = listing.payloads.iter().filter(|id| id.birth < self.upper);
            for id in unneeded(old, references) {
                // It may have been moved meanwhile. What cannot be looked at has been reported.
                if matches!(self.store.size(id), Ok(Some(_))) {
                    self.unreferenced = true;
                    self.findings.file(Some(id.uuid), Problem::Unreferenced, &self.store.live_path(id));
                }
            }
        }
        // A standby is behind the transactions of the primary.
        let later = listing.payloads.iter().filter(|id| !self.standby && id.birth >= self.upper);
        for id in later.filter(|id| id.birth >= next_transaction()) {
            self.findings.file(Some(id.uuid), Problem::FutureTransaction, &self.store.live_path(id));
        }
        ControlFlow::Continue(())
    }
}

/// A standby knows no timeline of its own, and its data directory is not the owner's.
fn owner(store: &dyn Backend, standby: bool, findings: &mut Findings) -> Result<(), Report> {
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
