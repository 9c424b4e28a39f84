//! The launcher: a background worker that is connected to no database. Every `rbytea.vacuum_naptime` it starts one
//! worker after another for the databases of `rbytea.databases_for_vacuuming`. Nothing that goes wrong with one
//! database keeps it from the others.

use crate::pg::error::{self, Report};
use crate::pg::shared::{self, Outcome};
use crate::pg::{background, settings};
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

/// How the launcher and the workers appear in pg_stat_activity.
const LAUNCHER: &str = "rbytea vacuum launcher";
const WORKER: &str = "rbytea vacuum worker";
/// The postmaster starts a launcher that has ended again after this pause.
const RESTART: Duration = Duration::from_secs(5);
/// How often the launcher looks at a worker if its latch is not set.
const WATCH: Duration = Duration::from_secs(1);

/// Registers the launcher; only while the server loads `shared_preload_libraries`.
pub fn init() {
    BackgroundWorkerBuilder::new(LAUNCHER)
        .set_library("rbytea")
        .set_function("rbytea_vacuum_launcher")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART))
        .load();
}

/// The launcher's main function. Ends with exit code 1, after which the postmaster starts it again unless it shuts
/// down (0 would unregister it).
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rbytea_vacuum_launcher(_argument: pg_sys::Datum) {
    background::begin_without_database();
    let mut launcher = Launcher::default();
    loop {
        let names = settings::databases_for_vacuuming();
        launcher.reported.retain(|name, _| names.contains(name));
        for name in names {
            launcher.visit(&name);
        }
        // The settings that were read again may have changed the list: the next round begins at once.
        if !std::mem::take(&mut launcher.reloaded) {
            sleep(settings::vacuum_naptime());
        }
    }
}

/// Waits; a change of the settings ends it early. Does not return when the launcher is to end.
fn sleep(pause: Duration) {
    let end = Instant::now() + pause;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        if background::wait(rest) {
            return;
        }
    }
}

/// What the launcher has logged last about a database, so that it logs it once.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Reported {
    #[default]
    Nothing,
    Missing,
    NotConnectable,
    NoExtension,
    NotOwner,
    LockedOut,
    NoSlot,
}

/// The launcher's state.
#[derive(Default)]
struct Launcher {
    reported: HashMap<CString, Reported>,
    /// Whether the settings have been read again during the round.
    reloaded: bool,
}

impl Launcher {
    /// Starts a worker for a database and waits for its end.
    fn visit(&mut self, name: &CStr) {
        let database = match find(name) {
            Found::Database(database) => database,
            Found::Missing => return self.report(name, Reported::Missing),
            Found::NotConnectable => return self.report(name, Reported::NotConnectable),
        };
        shared::set_outcome(Outcome::Unknown);
        let shown = name.to_string_lossy();
        let Some(handle) = start(database, &shown) else { return self.report(name, Reported::NoSlot) };
        self.reloaded |= watch(handle);
        self.report(
            name,
            match shared::outcome() {
                Outcome::NoExtension => Reported::NoExtension,
                Outcome::NotOwner => Reported::NotOwner,
                Outcome::LockedOut => Reported::LockedOut,
                Outcome::Unknown => Reported::Nothing,
            },
        );
    }

    fn report(&mut self, name: &CStr, what: Reported) {
        let reported = self.reported.entry(name.to_owned()).or_default();
        if std::mem::replace(reported, what) == what {
            return;
        }
        if let Some(report) = message(&name.to_string_lossy(), what) {
            error::emit(report, PgLogLevel::LOG);
        }
    }
}

