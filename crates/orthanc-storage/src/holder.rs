//! The lock of the option `Lock`: nobody else writes meanwhile. A session of its own holds an advisory lock and has given the
//! tables a new epoch, a random number; whoever writes does so under the epoch, so that what was begun by a process that has lost the lock, and does not
//! know it yet, is not committed (a fencing token). A thread waits for the end of that session, and takes the lock again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbytea_connect::Target;
use tokio::sync::Notify;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::error::Error;
use crate::files::BEGIN;
use crate::pool::Connection;
use crate::schema::{HOLDING, Schema, WRITING};
use crate::storage::{Log, Severity};

/// How often the lock is asked for while somebody else holds it.
const PAUSE: Duration = Duration::from_secs(1);

enum State {
    Held(i64),
    /// Why it is not held.
    Not(String),
    /// The storage ends.
    Over,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    over: Notify,
    /// What it holds is not what the tables say.
    doubted: Notify,
}

/// Holds the lock, or tries to, until this is dropped.
pub struct Holder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if it is over.
    fn set(&self, new: State) -> bool {
        let mut state = self.state();
        if matches!(*state, State::Over) {
            return false;
        }
        *state = new;
        self.changed.notify_all();
        true
    }

    fn is_over(&self) -> bool {
        matches!(*self.state(), State::Over)
    }

    /// Waits, unless it is over before.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state();
        while !matches!(*state, State::Over) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Holder {
    /// Begins to try.
    pub fn start(target: Target, schema: Schema, log: Log) -> Result<Self, Error> {
        let state = Mutex::new(State::Not("the lock is being taken".into()));
        let shared =
            Arc::new(Shared { state, changed: Condvar::new(), over: Notify::new(), doubted: Notify::new() });
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("rbytea lock".into())
            .spawn(move || hold(&ours, &target, &schema, &log))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The epoch under which this process may write; waits until then for it.
    pub fn epoch(&self, until: Instant) -> Result<i64, Error> {
        let mut state = self.shared.state();
        loop {
            let reason = match &*state {
                State::Held(epoch) => return Ok(*epoch),
                State::Not(reason) => reason,
                State::Over => return Err(Error::Invalid("the storage has ended".into())),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Lock(reason.clone()));
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has the lock taken anew by who has found another epoch in the tables: they were restored, or the lock is lost and nobody knows yet.
    pub fn doubt(&self, epoch: Option<i64>) {
        let mut state = self.shared.state();
        if matches!(*state, State::Held(held) if Some(held) == epoch) {
            *state = State::Not("the tables have another epoch than this process has given them".into());
            self.shared.doubted.notify_one();
        }
    }

    /// Whether it is held, as far as is known.
    pub fn is_held(&self) -> bool {
        matches!(*self.shared.state(), State::Held(_))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        *self.shared.state() = State::Over;
        self.shared.changed.notify_all();
        self.shared.over.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked holds nothing any more.
            let _ = thread.join();
        }
    }
}

/// Takes the lock, waits for the end of its session, and so on.
fn hold(shared: &Shared, target: &Target, schema: &Schema, log: &Log) {
    let mut said = String::new();
    let mut held_before = false;
    while !shared.is_over() {
        let taken = Connection::open(target).and_then(|connection| {
            let epoch = connection.run(async |db| take(db, schema).await)?;
            Ok((connection, epoch))
        });
        match taken {
            Ok((mut connection, epoch)) => {
                if !shared.set(State::Held(epoch)) {
                    return;
                }
                if held_before {
                    log.line(Severity::Warning, "the lock is held again");
                }
                (said, held_before) = (String::new(), true);
                let (runtime, session) = connection.parts();
                let why = runtime.block_on(async {
                    tokio::select! {
                        () = session.lost() => Some("the connection that held the lock is lost"),
                        () = shared.doubted.notified() => Some("the tables have another epoch than this process has given them"),
                        () = shared.over.notified() => None,
                    }
                });
                let Some(why) = why.filter(|why| shared.set(State::Not((*why).into()))) else { return };
                log.line(
                    Severity::Warning,
                    &format!("{why}; nothing is written until the lock is held again"),
                );
            }
            Err(error) => {
                let reason = error.chain();
                if reason != said {
                    log.line(Severity::Warning, &format!("the lock cannot be taken: {reason}"));
                    said.clone_from(&reason);
                }
                if !shared.set(State::Not(reason)) {
                    return;
                }
                shared.pause(PAUSE);
            }
        }
    }
}

/// Takes the lock, and makes this session the one that writes: what the one before has begun comes to its end first, and what it
/// begins later fails.
async fn take(db: &Client, schema: &Schema) -> Result<i64, Error> {
    let Schema { state, lock, .. } = schema;
    let asked = format!("SELECT pg_catalog.pg_try_advisory_lock({HOLDING}, {lock})");
    if !db.query_one(&asked, &[]).await?.get::<_, bool>(0) {
        return Err(Error::Lock(who(db, *lock).await?));
    }
    // Writers wait behind this, and so does the end of the storage: a transaction that goes on for longer is waited for again.
    db.batch_execute(&format!(
        "{BEGIN}; SET LOCAL lock_timeout = '5s'; SELECT pg_catalog.pg_advisory_xact_lock({WRITING}, {lock})"
    ))
    .await?;
    // Not a count, which a standby that was promoted without the last one would give out again.
    let epoch = Uuid::new_v4().as_u128() as i64;
    if db.execute(&format!("UPDATE {state} SET epoch = $1"), &[&epoch]).await? == 0 {
        return Err(Error::Unfit(format!("table {state} is empty")));
    }
    db.batch_execute("COMMIT").await?;
    Ok(epoch)
}

/// Who holds the lock, in words.
async fn who(db: &Client, lock: i32) -> Result<String, Error> {
    let query = format!(
        "SELECT l.pid, pg_catalog.host(a.client_addr), a.backend_start::pg_catalog.text
           FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
          WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
            AND l.classid = {HOLDING}::pg_catalog.oid AND l.objid = {oid}::pg_catalog.oid",
        oid = lock.cast_unsigned()
    );
    let row = db.query_opt(&query, &[]).await?;
    let by = row.map_or(String::new(), |row| {
        let (pid, address, since): (i32, Option<String>, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        let from = address.map_or(String::new(), |address| format!(" from {address}"));
        let since = since.map_or(String::new(), |since| format!(" since {since}"));
        format!(" (process {pid} of the server, connected{from}{since})")
    });
    Ok(format!(
        "another Orthanc holds the lock of this storage{by}; where several are meant to write, all of them have \"Lock\": false"
    ))
}
