//! Connections, a bounded number of them, each driven by the thread that uses it: nothing runs while none is used. What was idle for
//! a while is looked at before it is used again, and what is old is replaced.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rbytea_connect::{Session, Target};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use crate::error::Error;
use crate::prepared::{Db, Statements};

/// A connection that was idle for so long is asked whether it is still there.
const DOUBTFUL: Duration = Duration::from_secs(5);

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection that was idle for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// A connection of this age is closed when it is given back: the server's memory for it grows with what it has done.
const OLD: Duration = Duration::from_secs(3600);

/// A server that is stopped, or a proxy that waits, keeps a connection open and says nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// How often it is looked at whether bytes come and go.
const LOOK: Duration = Duration::from_secs(5);

/// Bytes a second.
const SLOWEST_DISK: u64 = 4 << 20;

/// Bytes that have come or gone.
pub type Moved = Cell<u64>;

/// What is answered soon, or an error.
async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(SILENCE, work).await.unwrap_or(Err(Error::Silent(SILENCE)))
}

/// A connection and what drives it.
pub struct Connection {
    session: Session,
    statements: Statements,
    runtime: Runtime,
    opened: Instant,
    used: Instant,
}

/// How many connections there are, and what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Those that are being used.
    pub used: usize,
    /// Those that wait for work.
    pub idle: usize,
    /// Threads that wait for one.
    pub waiting: usize,
}

struct State {
    idle: Vec<Connection>,
    used: usize,
    waiting: usize,
}

/// The connections of a storage.
pub struct Pool {
    target: Target,
    most: usize,
    state: Mutex<State>,
    given_back: Condvar,
}

/// What every session is told once, whatever is set for the role or the database: that names mean what they say, that what is committed is on the disk, that it may
/// write and takes the time it takes, but does not wait for a lock without end, and how soon the server notices that this process is gone.
pub async fn prepare(db: &Client) -> Result<(), Error> {
    // Some of these are not in every version.
    let settings = "SET search_path = '';
                    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
                     WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout');
                    SELECT pg_catalog.set_config('synchronous_commit', 'on', false) WHERE pg_catalog.current_setting('synchronous_commit') = 'off';
                    SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed';
                    SET lock_timeout = '10s'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 5;
                    SET tcp_keepalives_count = 3; SET tcp_user_timeout = 15000";
    Ok(db.batch_execute(settings).await?)
}

/// Notices have nothing to say here: the statements are the storage's own.
fn ignore(_: &DbError) {}

impl Connection {
    /// A new one, told what [`prepare`] says.
    pub fn open(target: &Target) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let session = runtime.block_on(async {
            let session = target.connect(ignore).await?;
            within(prepare(&session.client)).await?;
            Ok::<_, Error>(session)
        })?;
        let now = Instant::now();
        Ok(Self { session, statements: Statements::default(), runtime, opened: now, used: now })
    }

    /// Has this thread do something with it that is answered soon.
    pub fn run<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, Error> {
        self.runtime.block_on(within(work(&self.session.client)))
    }

    /// The same where bytes come and go, which are counted: it goes on for as long as they do.
    fn run_moving<T>(&self, work: impl AsyncFnOnce(&Db<'_>, &Moved) -> Result<T, Error>) -> Result<T, Error> {
        self.runtime.block_on(async {
            let moved = Moved::default();
            let db = Db::new(&self.session.client, &self.statements);
            let mut working = pin!(work(&db, &moved));
            let (mut before, mut since) = (0, Instant::now());
            loop {
                if let Ok(outcome) = timeout(LOOK, &mut working).await {
                    return outcome;
                }
                // What has come has to be flushed as well.
                let patience = SILENCE + Duration::from_secs(moved.get() / SLOWEST_DISK);
                if moved.get() != before {
                    (before, since) = (moved.get(), Instant::now());
                } else if since.elapsed() >= patience {
                    return Err(Error::Silent(patience));
                }
            }
        })
    }

    /// The runtime and the session, for who waits for its end.
    pub fn parts(&mut self) -> (&Runtime, &mut Session) {
        (&self.runtime, &mut self.session)
    }

    fn is_there(&self) -> bool {
        self.used.elapsed() < DOUBTFUL
            || self.runtime.block_on(async {
                let question = self.session.client.simple_query("");
                matches!(timeout(ANSWER, question).await, Ok(Ok(_)))
            })
    }
}

impl Pool {
    /// None is opened yet.
    pub fn new(target: Target, most: usize) -> Self {
        let state = Mutex::new(State { idle: Vec::new(), used: 0, waiting: 0 });
        Self { target, most, state, given_back: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a connection; waits until then for one to be free. After an error other than
    /// those that an answer without a row comes to, it is not used again: it may be in the middle of a transaction, or of a COPY.
    pub fn with<T>(
        &self,
        until: Instant,
        work: impl AsyncFnOnce(&Db<'_>, &Moved) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let place = self.place(until)?;
        let connection = match place.idle().filter(Connection::is_there) {
            Some(connection) => connection,
            None => Connection::open(&self.target)?,
        };
        let outcome = connection.run_moving(work);
        if matches!(outcome, Ok(_) | Err(Error::Missing(_) | Error::Range { .. } | Error::Differs(_))) {
            place.keep(connection);
        }
        outcome
    }

    /// A place among those that use a connection.
    fn place(&self, until: Instant) -> Result<Place<'_>, Error> {
        // To wait for others is no outage.
        let until = until.max(Instant::now() + SILENCE);
        let mut state = self.state();
        state.waiting += 1;
        while state.used >= self.most {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waiting -= 1;
                return Err(Error::Busy(self.most));
            }
            state = self.given_back.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting -= 1;
        state.used += 1;
        Ok(Place(self))
    }

    /// How many there are now.
    pub fn load(&self) -> Load {
        let state = self.state();
        Load { used: state.used, idle: state.idle.len(), waiting: state.waiting }
    }

    /// Forgets the idle ones, which are of a server that is gone.
    pub fn forget_idle(&self) {
        let gone = std::mem::take(&mut self.state().idle);
        drop(gone);
    }
}

/// The right to use a connection, until this is dropped.
struct Place<'a>(&'a Pool);

impl Place<'_> {
    /// The one that was used last, so that others may become old.
    fn idle(&self) -> Option<Connection> {
        self.0.state().idle.pop()
    }

    fn keep(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut state = self.0.state();
        let (stay, gone): (Vec<_>, Vec<_>) =
            state.idle.drain(..).partition(|connection| connection.used.elapsed() < IDLE);
        state.idle = stay;
        let gone = if connection.opened.elapsed() < OLD && !connection.session.client.is_closed() {
            state.idle.push(connection);
            gone
        } else {
            gone.into_iter().chain([connection]).collect()
        };
        drop(state);
        // Closing takes a system call or more.
        drop(gone);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().used -= 1;
        self.0.given_back.notify_one();
    }
}
