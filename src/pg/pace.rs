//! How the vacuum keeps out of the way of other sessions: interrupts, cost-based delay, and, in the background, giving
//! way to sessions that wait for it, as autovacuum does.

use crate::pg::error::{self, Report};
use crate::pg::{catalog, compat, spi};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::time::{Duration, Instant};

/// Steps between two looks at the clock.
const STEPS: u32 = 64;
/// How often a background worker looks whether another session wants the database.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// How often it looks whether another session waits for its locks, which costs more.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// The pace of one run. Ends the cost-based delay when it is dropped.
pub struct Pace {
    /// A background run gives way to other sessions.
    background: bool,
    steps: u32,
    /// When it last looked whether another session wants the database.
    looked: Instant,
    /// When it last looked for sessions that wait for its locks.
    asked: Instant,
    /// Since when another session has been waiting for a lock of this one.
    waited_for: Option<Instant>,
}

impl Pace {
    /// Of a run that a statement has called: it does not give way.
    pub fn of_statement() -> Self {
        Self::new(false)
    }

    /// Of a background worker.
    pub fn of_worker() -> Self {
        Self::new(true)
    }

    fn new(background: bool) -> Self {
        compat::begin_cost_delay();
        Self { background, steps: 0, looked: Instant::now(), asked: Instant::now(), waited_for: None }
    }

    /// Whether this run waits for no lock, and gives way.
    pub fn is_background(&self) -> bool {
        self.background
    }

    /// Whether the run may start threads: not in the background, where no client waits for it, and not under a
    /// cost-based delay, which is to slow it down.
    pub fn may_parallelize(&self) -> bool {
        // SAFETY: a plain read of the backend's own variable.
        !self.background && !unsafe { pg_sys::VacuumCostActive }
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
        if !self.background || self.looked.elapsed() < LOOK_AFTER {
            return Ok(());
        }
        self.looked = Instant::now();
        if database_is_wanted() {
            return Err(gave_way("another session drops, copies or renames the database"));
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
        Err(gave_way("another session waits for a lock on a table that the vacuum uses"))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        // SAFETY: a plain write of the backend's own variable.
        unsafe { pg_sys::VacuumCostActive = false };
    }
}

/// Whether the process may end at its next look at interrupts, without unwinding: one has come, or may come while it sleeps before it
/// looks.
pub fn may_end_soon() -> bool {
    // SAFETY: the backend's own variables, one of which its signal handlers write.
    unsafe {
        let sleeps = pg_sys::VacuumCostActive
            && pg_sys::VacuumCostBalance + pg_sys::VacuumCostPageMiss >= compat::vacuum_cost_limit();
        sleeps || (&raw const pg_sys::InterruptPending).read_volatile() != 0
    }
}

fn gave_way(why: &str) -> Report {
    error::report(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "the vacuum gave way to another session")
        .set_detail(format!("Reason: {why}."))
}

/// Whether another session holds the lock on this database that DROP DATABASE takes, or CREATE DATABASE … TEMPLATE, or
/// a renaming: it waits for all others to leave the database, but only for five seconds.
pub fn database_is_wanted() -> bool {
    // SAFETY: takes a lock without waiting, and releases it. It is the lock that every backend takes when it enters
    // the database. A session-level lock needs no transaction.
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
