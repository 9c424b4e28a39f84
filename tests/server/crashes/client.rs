//! A client at work: its session, its transaction, and what it may conclude from an error.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use futures_util::{SinkExt, pin_mut};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio_postgres::{Error, Row};

use super::transactions::{Changes, Heard, Key, Prepared, Rows, Seed, Transactions, with};
use super::world::{Commits, World};
use crate::support::session::{Params, Session, block_on};

/// Why a statement did not succeed.
#[derive(Debug)]
pub enum Trouble {
    /// An error that concurrency brings about.
    Refused,
    /// The server, or this backend of it, was killed.
    Gone,
    /// What must not happen.
    Bug(String),
}

/// The outcome of a statement.
pub type Done<T = ()> = Result<T, Trouble>;

/// lock_not_available, deadlock_detected, serialization_failure, object_not_in_prerequisite_state (a mark was given up),
/// object_in_use (another session is connected to a template).
const REFUSED: &[&str] = &["55P03", "40P01", "40001", "55000", "55006"];
/// admin_shutdown, crash_shutdown, cannot_connect_now
const GONE: &[&str] = &["57P01", "57P02", "57P03"];

/// Judges an error.
pub fn trouble(sql: &str, error: &Error) -> Trouble {
    match error.as_db_error() {
        None => Trouble::Gone,
        Some(error) if REFUSED.contains(&error.code().code()) => Trouble::Refused,
        Some(error) if GONE.contains(&error.code().code()) => Trouble::Gone,
        Some(error) => Trouble::Bug(format!("{error:?}\nfrom: {sql}")),
    }
}

/// A transaction that has not ended.
#[derive(Default)]
pub struct Open {
    /// What it has changed.
    pub changes: Changes,
    /// Savepoints, and how much had been changed then.
    pub savepoints: Vec<(String, usize)>,
    /// It is a block: BEGIN and COMMIT are statements of their own.
    pub block: bool,
    /// It alone commits without waiting for its WAL.
    pub asynchronous: bool,
    /// It has truncated a table, which must not stay locked in a prepared transaction.
    pub truncated: bool,
}

/// A client.
pub struct Client<'w> {
    /// The campaign.
    pub world: &'w World,
    /// Which of the clients it is.
    pub number: usize,
    /// What it knows.
    pub transactions: &'w mut Transactions,
    /// The transaction at hand.
    pub open: Option<Open>,
    /// What it chooses by.
    pub rng: StdRng,
    session: Session,
}

impl<'w> Client<'w> {
    /// Works until the server is killed. An error is a bug.
    pub fn work(world: &'w World, number: usize, transactions: &'w mut Transactions) -> Result<(), String> {
        let settings =
            "set lock_timeout = '200ms'; set deadlock_timeout = '50ms'; set statement_timeout = '60s';
                        set client_min_messages = warning";
        let session = match Session::try_connect(&world.config) {
            Ok(session) => session,
            Err(error) => return end(trouble("connect", &error)),
        };
        let mut client = Self { world, number, transactions, open: None, rng: world.rng(), session };
        let begun = client.run(settings).and_then(|()| {
            let encrypts = client.chance(0.3);
            let waits = world.commits == Commits::Mixed;
            client.run(&format!("set rbytea.qss_mode = {encrypts}; set synchronous_commit = {waits}"))?;
            let rows = client.rows("select pg_backend_pid()", &[])?;
            world.desks[number].store(rows[0].get(0), SeqCst);
            Ok(())
        });
        let mut outcome = begun;
        while outcome.is_ok() {
            outcome = client.step();
            if let Err(Trouble::Refused) = outcome {
                outcome = client.retreat();
            }
        }
        world.desks[number].store(0, SeqCst);
        outcome.or_else(end)
    }

    /// Rows as this transaction sees them, without those that prepared ones have locked.
    pub fn rows_here(&self) -> Rows {
        let changes = self.open.as_ref().map_or(&[][..], |open| &open.changes);
        let mut rows = with(self.transactions.rows(), &changes.to_vec());
        for key in self.transactions.frozen() {
            rows.remove(&key);
        }
        rows
    }

    /// One of the rows here, if there is one in such a table.
    pub fn some_row(&mut self, table: impl Fn(&str) -> bool) -> Option<Key> {
        let keys: Vec<Key> = self.rows_here().into_keys().filter(|(name, _)| table(name)).collect();
        if keys.is_empty() { None } else { Some(keys[self.rng.random_range(0..keys.len())].clone()) }
    }

    /// Notes what the server has just confirmed.
    pub fn changed(&mut self, table: &str, id: i64, seeds: Option<Vec<Seed>>) {
        if let Some(open) = &mut self.open {
            open.changes.push(((table.to_owned(), id), seeds));
        }
    }

    /// One with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A new id, of this client's.
    pub fn id(&mut self) -> i64 {
        self.transactions.id() * super::world::CLIENTS as i64 + self.number as i64
    }

    // --- transactions --------------------------------------------------------------------------------------

