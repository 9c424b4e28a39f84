//! What a running vacuum is doing: in the server's own progress slots, which need no shared memory of ours, and, in a
//! background worker, in pg_stat_activity.

use crate::pg::rows::{RawResult, Rows};
use crate::pg::{catalog, compat};
use pgrx::{IntoDatum, pg_extern, pg_sys};
use std::cell::Cell;
use std::ffi::CString;

/// A command that the server's own progress views do not know.
const COMMAND: pg_sys::ProgressCommandType::Type = 0x7262;

/// Another one, for rbytea_reencrypt().
const REENCRYPTION: pg_sys::ProgressCommandType::Type = 0x7263;

/// And for transactions that store payloads.
pub const STORING: pg_sys::ProgressCommandType::Type = 0x7264;

/// The command that this backend shows.
pub fn own_command() -> pg_sys::ProgressCommandType::Type {
    // SAFETY: the backend's own status, which no other process writes to; there is none before the backend is registered.
    unsafe {
        pg_sys::MyBEEntry
            .as_ref()
            .map_or(pg_sys::ProgressCommandType::PROGRESS_COMMAND_INVALID, |own| own.st_progress_command)
    }
}

/// Which number is in which slot.
#[derive(Clone, Copy)]
enum Slot {
    Phase,
    RelationsTotal,
    RelationsDone,
    Relation,
    Tuples,
    Directories,
    Files,
    Moved,
    Purged,
}

/// The phase of a run.
#[derive(Clone, Copy)]
pub enum Phase {
    /// Finding and locking the relations.
    Locking = 1,
    /// Scanning them.
    Marking,
    /// Listing the store.
    Sweeping,
    /// Moving files.
    Moving,
    /// Deleting files from TRASH.
    Purging,
    /// Giving files to a database that was made from a template.
    Cloning,
}

const PHASES: [&str; 6] =
    ["locking relations", "marking", "listing the store", "moving files", "purging TRASH", "cloning files"];

/// The progress of a run; ends when it is dropped.
pub struct Progress(());

impl Progress {
    /// Of a run that begins.
    pub fn begin() -> Self {
        begin();
        Self(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // The abort of a transaction ends it too, and unwinding leads there.
        if !std::thread::panicking() {
            // SAFETY: writes the backend's own status.
            unsafe { pg_sys::pgstat_progress_end_command() }
        }
    }
}

fn begin() {
    // SAFETY: writes the backend's own status.
    unsafe { pg_sys::pgstat_progress_start_command(COMMAND, pg_sys::InvalidOid) }
}

fn set(slot: Slot, value: i64) {
    // SAFETY: writes the backend's own status; there are twenty slots.
    unsafe { pg_sys::pgstat_progress_update_param(slot as i32, value) }
}

/// A phase begins. The subtransactions of a mark that failed have ended what was shown.
pub fn phase(phase: Phase) {
    if matches!(phase, Phase::Locking) {
        begin();
    }
    set(Slot::Phase, phase as i64);
    activity(PHASES.get(phase as usize - 1).copied().unwrap_or_default());
}

/// The number of relations to be scanned.
pub fn relations(total: usize) {
    set(Slot::RelationsTotal, total as i64);
    set(Slot::RelationsDone, 0);
}

/// A relation is being scanned, after `done` others.
pub fn relation(relid: pg_sys::Oid, done: usize) {
    set(Slot::RelationsDone, done as i64);
    set(Slot::Relation, relid.to_u32().into());
    if is_worker() {
        activity(&format!("marking {}", catalog::relation_name(relid).unwrap_or_default()));
    }
}

/// Tuples looked at so far.
pub fn tuples(tuples: u64) {
    set(Slot::Tuples, tuples as i64);
}

/// Directories and files listed so far.
pub fn listed(directories: u64, files: u64) {
    set(Slot::Directories, directories as i64);
    set(Slot::Files, files as i64);
}

/// Files that a database has been given so far.
pub fn cloned(files: u64) {
    set(Slot::Files, files as i64);
}

/// Files moved so far.
pub fn moved(files: u64) {
    set(Slot::Moved, files as i64);
}

/// Files deleted so far.
pub fn purged(files: u64) {
    set(Slot::Purged, files as i64);
}

fn is_worker() -> bool {
    // SAFETY: a plain read; set once when a background worker starts.
    unsafe { !pg_sys::MyBgworkerEntry.is_null() }
}

/// Shows a background worker's doing where a client's query would be.
pub fn activity(text: &str) {
    if is_worker()
        && let Ok(text) = CString::new(format!("rbytea vacuum: {text}"))
    {
        // SAFETY: copies the text into the backend's own status.
        unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) }
    }
}

