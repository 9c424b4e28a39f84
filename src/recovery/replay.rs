//! Replaying our records in the startup process: into which store, if any, and when what was written is made durable.

use crate::pg::error::{self, Report};
use crate::pg::settings::RecoveryStore;
use crate::pg::{compat, settings};
use crate::session::opening::{self, Access};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use rbytea_store as store;
use rbytea_store::file::Durable;
use rbytea_store::file::fs::Fs;
use rbytea_store::file::os::OsFs;
use rbytea_store::record::{Event, Record, RecordError};
use rbytea_store::{Backend, FileStore, Kind, OwnerId, PayloadId};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

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
    /// Payloads, with their databases, that the disk had no room for, and the places in the WAL where they begin.
    without_room: BTreeMap<(u32, PayloadId), Lsn>,
    /// After a crash: payloads that have not ended, and the first of their records that was replayed: its place and its offset.
    begun: BTreeMap<(u32, PayloadId), (Lsn, u64)>,
    /// What may be replayed.
    may: May,
}

/// A place in the WAL.
type Lsn = pg_sys::XLogRecPtr;

/// What recovery may do to a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    /// Everything: it is this server's own.
    All,
    /// Only add payloads: another server may use it now. That is so if this data directory is a copy, or the one that the store's owner
    /// was copied from.
    Add,
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
    sync().and_then(|()| with_store(|store| store.all_had_room(redo)))
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
    let store = if is_archive_recovery() { archive_store(setting)? } else { Some(Replay::after_crash()?) };
    KNOWN.set(Some(Known { path, setting, store }));
    Ok(())
}

