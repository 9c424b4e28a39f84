//! The vacuum: marks, moves to TRASH what no tuple refers to, and deletes what has been there long enough. One run is
//! one transaction in one database, of a statement that calls it or of a background worker. Uses `pg`, `value`,
//! `session`, `write`, `mark` and `ddl`; nothing uses it but lib.rs, which registers the launcher.

pub mod schedule;

mod dropped;
mod executor;
mod failure;
mod history;
mod holders;
mod launcher;
mod outlived;
mod plan;
mod plan_output;
mod purge;
mod replicated;
mod run;
mod sweep;
mod unstored;
mod user_code;
mod worker;

use crate::mark::horizon::RunSnapshot;
use crate::mark::{self, preconditions};
use crate::pg::catalog::Extension;
use crate::pg::error::Report;
use crate::pg::pace::Pace;
use crate::pg::progress::Progress;
use crate::pg::rows::{RawResult, Rows};
use crate::pg::subtransaction::subtransaction;
use crate::session::opening::Access;
use crate::session::transaction;
use history::Run;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};
use plan_output::PlanOutput;
use run::Request;

pub use launcher::init;

/// One run: moves payload files that no tuple refers to into TRASH, and back what a tuple does refer to; deletes what
/// has been in TRASH for the retention. Returns the number of files moved to TRASH.
#[pg_extern]
fn rvacuum(fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a function in the extension's schema.
    let run = unsafe { run_of_statement(fcinfo, Request::Everything)? };
    Ok(run.trashed as i64)
}

/// The same without the retention; the horizons have to agree all the same. Returns the number of files deleted.
#[pg_extern]
fn rvacuum_purge(fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a function in the extension's schema.
    let run = unsafe { run_of_statement(fcinfo, Request::PurgeNow)? };
    Ok(run.purged as i64)
}

/// # Safety
/// `fcinfo` must be the call at hand of a function in the extension's schema.
unsafe fn run_of_statement(fcinfo: pg_sys::FunctionCallInfo, request: Request) -> Result<Run, Report> {
    // SAFETY: the first two look at the server's and the transaction's state and raise an ERROR where writing is not
    // allowed; the rest is promised by the caller.
    let extension = unsafe {
        let name = match request {
            Request::PurgeNow => c"rvacuum_purge()",
            Request::Everything | Request::Visit => c"rvacuum()",
        };
        pg_sys::PreventCommandDuringRecovery(name.as_ptr());
        pg_sys::PreventCommandIfReadOnly(name.as_ptr());
        Extension::of_call(fcinfo)
    };
    preconditions::refuse_if_unsafe()?;
    let mut run = Run::begun(request.origin());
    match subtransaction(|| run::run(&extension, request, &mut Pace::of_statement(), &mut run)) {
        Ok(_) => Ok(run),
        Err(caught) => {
            failure::report(Run { error: Some(worker::describe(&caught.report)), ..run });
            Err(caught.report)
        }
    }
}

/// Why nothing may be deleted from TRASH now; NULL if something may.
#[pg_extern]
fn rbytea_purge_obstacle(fcinfo: pg_sys::FunctionCallInfo) -> Result<Option<String>, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a function in the extension's schema.
    Ok(purge::obstacle(unsafe { Extension::of_call(fcinfo) }.type_oid()?))
}

/// The plan that rvacuum() would carry out now, a row per file. Moves nothing, so it needs no lock.
#[pg_extern]
fn rvacuum_plan(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema.
    let (extension, result) = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rvacuum_plan()".as_ptr());
        (Extension::of_call(fcinfo), Rows::begin(fcinfo))
    };
    preconditions::refuse_if_unsafe()?;
    transaction::with_store(Access::Write, |store| Ok(store.check_present()?))?;
    let objects = extension.objects()?;
    let mut pace = Pace::of_statement();
    let snapshot = RunSnapshot::take();
    let births = 0..snapshot.upper();
    let _progress = Progress::begin();
    let (mark, swept) = sweep::listing(&births, &mut pace, |listings, pace| {
        let mut mark = mark::mark(&objects, &snapshot, &births, pace)?;
        let swept = sweep::walk(&births, &mut mark.references, listings, &mut PlanOutput::new(result), pace)?;
        Ok((mark, swept))
    })?;
    run::report_lost(swept.lost);
    holders::notice(
        &extension,
        &holders::Blocked { recently_dead: mark.recently_dead, not_judged: swept.not_judged },
    )?;
    Ok(RawResult(None))
}

/// Makes this cluster the owner of the store; returns what OWNER said before.
#[pg_extern]
fn rbytea_adopt_store() -> Result<Option<String>, ErrorReport> {
    // SAFETY: looks at the server's state and raises an ERROR in recovery: a standby has no timeline to write down.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"rbytea_adopt_store()".as_ptr()) };
    let previous = transaction::with_store(Access::Write, |store| Ok(store.adopt()?))?;
    Ok(previous.map(|owner| owner.to_string()))
}
