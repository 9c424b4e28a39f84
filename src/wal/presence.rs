//! What keepers, writers and each other know of the keepers, in shared memory: who holds checkpoints back, and for which file
//! system. docs/PROTOCOL.md says why it is enough.

use pgrx::{PGRXSharedMemory, PgAtomic, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use rbytea_store::Root;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Two keepers, so that one holds while the other one lets go.
pub const KEEPERS: usize = 2;

/// A keeper.
#[derive(Clone, Copy)]
struct Keeper {
    /// It holds checkpoints back, and is not about to let go.
    holds: bool,
    /// For what it answers.
    root: Option<Root>,
}

const NOBODY: Keeper = Keeper { holds: false, root: None };

/// Both.
struct State {
    keepers: [Keeper; KEEPERS],
    /// What writers may rely on.
    present: Option<Root>,
    /// PUTs that were counted before a sync that has ended since.
    durable: u64,
}

// SAFETY: plain data, without pointers, valid in every process.
unsafe impl PGRXSharedMemory for State {}

/// Number of PUTs, each counted when its bytes are written, and before its writer looks for keepers.
struct Puts(AtomicU64);

// SAFETY: an atomic, without pointers, valid in every process.
unsafe impl PGRXSharedMemory for Puts {}

// SAFETY: no other library asks for shared memory of these names.
static STATE: PgLwLock<State> = unsafe { PgLwLock::new(c"rbytea keepers") };
// SAFETY: likewise.
static PUTS: PgAtomic<Puts> = unsafe { PgAtomic::new(c"rbytea logged payloads") };
/// Whether they can be used: forked processes inherit them from the postmaster.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Asks for the shared memory; only while the server loads `shared_preload_libraries`.
#[allow(unexpected_cfgs, reason = "the macro asks for majors that this crate does not support")]
pub fn init() {
    pg_shmem_init!(STATE = State { keepers: [NOBODY; KEEPERS], present: None, durable: 0 });
    pg_shmem_init!(PUTS = Puts(AtomicU64::new(0)));
    AVAILABLE.store(true, Relaxed);
}

/// Whether keepers answer for a root at this moment.
pub fn is_present(root: Root) -> bool {
    AVAILABLE.load(Relaxed) && STATE.share().present == Some(root)
}

/// Bytes of a payload are written. Whoever counts them looks for keepers behind that.
pub fn count_put() {
    if AVAILABLE.load(Relaxed) {
        PUTS.get().0.fetch_add(1, SeqCst);
    }
}

/// PUTs that were counted since the server has started. What a sync that begins from now on makes durable has all their files.
pub fn puts() -> u64 {
    if AVAILABLE.load(Relaxed) { PUTS.get().0.load(SeqCst) } else { 0 }
}

/// Keeper `n` holds, and answers for this root. Where both do, they are present.
pub fn hold(n: usize, root: Option<Root>) {
    let mut state = STATE.exclusive();
    state.keepers[n] = Keeper { holds: true, root };
    let both = state.keepers.iter().all(|keeper| keeper.holds && keeper.root == root);
    if state.present != root {
        // What another one has made durable counts from here on.
        state.present = root.filter(|_| both);
        state.durable = 0;
    }
}

/// Keeper `n` will answer for nothing that is logged from now on. It holds until it has synced what was logged before.
pub fn end(n: usize) {
    let mut state = STATE.exclusive();
    state.keepers[n].root = None;
    state.present = None;
}

/// Keeper `n` is gone.
pub fn gone(n: usize) {
    STATE.exclusive().keepers[n] = NOBODY;
}

/// Whether keeper `n` may let go: the other one holds and will not let go before this one holds again. The caller looks at the redo
/// pointer after this, and takes back what it was allowed with [`hold`].
pub fn may_let_go(n: usize) -> bool {
    let mut state = STATE.exclusive();
    let other_holds = state.keepers[1 - n].holds;
    let may = state.present.is_none() || other_holds;
    state.keepers[n].holds = !may;
    may
}

/// Whether both keepers have made these PUTs durable, or one of them for the other.
pub fn is_durable(root: Root, puts: u64) -> bool {
    let state = STATE.share();
    state.present == Some(root) && state.durable >= puts
}

/// A keeper has made these PUTs durable.
pub fn set_durable(root: Root, puts: u64) {
    let mut state = STATE.exclusive();
    if state.present == Some(root) {
        state.durable = state.durable.max(puts);
    }
}
