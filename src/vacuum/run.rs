//! One run: mark, sweep, purge, one row of history. Any error ends it with nothing moved (I10), but for an error of
//! the moves themselves; what has been moved then is garbage all the same.

use crate::mark::horizon::{Horizons, RunSnapshot};
use crate::mark::{self, Mark, preconditions};
use crate::pg::catalog::{Extension, Objects};
use crate::pg::error::{self, Report};
use crate::pg::injection::{self, Point};
use crate::pg::pace::Pace;
use crate::pg::progress::{self, Phase, Progress};
use crate::pg::settings;
use crate::pg::subtransaction::catch;
use crate::session::opening::Access;
use crate::session::transaction;
use crate::vacuum::executor::Executor;
use crate::vacuum::history::{self, Left, Run};
use crate::vacuum::holders::{self, Blocked};
use crate::vacuum::plan::Plan;
use crate::vacuum::purge::{self, Purge};
use crate::vacuum::schedule::{self, Now, Scope, Stamp, State};
use crate::vacuum::{dropped, sweep};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::ops::Range;
use std::time::Duration;

/// What a run is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// rvacuum(): everything.
    Everything,
    /// rvacuum_purge(): everything, and no retention.
    PurgeNow,
    /// The background vacuum's visit: what is due.
    Visit,
}

impl Request {
    /// As the history calls it.
    pub fn origin(self) -> &'static str {
        match self {
            Self::Everything => "rvacuum",
            Self::PurgeNow => "rvacuum_purge",
            Self::Visit => "background",
        }
    }
}

/// How a run that did not fail has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did something, and the history has a row of it.
    Done,
    /// Nothing was due.
    Idle,
    /// A transaction that has run the vacuum has not ended.
    LockedOut,
}

/// Runs what is requested and fills in `run`, also if it fails.
pub fn run(extension: &Extension, request: Request, pace: &mut Pace, run: &mut Run) -> Result<Ended, Report> {
    transaction::with_store(Access::Write, |store| Ok(store.begin_moves()?))?;
    preconditions::refuse_if_unsafe()?;
    let Some(objects) = preconditions::lock_history(extension, !pace.is_background())? else {
        return Ok(Ended::LockedOut);
    };
    let state = history::load()?;
    let snapshot = RunSnapshot::take();
    let activity = mark::fingerprint(objects.type_oid)?;
    let scope = match request {
        Request::Everything | Request::PurgeNow => Some(Scope::Whole),
        Request::Visit => schedule::due(&state, &now(&objects, snapshot.upper(), activity)?),
    };
    let Some(scope) = scope else { return Ok(Ended::Idle) };
    let _progress = Progress::begin();
    let lower = match scope {
        Scope::Whole => 0,
        Scope::Round => state.frontier,
    };
    (run.lower, run.upper) = (Some(lower), Some(snapshot.upper()));
    run.activity = (scope == Scope::Whole).then_some(activity);
    let births = lower..snapshot.upper();
    // Nothing can be born in the range any more, so without files in it there is nothing to judge, and nothing to
    // record but that the next round need not list an era again. (A row for each such round is a transaction, which
    // would make a round due in every other database, and theirs one in this.)
    if scope == Scope::Whole || sweep::any_born(&births, run, pace)? {
        judge(&objects, request, &state, &snapshot, scope, pace, run)?;
    } else if births.start >> 16 == births.end >> 16 {
        return Ok(Ended::Idle);
    }
    history::record(run)?;
    Ok(Ended::Done)
}

/// What the schedule has to know.
fn now(objects: &Objects, upper: u64, activity: i64) -> Result<Now, Report> {
    let horizon = Horizons::now(objects).full();
    Ok(Now {
        time: history::now(),
        upper,
        horizon,
        activity,
        purge_before: purge::bound(objects, horizon, settings::trash_retention())?,
        full_interval: settings::vacuum_full_interval(),
    })
}

