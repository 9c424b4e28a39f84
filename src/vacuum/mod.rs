//! The vacuum: mark, then move to TRASH what nothing refers to. One run is one transaction of one database.

pub mod plan;

mod history;
mod holders;
mod rows;
mod sweep;

use crate::catalog::Extension;
use crate::datum::RawResult;
use crate::horizon::RunSnapshot;
use crate::mark::{self, Mark};
use crate::xact::Access;
use crate::{compat, error, xact};
use history::Run;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_extern, pg_sys};
use rows::Rows;
use sweep::{Carry, Plan, Show, Sweep};

/// One run: moves payload files that no tuple refers to into TRASH, and back what a tuple does refer to. Returns the row
/// that the SQL function rvacuum() adds to the history.
#[pg_extern]
fn rbytea_vacuum_run(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: the first two look at the server's and the transaction's state and raise an ERROR where writing is not
    // allowed. fcinfo is the call at hand, of a set-returning function in the extension's schema.
    let (extension, mut result) = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rvacuum()".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"rvacuum()".as_ptr());
        (Extension::of_call(fcinfo), Rows::begin(fcinfo))
    };
    let started = pgrx::datum::clock_timestamp();
    xact::with_store(Access::Write, |store| Ok(store.check_owner()?))?;
    refuse_if_unsafe()?;
    history::lock(&extension)?;
    let snapshot = RunSnapshot::take();
    let mut mark = mark::mark(&extension, &snapshot)?;
    let lsn = flush_wal();
    let mut plan = Plan::default();
    let swept = sweep(snapshot.upper(), &mut mark, &mut plan)?;
    let mut carry = Carry::new();
    if !plan.carry_out(&mut carry)? {
        mark.keys.rewind();
        sweep::whole_store(snapshot.upper(), &mut mark.keys, &mut carry)?;
    }
    let (trashed, restored, bytes) = carry.finish()?;
    let run = Run {
        lsn,
        upper: snapshot.upper(),
        relations: swept.relations,
        tuples: swept.tuples,
        files: swept.files,
        trashed,
        restored,
        bytes,
    };
    holders::notice(&swept.held)?;
    result.put(run.row(started));
    Ok(RawResult(None))
}

/// The plan that rvacuum() would carry out now, a row per file. Moves nothing, so it needs no lock.
#[pg_extern]
fn rvacuum_plan(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema.
    let (extension, result) = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rvacuum_plan()".as_ptr());
        (Extension::of_call(fcinfo), Rows::begin(fcinfo))
    };
    refuse_if_unsafe()?;
    let snapshot = RunSnapshot::take();
    let mut mark = mark::mark(&extension, &snapshot)?;
    let swept = sweep(snapshot.upper(), &mut mark, &mut Show::new(result))?;
    holders::notice(&swept.held)?;
    Ok(RawResult(None))
}

/// Makes this cluster the owner of the store; returns what OWNER said before.
#[pg_extern]
fn rbytea_adopt_store() -> Result<Option<String>, ErrorReport> {
    // SAFETY: looks at the server's state and raises an ERROR in recovery: a standby has no timeline to write down.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"rbytea_adopt_store()".as_ptr()) };
    let previous = xact::with_store(Access::Write, |store| Ok(store.adopt()?))?;
    Ok(previous
        .map(|owner| format!("system identifier {}, timeline {}", owner.system_identifier, owner.timeline)))
}

/// Refuses to mark where tuples may vanish, or come back, behind the mark's back.
fn refuse_if_unsafe() -> Result<(), ErrorReport> {
    if compat::snapshots_expire() {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the vacuum cannot run while old_snapshot_threshold is set",
        )
        .set_detail("The server may remove rows that a snapshot still sees, and with them the last reference to a file.")
        .set_hint("Set old_snapshot_threshold to -1 and restart the server."));
    }
    // SAFETY: reads the transaction's state.
    if unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "the vacuum cannot run in a transaction that has already written",
        )
        .set_detail(
            "A table that this transaction has truncated, dropped or rewritten comes back if it rolls back.",
        )
        .set_hint("Commit first."));
    }
    Ok(())
}

/// What a sweep tells about itself.
struct Swept {
    relations: u64,
    tuples: u64,
    files: u64,
    held: holders::Held,
}

/// Judges the whole store below `upper` and hands every move to `act`.
fn sweep(upper: u64, mark: &mut Mark, act: &mut dyn sweep::Act) -> Result<Swept, ErrorReport> {
    let Sweep { files, young, lost } = sweep::whole_store(upper, &mut mark.keys, act)?;
    if lost > 0 {
        let report = error::report(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{lost} payloads that rows refer to are neither in the store nor in TRASH"),
        )
        .set_hint(
            "Restore their files from a backup of the store; a database made from a template never had them.",
        );
        error::tell(report, PgLogLevel::WARNING);
    }
    let held = holders::Held { references: mark.held, young };
    Ok(Swept { relations: mark.relations, tuples: mark.tuples, files, held })
}

/// Flushes the WAL: a deletion committed with `synchronous_commit = off` that a crash could still undo must not cost
/// its file. Everything that the mark has seen was written before.
fn flush_wal() -> u64 {
    // SAFETY: reads and flushes the WAL position; the vacuum does not run in recovery.
    unsafe {
        let next = pg_sys::GetXLogInsertRecPtr();
        // At the start of a page the position lies behind the page's header, which is not written yet.
        let in_page = next % u64::from(pg_sys::XLOG_BLCKSZ);
        let in_segment = next % pg_sys::wal_segment_size.unsigned_abs().max(1) as u64;
        let header = if in_segment == in_page { LONG_PAGE_HEADER } else { SHORT_PAGE_HEADER };
        let end = if in_page == header { next - in_page } else { next };
        pg_sys::XLogFlush(end);
        end
    }
}

/// Sizes of a WAL page's header (access/xlog_internal.h): SizeOfXLogLongPHD on the first page of a segment and
/// SizeOfXLogShortPHD on the others.
const LONG_PAGE_HEADER: u64 = 40;
const SHORT_PAGE_HEADER: u64 = 24;
