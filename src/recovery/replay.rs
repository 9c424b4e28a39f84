//! Replaying our records in the startup process, and when what was written is made durable.

use crate::pg::error::{self, Report};
use crate::pg::settings::RecoveryStore;
use crate::pg::{compat, settings};
use crate::recovery::target::{self, May, Target, is_archive_recovery};
use crate::session::opening::{self, Access};
use pgrx::{PgSqlErrorCode, pg_sys};
use rbytea_store::file::Durable;
use rbytea_store::file::fs::Fs;
use rbytea_store::file::os::OsFs;
use rbytea_store::record::{Event, Record, RecordError};
use rbytea_store::room::{Lsn, Room};
use rbytea_store::{FileStore, Kind};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

/// What has been found out about the store, for settings that may be read anew meanwhile.
struct Known {
    path: PathBuf,
    setting: RecoveryStore,
    /// None where it is another server's.
    store: Option<Replay>,
}

/// The store of this server, open while it recovers.
struct Replay {
    /// The part of each database that there was a record of.
    databases: HashMap<u32, FileStore>,
    /// For what is about all of the store.
    root: FileStore,
    /// What everything is synced through.
    handle: Option<<OsFs as Fs>::SyncHandle>,
    /// Something has been written since the last sync.
    dirty: bool,
    /// What may be replayed.
    may: May,
    /// After a crash.
    room: Room,
}

/// Databases whose parts of the store are open at once at most.
const MOST_DATABASES: usize = 64;

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// Recovery begins.
pub fn begin() {
    KNOWN.set(None);
    // A server that is to be promoted some day makes its store its own as early as it can. What stands against that is said when
    // there is something to replay.
    let is_own = || settings::recovery_store() == RecoveryStore::Own || opening::is_in_data_directory();
    if is_archive_recovery() && opening::exists() && is_own() {
        let _ = open();
    }
}

/// Recovery ends: nothing that it wrote is in the page cache alone, for a checkpoint follows.
pub fn end() -> Result<(), Report> {
    let ended = before_checkpoint(Lsn::MAX);
    KNOWN.set(None);
    ended
}

/// A checkpoint is about to be replayed: a restartpoint may be made of it, after a crash too, and nothing that is before its redo pointer
/// is replayed again then.
pub fn before_checkpoint(redo: Lsn) -> Result<(), Report> {
    sync().and_then(|()| with_store(|store| store.had_room(redo)))
}

/// Replays a record, which is at this place.
pub fn record(record: &Record<'_>, place: Lsn) -> Result<(), Report> {
    // Queries see the rows of what goes for as long as they have begun before.
    if let Event::Purge { horizon, .. } = record.event
        && in_hot_standby()
        && let Some(removed) = horizon.checked_sub(1)
    {
        // SAFETY: this is the startup process.
        unsafe { compat::resolve_recovery_conflict(record.database, removed) };
    }
    open().and_then(|()| with_store(|store| store.replay(record, place))).map_err(advise)
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

/// Finds out whether recovery is to write to the store, and opens it then.
fn open() -> Result<(), Report> {
    let (path, setting) = (settings::filesystem_storage_path(), settings::recovery_store());
    let is_known = |known: &Known| known.path == path && known.setting == setting;
    if KNOWN.with_borrow(|known| known.as_ref().is_some_and(is_known)) {
        return Ok(());
    }
    // Of another root that was set until now.
    before_checkpoint(Lsn::MAX)?;
    KNOWN.set(None);
    let target =
        if is_archive_recovery() { target::of_archive(setting)? } else { Some(target::after_crash()?) };
    let store = target.map(Replay::into).transpose()?;
    KNOWN.set(Some(Known { path, setting, store }));
    Ok(())
}

/// Works with the store, if it is this server's and open.
fn with_store(work: impl FnOnce(&mut Replay) -> Result<(), Report>) -> Result<(), Report> {
    KNOWN.with_borrow_mut(|known| match known {
        Some(Known { store: Some(store), .. }) => work(store),
        _ => Ok(()),
    })
}

/// Makes durable what has been written.
fn sync() -> Result<(), Report> {
    with_store(Replay::sync)
}

impl Replay {
    fn into(target: Target) -> Result<Self, Report> {
        let Target { root, may } = target;
        // Before anything is written, so that it sees every write-back error since.
        let handle = root.open_sync()?;
        Ok(Self { databases: HashMap::new(), root, handle, dirty: true, may, room: Room::default() })
    }

    fn replay(&mut self, record: &Record<'_>, place: Lsn) -> Result<(), Report> {
        if self.room.is_lacking(record) {
            return Ok(());
        }
        self.room.follow(record);
        let after_crash = !is_archive_recovery();
        let adds = matches!(
            record.event,
            Event::Put { .. } | Event::Abandon { .. } | Event::Restore { .. } | Event::Clone { .. }
        );
        if self.may == May::Add && !adds {
            return Ok(());
        }
        // It was durable before it was logged. Another database may have the OID now, whose directory has nothing to do with this.
        if matches!(record.event, Event::Drop { .. }) && after_crash {
            return Ok(());
        }
        let durable = if self.handle.is_some() { Durable::Later } else { Durable::AtOnce };
        self.dirty = true;
        let database = record.database;
        let beginning = after_crash.then(|| self.room.beginning(record, place));
        let replayed = self.part(database)?.replay(&record.event, durable);
        match (replayed, beginning, &record.event) {
            (Err(error), Some(beginning), Event::Put { id, offset, bytes, .. })
                if error.kind() == Kind::DiskFull =>
            {
                // Best effort: what is left of it is garbage, or the error of the end.
                let _ = self.part(database)?.cut_replayed(id, beginning.offset, *offset, bytes);
                self.room.lacks(database, *id, beginning);
                Ok(())
            }
            // A file system that never writes in place may have no room for giving some back.
            (Err(error), Some(_), Event::Abandon { .. }) if error.kind() == Kind::DiskFull => Ok(()),
            (replayed, ..) => Ok(replayed?),
        }
    }

    /// The part of a database.
    fn part(&mut self, database: u32) -> Result<&FileStore, Report> {
        if !self.databases.contains_key(&database) {
            if self.databases.len() >= MOST_DATABASES {
                self.databases.clear();
            }
            self.databases.insert(database, opening::open_unlogged(database, Access::Write)?);
        }
        self.databases.get(&database).ok_or_else(|| error::internal("a part of the store is not open"))
    }

    /// That no payload is left which begins before this place, and which the disk had no room for.
    fn had_room(&mut self, redo: Lsn) -> Result<(), Report> {
        let left = self.room.at_checkpoint(redo);
        if left == 0 {
            return Ok(());
        }
        Err(error::report(
            PgSqlErrorCode::ERRCODE_DISK_FULL,
            format!("the payload store has no room for {left} payloads that are in the WAL"),
        )
        .set_hint(
            "Enlarge the file system that holds the store, or free space on it, and start the server again.",
        ))
    }

    fn sync(&mut self) -> Result<(), Report> {
        if self.dirty
            && let Some(handle) = &self.handle
        {
            self.root.sync_all(handle).map_err(|error| {
                Report::from(error).set_detail(
                    "Recovery cannot go on: a checkpoint would forget the payloads that are in the WAL.",
                )
            })?;
        }
        self.dirty = false;
        Ok(())
    }
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

fn in_hot_standby() -> bool {
    // SAFETY: a plain read in the startup process.
    unsafe { pg_sys::standbyState >= pg_sys::HotStandbyState::STANDBY_SNAPSHOT_PENDING }
}
