//! What processes share: how the last worker ended, and which databases have sessions with cursors WITH HOLD. In
//! shared memory, which exists only where the library is preloaded; elsewhere every answer is "unknown" or "none".

use pgrx::{PGRXSharedMemory, PgAtomic, pg_guard, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

/// Number of counts. Databases whose OIDs are congruent share one, so a purge may wait in vain, and never goes on in
/// error.
const COUNTS: usize = 256;

/// The numbers.
struct Shared {
    /// How the last worker has ended.
    outcome: AtomicU32,
    /// Sessions with cursors WITH HOLD that may hold references, by database.
    cursors: [AtomicU32; COUNTS],
}

// SAFETY: atomics, without pointers, valid in every process.
unsafe impl PGRXSharedMemory for Shared {}

// SAFETY: no other library asks for shared memory of this name.
static SHARED: PgAtomic<Shared> = unsafe { PgAtomic::new(c"rbytea") };
/// Whether SHARED can be used: forked processes inherit it from the postmaster.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory; only while the server loads `shared_preload_libraries`.
#[allow(unexpected_cfgs, reason = "the macro asks for majors that this crate does not support")]
pub fn init() {
    pg_shmem_init!(
        SHARED = Shared { outcome: AtomicU32::new(0), cursors: [const { AtomicU32::new(0) }; COUNTS] }
    );
    AVAILABLE.store(true, Relaxed);
}

fn shared() -> Option<&'static Shared> {
    AVAILABLE.load(Relaxed).then(|| SHARED.get())
}

/// How a worker has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The worker has reported nothing.
    Unknown = 0,
    /// The database does not have the extension.
    NoExtension = 1,
    /// The store belongs to another cluster.
    NotOwner = 2,
    /// A transaction that has run the vacuum has not ended.
    LockedOut = 3,
}

/// Reports to the launcher.
pub fn set_outcome(outcome: Outcome) {
    if let Some(shared) = shared() {
        shared.outcome.store(outcome as u32, Relaxed);
    }
}

/// What the last worker reported.
pub fn outcome() -> Outcome {
    let reported = shared().map_or(0, |shared| shared.outcome.load(Relaxed));
    [Outcome::NoExtension, Outcome::NotOwner, Outcome::LockedOut]
        .into_iter()
        .find(|&outcome| outcome as u32 == reported)
        .unwrap_or(Outcome::Unknown)
}

/// The count of this database.
fn cursors() -> Option<&'static AtomicU32> {
    // SAFETY: a plain read; set when the backend starts.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32() as usize;
    shared()?.cursors.get(database % COUNTS)
}

/// Counts this session among those with cursors, or not any more. The caller pairs the calls.
pub fn count_cursors(has: bool) {
    if let Some(count) = cursors() {
        if has {
            count.fetch_add(1, SeqCst)
        } else {
            count.fetch_sub(1, SeqCst)
        };
    }
}

/// Whether some session of this database has cursors.
pub fn any_cursors() -> bool {
    cursors().is_some_and(|count| count.load(SeqCst) > 0)
}
