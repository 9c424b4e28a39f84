//! The keepers: two background workers that hold checkpoints back until the payloads that were logged before are durable
//! (docs/PROTOCOL.md, "Payloads in the WAL"). With them a transaction need not sync what it has logged.

use crate::pg::error::{self, Report};
use crate::pg::{background, compat, settings};
use crate::session::opening::{self, Access};
use crate::wal::presence::{self, KEEPERS};
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys};
use rbytea_store::file::fs::Fs;
use rbytea_store::file::os::OsFs;
use rbytea_store::{FileStore, Root};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How the keepers appear in pg_stat_activity.
const KEEPER: &str = "rbytea keeper";
/// The postmaster starts one that has ended again after this pause.
const RESTART: Duration = Duration::from_secs(1);
/// How often a keeper lets go. A checkpoint waits for it, beside its syncfs, at most about twice so long.
const CYCLE: Duration = Duration::from_millis(100);
/// How often it looks whether the root is still the same.
const LOOK: Duration = Duration::from_secs(1);
/// A sync that takes longer is logged, since a checkpoint waits for it.
const LONG: Duration = Duration::from_secs(5);

/// Registers them; only while the server loads `shared_preload_libraries`.
pub fn init() {
    for n in 0..KEEPERS {
        BackgroundWorkerBuilder::new(&format!("{KEEPER} {}", n + 1))
            .set_type(KEEPER)
            .set_library("rbytea")
            .set_function("rbytea_keeper")
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_argument(Some(pg_sys::Datum::from(n)))
            .set_restart_time(Some(RESTART))
            .load();
    }
}

/// The file system that a keeper syncs.
struct Kept {
    path: PathBuf,
    root: Root,
    files: FileStore,
    handle: <OsFs as Fs>::SyncHandle,
}

/// A keeper's state.
struct Keeper {
    n: usize,
    kept: Option<Kept>,
    wait_event: u32,
}

thread_local! {
    /// For the callback at the end of the process.
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    static KEEPER_STATE: RefCell<Option<Keeper>> = const { RefCell::new(None) };
}

/// A keeper's main function. Ends with exit code 1, after which the postmaster starts it again unless it shuts down.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rbytea_keeper(argument: pg_sys::Datum) {
    background::begin_without_database();
    // SAFETY: registered behind the callback that ends the process's transaction, and with it its hold, and so called before that.
    unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::null()) };
    compat::without_transaction_timeout();
    let wait_event = compat::wait_event(c"RbyteaSync");
    let n = argument.value();
    NUMBER.set(Some(n));
    KEEPER_STATE.set(Some(Keeper { n, kept: None, wait_event }));
    let with = |work: &mut dyn FnMut(&mut Keeper)| {
        KEEPER_STATE.with_borrow_mut(|keeper| keeper.as_mut().map(work));
    };
    let mut looked: Option<Instant> = None;
    // Behind which redo pointer everything has been synced.
    let mut behind = 0;
    take_hold();
    presence::hold(n, None);
    loop {
        let reloaded = background::wait(CYCLE);
        if reloaded || looked.is_none_or(|at| at.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            with(&mut |keeper| keeper.look());
        }
        // SAFETY: reads shared memory.
        let redo = || unsafe { pg_sys::GetRedoRecPtr() };
        let before = redo();
        if before != behind {
            with(&mut |keeper| keeper.sync());
            behind = before;
        }
        if presence::may_let_go(n) && redo() == behind {
            let_go();
            take_hold();
        }
        with(&mut |keeper| presence::hold(n, keeper.kept.as_ref().map(|kept| kept.root)));
    }
}

/// Holds checkpoints back under a new virtual transaction. It has no snapshot, so it holds nothing else back.
fn take_hold() {
    // SAFETY: the process is in no transaction; its entry is its own.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        (*pg_sys::MyProc).delayChkptFlags |= pg_sys::DELAY_CHKPT_COMPLETE as i32;
    }
}

/// The end of the virtual transaction is what a checkpoint waits for.
fn let_go() {
    // SAFETY: ends what take_hold() has begun.
    unsafe { pg_sys::CommitTransactionCommand() };
}

/// However the process ends: says so, syncs, and only then lets go. Called before its transaction is ended.
#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: an error may have left locks behind, which the transaction's end would release too late.
    unsafe { pg_sys::LWLockReleaseAll() };
    let Some(n) = NUMBER.take() else { return };
    presence::end(n);
    match KEEPER_STATE.with(|state| state.try_borrow_mut().ok().map(|mut state| state.take())) {
        Some(Some(keeper)) => keeper.sync_all(),
        Some(None) => {}
        // It ends in the middle of its work, and has nothing left to sync with.
        None => error::emit(error::internal("a keeper ended while it was syncing"), PgLogLevel::PANIC),
    }
    presence::gone(n);
}

impl Keeper {
    /// Whether the root that the settings name is still the one that this keeper answers for. If not it ends, and begins again.
    fn look(&mut self) {
        let path = settings::filesystem_storage_path();
        // Opened anew each time: what the path leads to may have been exchanged.
        let now = Kept::open(path);
        let is_same = match (&self.kept, &now) {
            (Some(before), Some(now)) => before.path == now.path && before.root == now.root,
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        presence::end(self.n);
        self.sync_all();
        self.kept = now;
    }

    /// Makes durable what was logged before, unless nothing was since the last time.
    fn sync(&self) {
        let Some(kept) = &self.kept else { return };
        let puts = presence::puts();
        if !presence::is_durable(kept.root, puts) {
            self.sync_all();
            presence::set_durable(kept.root, puts);
        }
    }

    /// Makes everything durable. Whatever was logged before the keepers were said to be gone may rely on it.
    fn sync_all(&self) {
        let Some(kept) = &self.kept else { return };
        let begun = Instant::now();
        report_wait(self.wait_event);
        let synced = kept.files.sync_all(&kept.handle);
        report_wait(0);
        if let Err(error) = synced {
            // As PostgreSQL's own (data_sync_retry): recovery writes the files again.
            let report = Report::from(error).set_detail(
                "Payloads that are in the WAL may be lost from the file system; recovery writes them again.",
            );
            error::emit(report, PgLogLevel::PANIC);
        }
        report_long(begun.elapsed());
    }
}

impl Kept {
    /// None where nothing is logged, there is no store, or no syncfs that can be trusted, or nothing is synced at all: payloads are synced by
    /// their transactions then.
    fn open(path: PathBuf) -> Option<Self> {
        if settings::wal_payload_limit() == settings::Limit::None {
            return None;
        }
        let files = opening::open_unlogged(0, Access::Read).ok()?;
        // Opened before anybody relies on it, so that it sees every write-back error since.
        let handle = files.open_sync().ok()??;
        Some(Self { path, root: files.fs().identity(), files, handle })
    }
}

fn report_wait(event: u32) {
    // SAFETY: as pgstat_report_wait_start() does it: the pointer is to this process's entry, or to a variable of its own.
    unsafe { pg_sys::my_wait_event_info.write_volatile(event) };
}

fn report_long(took: Duration) {
    if took >= LONG {
        let report = error::report(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("rbytea synced the file system of the payload store in {:.3} s", took.as_secs_f64()),
        )
        .set_detail("A checkpoint waits for it.");
        error::emit(report, PgLogLevel::LOG);
    }
}
