//! The worker: one visit to one database. It puts missing row triggers back, runs what is due, stores payloads that came while a
//! trigger was missing, and ends. It waits for
//! no lock for long, and leaves when another session drops, copies or renames the database.

use crate::ddl::attach;
use crate::mark::preconditions;
use crate::pg::background::transaction;
use crate::pg::catalog::{self, Extension};
use crate::pg::error::{self, Report};
use crate::pg::pace::{self, Pace};
use crate::pg::shared::{self, Outcome};
use crate::pg::{compat, progress, settings};
use crate::session;
use crate::session::opening::Access;
use crate::vacuum::history::{self, Run};
use crate::vacuum::run::{self, Ended, Request};
use crate::vacuum::unstored;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys};
use rbytea_store as store;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

/// How long a visit waits for locks on tables that others are changing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it waits for a single lock that it cannot do without, as a setting.
const LOCK_TIMEOUT: &CStr = c"1s";

/// The worker's main function; the argument is the OID of the database.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rbytea_vacuum_worker(argument: pg_sys::Datum) {
    connect(pg_sys::Oid::from(argument.value() as u32));
    put_triggers_back();
    visit();
    unstored::store();
}

/// Settings that decide how fast the worker is and how much memory it takes. There is one worker at a time, and the
/// owner of one database must not keep it from all others: the server's configuration counts, not ALTER DATABASE.
const OF_THE_CLUSTER: [&CStr; 7] = [
    c"vacuum_cost_delay",
    c"vacuum_cost_limit",
    c"vacuum_cost_page_hit",
    c"vacuum_cost_page_miss",
    c"vacuum_cost_page_dirty",
    c"maintenance_work_mem",
    c"exit_on_error",
];

