//! How the vacuum keeps out of everybody's way: interrupts, cost-based delay, and, in the background, giving way to whoever
//! waits for it, as autovacuum does.

use crate::pg::error::{self, Report};
use crate::pg::{catalog, compat, spi};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::time::{Duration, Instant};

/// Steps between two looks at the clock.
const STEPS: u32 = 64;
/// How often a worker in the background looks whether somebody waits.
const LOOK_AFTER: Duration = Duration::from_millis(100);
const ASK_AFTER: Duration = Duration::from_millis(500);

/// The pace of one run. Ends the cost-based delay when it is dropped.
pub struct Pace {
    /// In the background: give way.
    polite: bool,
    steps: u32,
    looked: Instant,
    /// The same for locks, which costs more.
    asked: Instant,
    /// Since when somebody has been waiting for a lock of ours.
    waited_for: Option<Instant>,
}

impl Pace {
    /// Of a run that a user has called: it has the right of way that its statement has.
    pub fn of_statement() -> Self {
        Self::new(false)
    }

    /// Of a background worker.
    pub fn of_worker() -> Self {
        Self::new(true)
    }

    fn new(polite: bool) -> Self {
        compat::begin_cost_delay();
        Self { polite, steps: 0, looked: Instant::now(), asked: Instant::now(), waited_for: None }
    }

    /// Whether this run waits for no lock.
    pub fn is_polite(&self) -> bool {
        self.polite
    }

    /// Whether the run may use more than its share: nobody waits for a run in the background, and a cost-based delay is
    /// there to slow it down.
    pub fn may_hurry(&self) -> bool {
        // SAFETY: a plain read of the backend's own variable.
        !self.polite && !unsafe { pg_sys::VacuumCostActive }
    }

    /// Between two small pieces of work. An error when the run must give way.
    #[inline]
    pub fn step(&mut self) -> Result<(), Report> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS) { self.look() } else { Ok(()) }
    }

    /// Between two pieces of work of the store, each worth a few pages that are not in memory.
    pub fn file(&mut self) -> Result<(), Report> {
        // SAFETY: the backend's own variables.
        unsafe {
            if pg_sys::VacuumCostActive {
                pg_sys::VacuumCostBalance += pg_sys::VacuumCostPageMiss;
            }
        }
        self.look()
    }

    fn look(&mut self) -> Result<(), Report> {
        compat::vacuum_delay_point();
        if !self.polite || self.looked.elapsed() < LOOK_AFTER {
            return Ok(());
        }
        self.looked = Instant::now();
        if database_is_wanted() {
            return Err(gave_way("somebody drops, copies or renames the database"));
        }
        if self.asked.elapsed() < ASK_AFTER {
            return Ok(());
        }
        self.asked = Instant::now();
        if !is_waited_for()? {
            self.waited_for = None;
            return Ok(());
        }
        // SAFETY: a plain read of a setting, in milliseconds. Autovacuum is made to give way after the same time.
        let grace = Duration::from_millis(u64::try_from(unsafe { pg_sys::DeadlockTimeout }).unwrap_or(1000));
        if self.waited_for.get_or_insert_with(Instant::now).elapsed() < grace {
            return Ok(());
        }
        Err(gave_way("somebody waits for a lock on a table that the vacuum uses"))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        // SAFETY: a plain write of the backend's own variable.
        unsafe { pg_sys::VacuumCostActive = false };
    }
}

fn gave_way(why: &str) -> Report {
    error::report(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "the vacuum gave way to another session")
        .set_detail(format!("Reason: {why}."))
}

/// Whether somebody holds the lock on this database that DROP DATABASE takes, or CREATE DATABASE … TEMPLATE, or a renaming:
/// they wait for everybody to leave the database, but only for five seconds.
pub fn database_is_wanted() -> bool {
    // SAFETY: takes a lock without waiting, and releases it. It is the lock that every backend takes when it enters the
    // database. A session-level lock needs no transaction.
    unsafe {
        let tag = catalog::database_tag(pg_sys::MyDatabaseId);
        let mode = pg_sys::RowExclusiveLock as i32;
        let free =
            pg_sys::LockAcquire(&tag, mode, true, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
        if free {
            pg_sys::LockRelease(&tag, mode, true);
        }
        !free
    }
}

/// Whether some session waits for this one.
fn is_waited_for() -> Result<bool, Report> {
    let query = c"SELECT EXISTS (SELECT FROM pg_locks
                          WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))";
    Ok(spi::value(query, &[])?.unwrap_or(false))
}