/// Which number of a re-encryption is in which slot.
#[derive(Clone, Copy)]
enum Part {
    Relation,
    BlocksTotal,
    BlocksDone,
    Payloads,
}

/// The progress of rbytea_reencrypt(); ends when it is dropped, and with the transaction if that fails.
pub struct Reencryption {
    /// Payloads of the batches that are committed.
    committed: Cell<u64>,
}

impl Reencryption {
    /// Of a call.
    pub fn begin() -> Self {
        // SAFETY: writes the backend's own status.
        unsafe { pg_sys::pgstat_progress_start_command(REENCRYPTION, pg_sys::InvalidOid) }
        Self { committed: Cell::new(0) }
    }

    /// A table of so many blocks is next, or goes on.
    pub fn table(&self, relid: pg_sys::Oid, blocks: u32) {
        Self::set(Part::Relation, relid.to_u32().into());
        Self::set(Part::BlocksTotal, blocks.into());
    }

    /// The batch is at this block and has so many payloads.
    pub fn done(&self, block: u32, payloads: u64) {
        Self::set(Part::BlocksDone, block.into());
        Self::set(Part::Payloads, (self.committed.get() + payloads) as i64);
    }

    /// A batch has ended.
    pub fn batch(&self, payloads: u64) {
        self.committed.set(self.committed.get() + payloads);
    }

    fn set(part: Part, value: i64) {
        // SAFETY: writes the backend's own status; there are twenty slots.
        unsafe { pg_sys::pgstat_progress_update_param(part as i32, value) }
    }
}

impl Drop for Reencryption {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: writes the backend's own status.
            unsafe { pg_sys::pgstat_progress_end_command() }
        }
    }
}

/// The status of all backends that are at this command.
pub fn statuses(command: pg_sys::ProgressCommandType::Type) -> impl Iterator<Item = pg_sys::PgBackendStatus> {
    // SAFETY: makes this backend's copy of all backends' status.
    let backends = unsafe { pg_sys::pgstat_fetch_stat_numbackends() };
    (1..=backends)
        .filter_map(compat::backend_status)
        .filter(move |status| status.st_procpid > 0 && status.st_progress_command == command)
}

fn relation_in(slot: i64) -> Option<pg_sys::Oid> {
    u32::try_from(slot).ok().filter(|&relation| relation != 0).map(pg_sys::Oid::from)
}

/// The re-encryptions that are going on in this cluster, a row for each.
#[pg_extern]
fn rbytea_reencrypt_progress(fcinfo: pg_sys::FunctionCallInfo) -> RawResult {
    // SAFETY: fcinfo is the call at hand, of a set-returning function.
    let mut rows = unsafe { Rows::begin(fcinfo) };
    for status in statuses(REENCRYPTION) {
        let number = |part: Part| status.st_progress_param.get(part as usize).copied().unwrap_or(0);
        rows.put([
            status.st_procpid.into_datum(),
            status.st_databaseid.into_datum(),
            relation_in(number(Part::Relation)).into_datum(),
            number(Part::BlocksTotal).into_datum(),
            number(Part::BlocksDone).into_datum(),
            number(Part::Payloads).into_datum(),
        ]);
    }
    RawResult(None)
}

/// The runs of the vacuum that are going on in this cluster, a row for each.
#[pg_extern]
fn rbytea_vacuum_progress(fcinfo: pg_sys::FunctionCallInfo) -> RawResult {
    // SAFETY: fcinfo is the call at hand, of a set-returning function.
    let mut rows = unsafe { Rows::begin(fcinfo) };
    for status in statuses(COMMAND) {
        let number = |slot: Slot| status.st_progress_param.get(slot as usize).copied().unwrap_or(0);
        let phase = usize::try_from(number(Slot::Phase) - 1).ok().and_then(|phase| PHASES.get(phase));
        rows.put([
            status.st_procpid.into_datum(),
            status.st_databaseid.into_datum(),
            phase.copied().unwrap_or("starting").into_datum(),
            number(Slot::RelationsTotal).into_datum(),
            number(Slot::RelationsDone).into_datum(),
            relation_in(number(Slot::Relation)).into_datum(),
            number(Slot::Tuples).into_datum(),
            number(Slot::Directories).into_datum(),
            number(Slot::Files).into_datum(),
            number(Slot::Moved).into_datum(),
            number(Slot::Purged).into_datum(),
        ]);
    }
    RawResult(None)
}
