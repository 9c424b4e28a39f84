//! What a worker tells the launcher: one number in shared memory, which exists only where the library is preloaded.

use pgrx::{PgAtomic, pg_guard, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How a worker has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not said.
    Unknown = 0,
    /// The database does not have the extension.
    NoExtension = 1,
    /// The store belongs to another cluster.
    NotOwner = 2,
}

// SAFETY: no other library asks for shared memory of this name.
static LAST: PgAtomic<AtomicU32> = unsafe { PgAtomic::new(c"rbytea vacuum outcome") };
/// Whether LAST can be used: forked processes know it from the postmaster.
static THERE: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory; only while the server loads `shared_preload_libraries`.
#[allow(unexpected_cfgs, reason = "the macro asks for majors that this crate does not support")]
pub fn init() {
    pg_shmem_init!(LAST = AtomicU32::new(0));
    THERE.store(true, Ordering::Relaxed);
}

/// Tells the launcher.
pub fn set(outcome: Outcome) {
    if THERE.load(Ordering::Relaxed) {
        LAST.get().store(outcome as u32, Ordering::Relaxed);
    }
}

/// What the last worker told.
pub fn get() -> Outcome {
    let told = if THERE.load(Ordering::Relaxed) { LAST.get().load(Ordering::Relaxed) } else { 0 };
    [Outcome::NoExtension, Outcome::NotOwner]
        .into_iter()
        .find(|&outcome| outcome as u32 == told)
        .unwrap_or(Outcome::Unknown)
}