    /// BEGIN.
    pub fn begin(&mut self) -> Done {
        let local = self.world.commits == Commits::Mixed && self.chance(0.4);
        let level = if self.chance(0.8) { "read committed" } else { "repeatable read" };
        self.run(&format!("begin isolation level {level}"))?;
        self.open = Some(Open { block: true, asynchronous: local, ..Open::default() });
        if local { self.run("set local synchronous_commit = off") } else { Ok(()) }
    }

    /// COMMIT.
    pub fn commit(&mut self) -> Done {
        self.end_with("commit")
    }

    /// One statement that is a transaction of its own; what it changes has to be noted before it is run.
    pub fn alone(&mut self, work: impl FnOnce(&mut Self) -> Done) -> Done {
        self.open = Some(Open::default());
        let done = work(self);
        self.conclude(done)
    }

    fn end_with(&mut self, sql: &str) -> Done {
        let done = self.run(sql);
        self.conclude(done)
    }

    fn conclude(&mut self, done: Done) -> Done {
        let Some(open) = self.open.take() else { return done };
        match &done {
            Ok(()) if open.asynchronous => self.transactions.committed(open.changes, Heard::Acknowledged),
            Ok(()) => self.transactions.committed(open.changes, self.world.acknowledged()),
            Err(Trouble::Gone) => self.transactions.committed(open.changes, Heard::Nothing),
            Err(_) => {}
        }
        done
    }

    /// PREPARE TRANSACTION.
    pub fn prepare(&mut self) -> Done {
        let Some(open) = self.open.take() else { return Ok(()) };
        let gid = format!("transaction {}", self.id());
        if open.asynchronous {
            // The server itself makes it durable in any case, a standby only so.
            self.run("set local synchronous_commit = on")?;
        }
        let done = self.run(&format!("prepare transaction '{gid}'"));
        let acknowledged = done.is_ok();
        if matches!(done, Ok(()) | Err(Trouble::Gone)) {
            let prepared = Prepared { changes: open.changes, acknowledged, ending: None };
            self.transactions.prepared.insert(gid, prepared);
        }
        done
    }

    /// COMMIT PREPARED or ROLLBACK PREPARED of one of the prepared transactions.
    pub fn second_phase(&mut self) -> Done {
        let Some(gid) = self.transactions.prepared.keys().next().cloned() else { return Ok(()) };
        let commit = self.chance(0.7);
        let how = if commit { "commit" } else { "rollback" };
        match self.run(&format!("{how} prepared '{gid}'")) {
            Ok(()) => self.transactions.ended(&gid, commit),
            Err(Trouble::Gone) => {
                if let Some(prepared) = self.transactions.prepared.get_mut(&gid) {
                    prepared.ending = Some(commit);
                }
                return Err(Trouble::Gone);
            }
            refused => return refused,
        }
        Ok(())
    }

    /// ROLLBACK.
    pub fn rollback(&mut self) -> Done {
        self.open = None;
        self.run("rollback")
    }

    /// After an error: back to a savepoint, or to the beginning.
    fn retreat(&mut self) -> Done {
        self.world.count("refused");
        let Some(open) = &mut self.open else { return Ok(()) };
        match open.savepoints.last().cloned() {
            Some((name, changes)) => {
                open.changes.truncate(changes);
                self.run(&format!("rollback to {name}"))
            }
            None if open.block => self.rollback(),
            None => Ok(()),
        }
    }

    // --- statements ----------------------------------------------------------------------------------------

    /// Runs statements without parameters.
    pub fn run(&mut self, sql: &str) -> Done {
        block_on(self.session.client().batch_execute(sql)).map_err(|error| trouble(sql, &error))
    }

    /// Runs one statement; the number of rows it affected.
    pub fn execute(&mut self, sql: &str, params: Params<'_>) -> Done<u64> {
        block_on(self.session.client().execute(sql, params)).map_err(|error| trouble(sql, &error))
    }

    /// Runs a query.
    pub fn rows(&mut self, sql: &str, params: Params<'_>) -> Done<Vec<Row>> {
        block_on(self.session.client().query(sql, params)).map_err(|error| trouble(sql, &error))
    }

    /// COPY … FROM STDIN; the number of rows. The server says that it has copied before it commits, and tokio-postgres returns
    /// then; what is answered after that is answered after the commit.
    pub fn copy_in(&mut self, sql: &str, data: &[u8]) -> Done<u64> {
        block_on(async {
            let sink = self.session.client().copy_in(sql).await?;
            pin_mut!(sink);
            for chunk in data.chunks(1 << 16) {
                // Why the server takes no more is what finish() says.
                if sink.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                    break;
                }
            }
            let rows = sink.finish().await?;
            self.session.client().batch_execute("").await?;
            Ok(rows)
        })
        .map_err(|error| match trouble(sql, &error) {
            // With some errors tokio-postgres loses track of the protocol.
            Trouble::Refused => Trouble::Gone,
            other => other,
        })
    }
}

fn end(trouble: Trouble) -> Result<(), String> {
    match trouble {
        Trouble::Gone => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