fn judge(
    objects: &Objects,
    request: Request,
    state: &State,
    snapshot: &RunSnapshot,
    scope: Scope,
    pace: &mut Pace,
    run: &mut Run,
) -> Result<(), Report> {
    let births = run.lower.unwrap_or(0)..snapshot.upper();
    // Before the mark: a session that holds an old reference may copy it into a table that the mark has scanned
    // already.
    let deletable = if scope == Scope::Whole { deletable(objects, request)? } else { None };
    let (mut mark, date, plan, swept) = sweep::listing(&births, pace, |listings, pace| {
        let mut mark = mark::mark(objects, snapshot, &births, pace)?;
        (run.relations, run.tuples, run.recently_dead) = (mark.relations, mark.tuples, mark.recently_dead);
        run.horizon = Some(mark.horizon);
        run.lsn = Some(flush_wal());
        // Later than every date of earlier runs, so that no earlier run vouches for what this one moves.
        let date = history::now().max(state.moved_at.map_or(0, |last| last + 1));
        report_clock(date);
        let mut plan = Plan::within_memory();
        let swept = sweep::walk(&births, &mut mark.references, listings, &mut plan, pace)?;
        Ok((mark, date, plan, swept))
    })?;
    report_lost(swept.lost);
    (run.files, run.not_judged, run.lost) = (swept.files, swept.not_judged, swept.lost);
    run.directories += swept.directories;
    let whole = scope == Scope::Whole;
    if whole {
        // First, for moves need room in TRASH, and a disk may be full. A temporary table that was made after
        // `deletable` was computed may hold references that its session had in a variable.
        progress::phase(Phase::Purging);
        let deletable = deletable.filter(|_| mark.hidden.is_empty());
        let nothing_due =
            if request == Request::Visit { purge::if_nothing_due(deletable, state)? } else { None };
        let purged = match nothing_due {
            Some(left) => Purge { files: 0, bytes: 0, left },
            None => {
                let horizon = mark.horizon;
                purge::purge(deletable, horizon, snapshot.upper(), &mut mark.references, pace)?
            }
        };
        (run.purged, run.purged_bytes) = (purged.files, purged.bytes);
        run.left = Some(Left { live_bytes: swept.bytes, ..purged.left });
    }
    progress::phase(Phase::Moving);
    injection::at(Point::BeforeMoves);
    let mut executor = Executor::begin(history::time(date))?;
    // A cancel must not skip the sync below; the surrounding (sub)transaction is rolled back after it.
    let executed =
        catch(|| execute(plan, &mut executor, &births, &mut mark, pace)).map_err(|caught| caught.report);
    let moved = executor.moved();
    (run.trashed, run.restored, run.bytes) = (moved.trashed, moved.restored, moved.bytes);
    let synced = executor.finish();
    // Also after an error on the way: a later run deletes what has been moved as it would after a complete run.
    // Otherwise a full disk would stay full.
    run.moved_at = synced.is_ok().then_some(date);
    executed?;
    synced?;
    if let Some(left) = &mut run.left {
        left.add(&moved, date);
    }
    if whole {
        dropped::collect(retention(request), pace, run)?;
    }
    holders::notice(
        &objects.extension,
        &Blocked { recently_dead: mark.recently_dead, not_judged: swept.not_judged },
    )
}

fn retention(request: Request) -> Option<Duration> {
    match request {
        Request::PurgeNow => Some(Duration::ZERO),
        Request::Everything | Request::Visit => settings::trash_retention(),
    }
}

/// Files in TRASH with this date, or an older one, may be deleted if a mark that begins now does not find them.
fn deletable(objects: &Objects, request: Request) -> Result<Option<Stamp>, Report> {
    if request == Request::PurgeNow
        && let Some(obstacle) = purge::obstacle(objects.type_oid)
    {
        let report = error::report(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            "nothing can be deleted from TRASH now",
        )
        .set_detail(obstacle);
        error::emit(report, PgLogLevel::NOTICE);
    }
    purge::bound(objects, Horizons::now(objects).full(), retention(request))
}

/// Warns of a date in the future. Dates never go back, so a clock that ran ahead keeps TRASH from being emptied until
/// it has caught up. (Going back would let an earlier run vouch for what a later one has moved.)
fn report_clock(date: Stamp) {
    const SKEW: Stamp = 60 * 60 * 1_000_000;
    if date > history::now().saturating_add(SKEW) {
        let report = error::report(
            PgSqlErrorCode::ERRCODE_WARNING,
            "an earlier run of the vacuum has a date in the future; nothing is deleted from TRASH until then",
        )
        .set_detail("The server's clock ran ahead, or has been put back.")
        .set_hint("With a right clock, and no snapshot older than now: delete the rows of rbytea.rbytea_vacuum_history, and touch the files in TRASH.");
        error::emit(report, PgLogLevel::WARNING);
    }
}

/// Carries the plan out, or sweeps again with moves at once if it was too long to be remembered.
fn execute(
    plan: Plan,
    executor: &mut Executor,
    births: &Range<u64>,
    mark: &mut Mark,
    pace: &mut Pace,
) -> Result<(), Report> {
    if !plan.execute(executor, pace)? {
        mark.references.rewind();
        sweep::listing(births, pace, |listings, pace| {
            sweep::walk(births, &mut mark.references, listings, executor, pace)
        })?;
    }
    Ok(())
}

/// Warns of payloads that are neither in LIVE nor in TRASH.
pub fn report_lost(lost: u64) {
    if lost > 0 {
        let report = error::report(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{lost} payloads that rows refer to are neither in the store nor in TRASH"),
        )
        .set_hint(
            "Restore their files from a backup of the store; in a database that was made from a template, call \
             rbytea_clone_from('<template>').",
        );
        error::emit(report, PgLogLevel::WARNING);
    }
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
