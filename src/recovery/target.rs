//! Into which store recovery writes, and what it may do to that: a store may be another server's, or its owner may be at work.

use crate::pg::error::{self, Report};
use crate::pg::settings::RecoveryStore;
use crate::session::opening::{self, Access};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use rbytea_store as store;
use rbytea_store::{Backend, FileStore, OwnerId};
use std::path::Path;

/// What recovery may do to a store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Everything: it is this server's own.
    All,
    /// Only add payloads: another server may use it now. That is so if this data directory is a copy, or the one that the store's owner
    /// was copied from.
    Add,
}

/// A store to write to.
pub struct Target {
    /// For what is about all of it.
    pub root: FileStore,
    /// What may be replayed.
    pub may: May,
}

/// The store of a server in archive recovery, if it is its own.
pub fn of_archive(setting: RecoveryStore) -> Result<Option<Target>, Report> {
    let adopted = || own(setting).map(Some);
    match setting {
        RecoveryStore::Own => return adopted(),
        RecoveryStore::Auto if opening::is_in_data_directory() => return adopted(),
        RecoveryStore::Shared => {}
        RecoveryStore::Auto => {
            let root = opening::open_unlogged(0, Access::Read)?;
            let ours = root.config().owner;
            // Nobody's, if no store was ever written to here.
            let Some(owner) = root.owner()? else { return adopted() };
            refuse_foreign(owner, ours)?;
            if owner.is_on_any_timeline(&ours) {
                return adopted();
            }
            // A standby shares the store of its primary, which has the payloads. A server that is restored goes on with the store of one that
            // has ended, maybe by a power failure: then they are in the WAL alone.
            if owner.data_directory == ours.data_directory || !is_standby() {
                return Ok(Some(Target { root, may: May::Add }));
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

/// That of a server in archive recovery, which becomes its own for good.
fn own(setting: RecoveryStore) -> Result<Target, Report> {
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
    Ok(Target { root, may: May::All })
}

/// That of a server that has crashed. It had an OWNER before the first payload was logged; another directory in its place must not take
/// what is in the WAL, which a checkpoint will forget.
pub fn after_crash() -> Result<Target, Report> {
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
    Ok(Target { root, may: if is_ours { May::All } else { May::Add } })
}

fn refuse_foreign(found: OwnerId, expected: OwnerId) -> Result<(), Report> {
    if found.system_identifier == expected.system_identifier {
        Ok(())
    } else {
        Err(store::Error::NotOwner { found, expected }.into())
    }
}

/// Whether this server replays an archive, or what a primary streams, rather than its own WAL after a crash.
pub fn is_archive_recovery() -> bool {
    // SAFETY: a plain read in the startup process.
    unsafe { pg_sys::ArchiveRecoveryRequested }
}

/// Whether it goes on replaying until it is promoted. The working directory is the data directory.
fn is_standby() -> bool {
    Path::new("standby.signal").exists()
}