/// Makes this process a superuser's backend of a database.
pub fn connect(database: pg_sys::Oid) {
    compat::pqsignal(pg_sys::SIGHUP, compat::SignalHandlerForConfigReload);
    // A long scan ends at the next look for interrupts.
    compat::pqsignal(pg_sys::SIGTERM, compat::die);
    let of_the_cluster = OF_THE_CLUSTER.map(|name| (name, current(name)));
    // SAFETY: what a background worker does first. InvalidOid is the bootstrap superuser.
    unsafe {
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    // What ALTER DATABASE and ALTER ROLE set for sessions applies to background workers too.
    of_the_cluster.iter().for_each(|(name, value)| set(name, value));
    set(c"role", c"none");
    set(c"search_path", c"pg_catalog, pg_temp");
    // A synchronous standby that does not answer must not keep the worker from all other databases.
    set(c"synchronous_commit", c"local");
    // A run is one long statement; settings of the database or the role that limit statements are for users.
    set(c"statement_timeout", c"0");
    set(c"lock_timeout", LOCK_TIMEOUT);
    set(c"idle_in_transaction_session_timeout", c"0");
    if cfg!(any(feature = "pg17", feature = "pg18")) {
        set(c"transaction_timeout", c"0");
    }
    set(c"default_transaction_isolation", c"read committed");
    set(c"default_transaction_read_only", c"off");
}

fn current(name: &CStr) -> CString {
    // SAFETY: the setting exists. What is returned may be overwritten by the next call, so it is copied.
    unsafe { CStr::from_ptr(pg_sys::GetConfigOption(name.as_ptr(), false, false)) }.to_owned()
}

fn set(name: &CStr, value: &CStr) {
    // SAFETY: both are NUL-terminated; the value is valid for the setting.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// pg_upgrade and `pg_restore --disable-triggers` lose row triggers.
fn put_triggers_back() {
    progress::activity("looking for missing row triggers");
    let attached = transaction(|| match Extension::installed()? {
        Some(extension) => attach::attach(&extension),
        None => Ok(0),
    });
    match attached {
        Ok(0) => {}
        Ok(tables) => error::emit(
            error::report(
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("rbytea put the row trigger of {tables} tables in order"),
            ),
            PgLogLevel::LOG,
        ),
        // Another session changes the definition of one of the tables; the next visit tries again.
        Err(caught) if caught.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {}
        Err(caught) => error::emit(caught.report, PgLogLevel::LOG),
    }
}

/// Runs what is due. What goes wrong is logged and goes into the history.
fn visit() {
    let began = Instant::now();
    loop {
        let mut run = Run::begun(Request::Visit.origin());
        let result = transaction(|| {
            let Some(extension) = Extension::installed()? else {
                shared::set_outcome(Outcome::NoExtension);
                return Ok(Ended::Idle);
            };
            if !session::transaction::with_store(Access::Write, |store| owned(store.check_owner()))? {
                shared::set_outcome(Outcome::NotOwner);
                return Ok(Ended::Idle);
            }
            run::run(&extension, Request::Visit, &mut Pace::of_worker(), &mut run)
        });
        match result {
            Ok(Ended::Done) => return log(&run, began.elapsed()),
            Ok(Ended::Idle) => return,
            Ok(Ended::LockedOut) => return shared::set_outcome(Outcome::LockedOut),
            Err(caught) => {
                // The transaction has been rolled back, so no session waits for this worker during the pause.
                let busy = caught.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE;
                if run.moved_at.is_none() && pace::database_is_wanted() {
                    return;
                }
                // A run that has moved files is recorded, and not tried again.
                if !busy || run.moved_at.is_some() || began.elapsed() >= PATIENCE {
                    return failed(run, caught.report);
                }
                progress::activity("waiting for a lock on a table");
                pause();
            }
        }
    }
}

/// Whether this cluster owns the store. That another one does is no failure of a run: the launcher reports it, once.
fn owned(checked: store::Result<()>) -> Result<bool, Report> {
    match checked {
        Ok(()) => Ok(true),
        Err(store::Error::NotOwner { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn pause() {
    // SAFETY: waits for this process's latch; the postmaster's death ends the process.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        let milliseconds = PAUSE.as_millis() as std::ffi::c_long;
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

fn failed(run: Run, report: Report) {
    let error = Some(describe(&report));
    error::emit(report, PgLogLevel::LOG);
    record_failure(Run { error, ..run });
}

/// An error as the history shows it.
pub fn describe(report: &Report) -> String {
    let detail = report.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
    format!("{}{detail}", report.message())
}

/// A row for a run that failed, in a transaction of its own.
pub fn record_failure(mut run: Run) {
    let recorded = transaction(|| {
        let Some(extension) = Extension::installed()? else { return Ok(()) };
        // This transaction must not be older than moves that another run is making; that run's row covers both.
        if run.moved_at.is_some() && preconditions::lock_history(&extension, false)?.is_none() {
            run.moved_at = None;
        }
        history::record(&run)
    });
    if let Err(caught) = recorded {
        error::emit(caught.report, PgLogLevel::LOG);
    }
}

/// Logs what a run did, as autovacuum does.
fn log(run: &Run, took: Duration) {
    if settings::log_min_duration().is_none_or(|least| took < least) {
        return;
    }
    let Ok(database) = transaction(|| Ok(catalog::database_name())) else { return };
    let births = match (run.lower, run.upper) {
        (Some(0), Some(upper)) => format!("everything born before transaction {upper}"),
        (Some(lower), Some(upper)) => format!("what was born from transaction {lower} to {upper}"),
        _ => "nothing".to_string(),
    };
    let message = format!(
        "automatic rbytea vacuum of database \"{database}\": {births}\n\
         relations: {} scanned, {} tuples, {} references only in deleted rows\n\
         files: {} in {} directories, {} not judged, {} moved to TRASH ({} bytes), {} brought back, {} deleted ({} bytes)\n\
         elapsed: {:.3} s",
        run.relations,
        run.tuples,
        run.recently_dead,
        run.files,
        run.directories,
        run.not_judged,
        run.trashed,
        run.bytes,
        run.restored,
        run.purged,
        run.purged_bytes,
        took.as_secs_f64(),
    );
    error::emit(error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message), PgLogLevel::LOG);
}