fn message(name: &str, what: Reported) -> Option<Report> {
    let report = |detail: &str| {
        error::report(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("rbytea does not vacuum database \"{name}\""),
        )
        .set_detail(detail)
    };
    match what {
        Reported::Nothing => None,
        Reported::Missing => Some(report("The database does not exist.").set_hint(
            "Correct \"rbytea.databases_for_vacuuming\"; names with upper-case letters need double quotes.",
        )),
        Reported::NotConnectable => Some(report("The database does not accept connections.")),
        Reported::NoExtension => Some(report("The database does not have the extension rbytea.")),
        Reported::NotOwner => Some(
            report("The payload store belongs to another cluster, or to this one before a promotion or a restore.")
                .set_hint(
                    "If no other cluster uses the store any more, a superuser can call rbytea_adopt_store() in the database.",
                ),
        ),
        Reported::LockedOut => Some(report("A transaction that has run the vacuum by hand has not ended.").set_hint(
            "pg_locks tells who holds ShareUpdateExclusiveLock on rbytea.rbytea_vacuum_history; it may be a prepared transaction.",
        )),
        Reported::NoSlot => Some(
            report("No background worker slot is free.").set_hint("You might need to increase max_worker_processes."),
        ),
    }
}

enum Found {
    Database(pg_sys::Oid),
    Missing,
    NotConnectable,
}

/// Looks a database up by its name.
fn find(name: &CStr) -> Found {
    // SAFETY: a transaction of its own, as a lookup in a shared catalog needs; the scan has one key, of type name, and
    // the tuple is looked at while the scan holds its page.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        let mut key = pg_sys::ScanKeyData::default();
        let mut datname = pg_sys::NameData::default();
        pg_sys::namestrcpy(&mut datname, name.as_ptr());
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_database_datname as i16,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::F_NAMEEQ.into(),
            pg_sys::Datum::from(&raw const datname),
        );
        let databases = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        // Without a database there are no indexes.
        let scan = pg_sys::systable_beginscan(databases, pg_sys::InvalidOid, false, null_mut(), 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let found = if tuple.is_null() {
            Found::Missing
        } else {
            let header = (*tuple).t_data;
            let database =
                header.cast::<u8>().add((*header).t_hoff as usize).cast::<pg_sys::FormData_pg_database>();
            if (*database).datallowconn && (*database).datconnlimit != INVALID_LIMIT {
                Found::Database((*database).oid)
            } else {
                Found::NotConnectable
            }
        };
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(databases, pg_sys::AccessShareLock as i32);
        pg_sys::CommitTransactionCommand();
        found
    }
}

/// datconnlimit of a database whose DROP was interrupted (DATCONNLIMIT_INVALID_DB).
const INVALID_LIMIT: i32 = -2;

/// Starts a worker; None if there is no free slot.
fn start(database: pg_sys::Oid, name: &str) -> Option<*mut pg_sys::BackgroundWorkerHandle> {
    // SAFETY: the structure is copied; a plain read of this process's id.
    unsafe {
        let builder = BackgroundWorkerBuilder::new(&format!("{WORKER} for database {name}"))
            .set_type(WORKER)
            .set_library("rbytea")
            .set_function("rbytea_vacuum_worker")
            .enable_spi_access()
            .set_argument(Some(pg_sys::Datum::from(database)))
            .set_notify_pid(pg_sys::MyProcPid);
        let mut worker = pg_sys::BackgroundWorker::from(&builder);
        let mut handle = null_mut();
        pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle).then_some(handle)
    }
}

/// Waits until a worker has ended, and for the settings and for the launcher's own end meanwhile. Returns whether the
/// settings were read again.
fn watch(handle: *mut pg_sys::BackgroundWorkerHandle) -> bool {
    let mut reloaded = false;
    loop {
        let mut pid = 0;
        // SAFETY: the handle is valid until it is freed.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(handle, &mut pid) };
        if status == pg_sys::BgwHandleStatus::BGWH_STOPPED
            || status == pg_sys::BgwHandleStatus::BGWH_POSTMASTER_DIED
        {
            break;
        }
        reloaded |= background::wait(WATCH);
    }
    // SAFETY: palloc'd by RegisterDynamicBackgroundWorker.
    unsafe { pg_sys::pfree(handle.cast()) };
    reloaded
}