/// The store of a server in archive recovery, if it is its own.
fn archive_store(setting: RecoveryStore) -> Result<Option<Replay>, Report> {
    let own = || Replay::own(setting).map(Some);
    match setting {
        RecoveryStore::Own => return own(),
        RecoveryStore::Auto if opening::is_in_data_directory() => return own(),
        RecoveryStore::Shared => {}
        RecoveryStore::Auto => {
            let root = opening::open_unlogged(0, Access::Read)?;
            let ours = root.config().owner;
            // Nobody's, if no store was ever written to here.
            let Some(owner) = root.owner()? else { return own() };
            refuse_foreign(owner, ours)?;
            if owner.is_on_any_timeline(&ours) {
                return own();
            }
            // A standby shares the store of its primary, which has the payloads. A server that is restored goes on with the store of one that
            // has ended, maybe by a power failure: then they are in the WAL alone.
            if owner.data_directory == ours.data_directory || !is_standby() {
                return Replay::with(root, May::Add).map(Some);
            }
        }
    }
    let report = error::report(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        "recovery leaves the payload store alone, as another server owns it",
    )
    .set_hint(
        "If this server has a store of its own, or is to go on with that of a server that is no more, set \"rbytea.recovery_store\" to \"own\" and restart \
         it before it is promoted.",
    );
    error::emit(report, PgLogLevel::LOG);
    Ok(None)
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

fn refuse_foreign(found: OwnerId, expected: OwnerId) -> Result<(), Report> {
    if found.system_identifier == expected.system_identifier {
        Ok(())
    } else {
        Err(store::Error::NotOwner { found, expected }.into())
    }
}

impl Replay {
    /// That of a server in archive recovery, which becomes its own for good.
    fn own(setting: RecoveryStore) -> Result<Self, Report> {
        let root = opening::open_unlogged(0, Access::Write)?;
        match root.owner()? {
            Some(owner) => refuse_foreign(owner, root.config().owner)?,
            // The administrator has said so.
            None if setting == RecoveryStore::Own => {}
            // A file system that is not mounted now, or a store that was not copied.
            None => root.check_present()?,
        }
        // In recovery an owner is of any timeline.
        let ours = root.config().owner;
        match root.adopt()? {
            Some(owner) if owner == ours => {}
            previous => {
                let report = error::report(
                    PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                    "recovery has made the payload store this server's own",
                );
                let of = previous.map_or("Nobody".to_owned(), |owner| format!("The server with {owner}"));
                error::emit(report.set_detail(format!("{of} has owned it.")), PgLogLevel::LOG);
            }
        }
        Self::with(root, May::All)
    }

    /// That of a server that has crashed. It had an OWNER before the first payload was logged; another directory in its place must not take
    /// what is in the WAL, which a checkpoint will forget.
    fn after_crash() -> Result<Self, Report> {
        let root = opening::open_unlogged(0, Access::Read)?;
        let ours = root.config().owner;
        let Some(owner) = root.owner()? else {
            let missing = store::Error::StoreMissing { path: root.config().root.clone() };
            return Err(Report::from(missing).set_hint(
                "Check that its file system is mounted, and that \"rbytea.filesystem_storage_path\" is what it was. The documentation says how to \
                 start a server whose store is lost.",
            ));
        };
        refuse_foreign(owner, ours)?;
        // Everybody may write to the store that he uses; moving payloads is for the store's owner.
        let is_ours = owner.data_directory == ours.data_directory || opening::is_in_data_directory();
        Self::with(root, if is_ours { May::All } else { May::Add })
    }

    fn with(root: FileStore, may: May) -> Result<Self, Report> {
        // Before anything is written, so that it sees every write-back error since.
        let handle = root.open_sync()?;
        let (databases, without_room, begun) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { databases, root, handle, dirty: true, without_room, begun, may })
    }

    fn replay(&mut self, record: &Record<'_>, place: Lsn) -> Result<(), Report> {
        let database = record.database;
        match &record.event {
            Event::Put { id, .. } if self.without_room.contains_key(&(database, *id)) => return Ok(()),
            Event::Purge { ids, .. } => {
                for id in ids {
                    self.without_room.remove(&(database, *id));
                }
            }
            // Another database may have the OID when what was dropped is purged.
            Event::Drop { .. } => self.without_room.retain(|(of, _), _| *of != database),
            Event::Clone { source, ids } => {
                let begins = |id| self.without_room.get(&(*source, id)).copied();
                let clones: Vec<_> =
                    ids.iter().filter_map(|id| Some(((database, *id), begins(*id)?))).collect();
                self.without_room.extend(clones);
            }
            _ => {}
        }
        let after_crash = !is_archive_recovery();
        let adds = matches!(record.event, Event::Put { .. } | Event::Restore { .. } | Event::Clone { .. });
        if self.may == May::Add && !adds {
            return Ok(());
        }
        // It was durable before it was logged. Another database may have the OID now, whose directory has nothing to do with this.
        if matches!(record.event, Event::Drop { .. }) && after_crash {
            return Ok(());
        }
        let (begins, first) = match &record.event {
            Event::Put { id, offset, last: true, .. } => {
                self.begun.remove(&(database, *id)).unwrap_or((place, *offset))
            }
            Event::Put { id, offset, .. } if after_crash => {
                *self.begun.entry((database, *id)).or_insert((place, *offset))
            }
            _ => (place, 0),
        };
        let durable = if self.handle.is_some() { Durable::Later } else { Durable::AtOnce };
        self.dirty = true;
        let files = match self.databases.get(&database) {
            Some(files) => files,
            None => {
                if self.databases.len() >= MOST_DATABASES {
                    self.databases.clear();
                }
                let files = opening::open_unlogged(database, Access::Write)?;
                self.databases.entry(database).or_insert(files)
            }
        };
        match (files.replay(&record.event, durable), &record.event) {
            // After a crash the disk has what was written later, too, and this payload may be one that has made room for that.
            (Err(error), Event::Put { id, offset, bytes, .. })
                if error.kind() == Kind::DiskFull && after_crash =>
            {
                // Best effort: what is left of it is garbage, or the error of the end.
                let _ = files.cut_replayed(id, first, *offset, bytes);
                self.without_room.insert((database, *id), begins);
                Ok(())
            }
            (replayed, _) => Ok(replayed?),
        }
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

    /// That no payload is left which begins before this place, and which the disk had no room for.
    fn all_had_room(&mut self, before: Lsn) -> Result<(), Report> {
        let left = self.without_room.values().filter(|place| **place < before).count();
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

/// Whether it goes on replaying until it is promoted. The working directory is the data directory.
fn is_standby() -> bool {
    Path::new("standby.signal").exists()
}

fn in_hot_standby() -> bool {
    // SAFETY: a plain read in the startup process.
    unsafe { pg_sys::standbyState >= pg_sys::HotStandbyState::STANDBY_SNAPSHOT_PENDING }
}
