//! The uses of the store, each as one scenario: a setup, and an action during which an operation fails or the machine
//! crashes. The same process can repeat an action.

mod actions;
mod setup;

use super::world::{Session, World};
use actions::*;
use rbytea_memfs::MemFs;
use rbytea_store::Result;
use setup::*;

pub struct Scenario {
    pub name: &'static str,
    pub fs: fn() -> MemFs,
    pub setup: fn(&mut World),
    pub action: fn(&mut World, &mut Session) -> Result<()>,
    /// Whether its transactions write payloads, which a client may commit after an error that it has caught.
    pub writes: bool,
}

fn plain() -> MemFs {
    MemFs::new()
}

fn no_syncfs() -> MemFs {
    MemFs::new().without_syncfs()
}

fn no_links() -> MemFs {
    MemFs::new().without_links()
}

fn no_links_no_syncfs() -> MemFs {
    MemFs::new().without_links().without_syncfs()
}

const fn scenario(
    name: &'static str,
    fs: fn() -> MemFs,
    setup: fn(&mut World),
    action: fn(&mut World, &mut Session) -> Result<()>,
) -> Scenario {
    Scenario { name, fs, setup, action, writes: false }
}

const fn transaction(
    name: &'static str,
    fs: fn() -> MemFs,
    setup: fn(&mut World),
    action: fn(&mut World, &mut Session) -> Result<()>,
) -> Scenario {
    Scenario { writes: true, ..scenario(name, fs, setup, action) }
}

/// Transactions that write.
pub const WRITES: [Scenario; 15] = [
    transaction("the first insert", plain, nothing, insert_one),
    transaction("the first insert, without syncfs", no_syncfs, nothing, insert_one),
    transaction("an insert", plain, some_rows, insert_one),
    transaction("an insert of several pieces", plain, nothing, insert_big),
    transaction("inserts in several directories", plain, some_rows, insert_several),
    transaction("a bulk insert", plain, some_rows, insert_many),
    transaction("a bulk insert without syncfs", no_syncfs, nothing, insert_many),
    transaction("an encrypted insert", plain, some_rows, insert_encrypted),
    transaction("a rollback", plain, some_rows, roll_back),
    transaction("a payload kept over a rollback", plain, nothing, keep_over_rollback),
    transaction("an abandoned payload", plain, some_rows, abandon),
    transaction("transactions side by side", no_syncfs, nothing, side_by_side),
    transaction("prepared transactions", plain, some_rows, prepare),
    transaction("one transaction after the other", no_syncfs, nothing, one_after_the_other),
    transaction("an insert where all was removed", no_syncfs, nothing, insert_where_all_was_removed),
];

/// Runs of the vacuum.
pub const VACUUMS: [Scenario; 8] = [
    scenario("vacuum", plain, garbage, sweep),
    scenario("vacuum of many directories", plain, much_garbage, sweep),
    scenario("vacuum of many directories without syncfs", no_syncfs, much_garbage, sweep),
    scenario("vacuum beside an insert", no_syncfs, garbage, sweep_and_insert),
    scenario("purge", plain, garbage_in_trash, purge),
    scenario("purge of what is stored again", plain, garbage_in_trash, purge_what_is_stored_again),
    scenario("purge of a file with two names", plain, two_files_of_a_name, sweep_and_purge),
    scenario("vacuum of a file with two links", plain, two_links_of_a_file, sweep_and_purge),
];

/// Restores from TRASH.
pub const RESTORES: [Scenario; 3] = [
    scenario("a value from TRASH is stored", plain, garbage_in_trash, store_from_trash),
    scenario("a value from TRASH is stored, without syncfs", no_syncfs, garbage_in_trash, store_from_trash),
    scenario("the sweep brings marked files back", no_syncfs, rows_in_trash, sweep_and_purge),
];

/// Databases that are made from others, and dropped.
pub const DATABASES: [Scenario; 8] = [
    scenario("create database", plain, rows_in_trash, create_database),
    scenario("create database without syncfs", no_syncfs, rows_in_trash, create_database),
    scenario("create database without links", no_links, rows_in_trash, create_database),
    scenario("create database without links and syncfs", no_links_no_syncfs, rows_in_trash, create_database),
    scenario("the files of a template, later", plain, half_a_clone, clone_from),
    scenario("drop database", plain, dropped, collect),
    scenario("purge of a dropped database", plain, dropped_and_trashed, purge_dropped),
    scenario("an OID that is used again", plain, dropped, create_database),
];

/// The first write, which makes the cluster the owner, and an adoption by another one.
pub const CLAIM: [Scenario; 1] = [scenario("a claim", plain, nothing, insert_one)];
pub const ADOPTION: [Scenario; 1] = [scenario("an adoption", plain, some_rows, adopt)];
