//! Payloads in the WAL, as recovery and checkpoints see them: the resource manager that replays records, and the keepers that
//! checkpoints wait for. Uses `pg`, `wal` and `session`.

use crate::pg::error::Report;
use crate::session::opening::{self, Access};
use crate::wal::{log, presence};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use rbytea_store::file::fs::Fs;

mod keeper;
mod manager;
mod replay;
mod target;

/// Whether keepers answer for the file system of the store at this moment, so that payloads that are logged are not synced when they are
/// committed.
#[pg_extern]
fn rbytea_has_keepers() -> Result<bool, ErrorReport> {
    let files = match opening::open_unlogged(0, Access::Read) {
        Err(error) if opening::store_never_created(&error).map_err(Report::from)? => return Ok(false),
        files => files.map_err(Report::from)?,
    };
    Ok(presence::is_present(files.fs().identity()))
}

/// Registers the resource manager, without which WAL that has its records cannot be read; only while the server loads
/// `shared_preload_libraries`.
pub fn init_reading() {
    manager::init();
}

/// Lets transactions use it, and registers the keepers.
pub fn init_writing() {
    log::registered();
    keeper::init();
}
