//! Payloads in the WAL, as recovery and checkpoints see them: the resource manager that replays records, and the keepers that
//! checkpoints wait for. Uses `pg`, `wal` and `session`.

mod keeper;
mod manager;
mod replay;

/// Registers both; only while the server loads `shared_preload_libraries`.
pub fn init() {
    manager::init();
    keeper::init();
}
