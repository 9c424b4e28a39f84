//! What a test has shown of a guarantee, for the table in docs/EVIDENCE.md (`make evidence`): each test that proves
//! one reports how many cases it ran and what it found in them. Without RBYTEA_EVIDENCE nothing is written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::{env, fs, thread};

/// The guarantees of docs/GUARANTEES.md, in its order.
#[derive(Clone, Copy, Debug)]
pub enum Promise {
    /// A committed or prepared row's payload survives any crash (I1).
    Durable,
    /// Input, output and casts have no side effect (I2).
    Pure,
    /// The bytes of a stored payload never change (I4).
    Immutable,
    /// Only garbage leaves its place, and only the vacuum deletes (I5, I6, I8).
    OnlyGarbage,
    /// A file in TRASH can be read, and comes back when it is stored again (I7).
    TrashIsReadable,
    /// What no row needs is collected in the end.
    Collected,
    /// A failure loses nothing: not of the disk, not of the file system, not of a run of the vacuum (I10).
    ErrorsLoseNothing,
    /// Only the owner vacuums; another cluster cannot write (I9).
    OneOwner,
    /// Damage is noticed when it is read, and `rbytea_check()` finds it.
    DamageIsNoticed,
    /// No bytes that a user can pass make a reference, and no bad input does harm.
    BadInput,
    /// A value behaves as `bytea` does.
    LikeBytea,
    /// Dumps, backups, upgrades and recovery bring back every payload.
    Backups,
    /// Standbys and subscribers have every payload.
    Replication,
    /// Databases made from a template and dropped ones take nothing from each other.
    Databases,
}

impl Promise {
    /// All of them, each in a few words.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Durable, "A committed or prepared row's payload survives every crash"),
        (Self::Pure, "Input, output and casts have no side effect"),
        (Self::Immutable, "The bytes of a stored payload never change"),
        (Self::OnlyGarbage, "Only garbage leaves its place, and only the vacuum deletes"),
        (Self::TrashIsReadable, "A file in TRASH can be read, and comes back when it is stored again"),
        (Self::Collected, "What no row needs is collected in the end"),
        (Self::ErrorsLoseNothing, "An error loses nothing"),
        (Self::OneOwner, "Only the owner vacuums; another cluster cannot write"),
        (Self::DamageIsNoticed, "Damage is noticed"),
        (Self::BadInput, "No bytes that a user can pass make a reference, and no bad input does harm"),
        (Self::LikeBytea, "A value behaves as bytea does"),
        (Self::Backups, "Dumps, backups, upgrades and recovery bring back every payload"),
        (Self::Replication, "Standbys and subscribers have every payload"),
        (Self::Databases, "Databases made from a template, and dropped ones, take nothing from each other"),
    ];
}

/// What a test found in its cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Crashes, faults, values, statements: whatever the test counts. Never more than were really judged.
    pub cases: u64,
    /// Acknowledged payloads that do not read back as they were stored.
    pub lost: u64,
    /// References whose file is nowhere.
    pub dangling: u64,
    /// Files that no row needs and that the vacuum leaves behind for ever.
    pub leaked: u64,
}

/// Reports what this test found and fails if it found anything, or nothing to judge.
#[track_caller]
pub fn proves(promise: Promise, found: Found) {
    let test = thread::current().name().unwrap_or("main").to_owned();
    if let Some(dir) = env::var_os("RBYTEA_EVIDENCE") {
        let Found { cases, lost, dangling, leaked } = found;
        let binary = binary();
        let line = serde_json::json!({
            "promise": format!("{promise:?}"), "binary": binary, "test": test,
            "cases": cases, "lost": lost, "dangling": dangling, "leaked": leaked,
        });
        let file = format!("{binary}-{}-{promise:?}.json", test.replace("::", "."));
        fs::write(Path::new(&dir).join(file), format!("{line}\n")).unwrap();
    }
    assert!(found.cases > 0, "{test} has judged nothing");
    assert_eq!((found.lost, found.dangling, found.leaked), (0, 0, 0), "lost, dangling, leaked: {found:?}");
}

/// The name of the test binary that is running, without the hash that cargo appends.
fn binary() -> String {
    let path = env::current_exe().unwrap();
    let name = path.file_stem().unwrap().to_string_lossy();
    name.rsplit_once('-').map_or(&*name, |(name, _)| name).to_owned()
}

/// The same for a test whose own assertions have already judged each case.
#[track_caller]
pub fn proves_by_assertions(promise: Promise, cases: u64) {
    proves(promise, Found { cases, ..Found::default() });
}
