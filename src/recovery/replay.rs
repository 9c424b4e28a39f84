//! Replaying our records in the startup process: into which store, if any, and when what was written is made durable.

use crate::pg::error::{self, Report};
use crate::pg::settings::RecoveryStore;
use crate::pg::{compat, settings};
use crate::session::opening::{self, Access};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use rbytea_store as store;
use rbytea_store::file::Durable;
use rbytea_store::record::{Event, Record, RecordError, RecordKind};
use rbytea_store::{Backend, FileStore, OwnerId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

/// The store of this server, open while it recovers.
struct Replay {
    /// As it was set when it was opened.
    path: PathBuf,
    /// The part of each database that there was a record of.
    databases: HashMap<u32, FileStore>,
    /// Any of them, for what is about all of the store.
    root: FileStore,
    /// What everything is synced through.
    handle: Option<<store::file::os::OsFs as store::file::fs::Fs>::SyncHandle>,
    /// Something has been written since the last sync.
    dirty: bool,
}

thread_local! {
    static REPLAY: RefCell<Option<Replay>> = const { RefCell::new(None) };
    /// It has been said that the store is another server's.
    static SAID: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Recovery begins.
pub fn begin() {
    REPLAY.set(None);
    // A server that is to be promoted some day makes its store its own as early as it can. What stands against that is said when
    // there is something to replay.
    if is_archive_recovery() && opening::is_in_data_directory() && opening::exists() {
        let _ = opened();
    }
}

/// Recovery ends: nothing that it wrote is in the page cache alone, for a checkpoint follows.
pub fn end() -> Result<(), Report> {
    let synced = sync();
    REPLAY.set(None);
    synced
}

/// Replays a record.
pub fn record(record: &Record<'_>) -> Result<(), Report> {
    if record.kind() == RecordKind::Sync {
        return sync();
    }
    // Queries see the rows of what goes for as long as they have begun before.
    if let Event::Purge { horizon, .. } = record.event
        && in_hot_standby()
        && let Some(removed) = horizon.checked_sub(1)
    {
        // SAFETY: this is the startup process.
        unsafe { compat::resolve_recovery_conflict(record.database, removed) };
    }
    // Everybody may write a payload to the store that he uses; moving them is for the store's owner.
    let is_put = record.kind() == RecordKind::Put;
    opened()
        .and_then(|()| {
            REPLAY.with_borrow_mut(|replay| {
                let Some(replay) = replay else { return Ok(()) };
                if !is_put && !is_archive_recovery() && !is_ours(&replay.root)? {
                    return Ok(());
                }
                replay.record(record)
            })
        })
        .map_err(advise)
}

/// A record that this library does not know.
pub fn unknown(kind: u8, reason: RecordError) -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("could not replay a WAL record of rbytea: {reason}"),
    )
    .set_detail(format!("The record is of kind {kind}."))
    .set_hint("The record was written by a newer version of rbytea. Install that version here, and start the server again.")
}

/// Opens the store if recovery is to write to it and it is not open yet.
fn opened() -> Result<(), Report> {
    let path = settings::filesystem_storage_path();
    if REPLAY.with_borrow(|replay| replay.as_ref().is_some_and(|replay| replay.path == path)) {
        return Ok(());
    }
    // Of another root that was set meanwhile.
    sync()?;
    let opened = if is_shared()? { None } else { Some(Replay::open(path)?) };
    REPLAY.set(opened);
    Ok(())
}

/// Whether the store is another server's.
fn is_shared() -> Result<bool, Report> {
    if !is_archive_recovery() {
        return Ok(false);
    }
    let shared = match settings::recovery_store() {
        RecoveryStore::Own => false,
        RecoveryStore::Shared => true,
        RecoveryStore::Auto if opening::is_in_data_directory() => false,
        RecoveryStore::Auto => {
            let root = opening::open_unlogged(0, Access::Read)?;
            match root.owner()? {
                None => {
                    root.check_present()?;
                    false
                }
                Some(owner) => {
                    let ours = root.config().owner;
                    refuse_foreign(owner, ours)?;
                    owner.data_directory != ours.data_directory
                }
            }
        }
    };
    if shared && !SAID.replace(true) {
        let report = error::report(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            "recovery leaves the payload store alone, as another server owns it",
        )
        .set_hint("If this server has a store of its own, set \"rbytea.recovery_store\" to \"own\".");
        error::emit(report, PgLogLevel::LOG);
    }
    Ok(shared)
}

fn refuse_foreign(found: OwnerId, expected: OwnerId) -> Result<(), Report> {
    if found.system_identifier == expected.system_identifier {
        Ok(())
    } else {
        Err(store::Error::NotOwner { found, expected }.into())
    }
}

/// Whether OWNER names this data directory, on whichever timeline.
fn is_ours(root: &FileStore) -> Result<bool, Report> {
    let ours = root.config().owner.data_directory;
    Ok(opening::is_in_data_directory() || root.owner()?.is_some_and(|owner| owner.data_directory == ours))
}

impl Replay {
    fn open(path: PathBuf) -> Result<Self, Report> {
        let root = opening::open_unlogged(0, Access::Write)?;
        let ours = root.config().owner;
        match root.owner()? {
            Some(owner) => refuse_foreign(owner, ours)?,
            None if !is_archive_recovery() => root.check_present()?,
            None => {}
        }
        // In recovery, `ours` is of any timeline.
        if is_archive_recovery() {
            root.adopt()?;
        }
        // Before anything is written, so that it sees every write-back error since.
        let handle = root.open_sync()?;
        Ok(Self { path, databases: HashMap::new(), root, handle, dirty: false })
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), Report> {
        let durable = if self.handle.is_some() { Durable::Later } else { Durable::AtOnce };
        let files = match self.databases.entry(record.database) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(opening::open_unlogged(record.database, Access::Write)?)
            }
        };
        self.dirty = true;
        Ok(files.replay(&record.event, durable)?)
    }
}

/// Makes durable what has been written.
fn sync() -> Result<(), Report> {
    REPLAY.with_borrow_mut(|replay| match replay {
        Some(Replay { root, handle: Some(handle), dirty, .. }) if *dirty => {
            root.sync_all(handle)?;
            *dirty = false;
            Ok(())
        }
        _ => Ok(()),
    })
}

/// What an administrator can do about a store that recovery cannot write to.
fn advise(report: Report) -> Report {
    if is_archive_recovery() {
        report.add_hint(
            "If the store is to be this server's own, to be filled from the WAL, set \"rbytea.recovery_store\" to \"own\"; if it is another server's, to \"shared\".",
        )
    } else {
        report
    }
}

/// Whether this server replays an archive, or what a primary streams, rather than its own WAL after a crash.
fn is_archive_recovery() -> bool {
    // SAFETY: a plain read in the startup process.
    unsafe { pg_sys::ArchiveRecoveryRequested }
}

fn in_hot_standby() -> bool {
    // SAFETY: a plain read in the startup process.
    unsafe { pg_sys::standbyState >= pg_sys::HotStandbyState::STANDBY_SNAPSHOT_PENDING }
}
