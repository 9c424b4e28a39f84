//! A session at work: what it does next, in which transaction, and how it gets over being refused or killed.

mod choices;
mod statements;

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::pairs::{PREPARED, TEMPORARY, for_both};
use super::trouble::{Done, Trouble};
use super::world::{Hiding, World};
use super::{check, copies, ddl, programs, upkeep, writes};
use crate::support::cluster::PATIENCE;
use crate::support::session::Session;

/// Where an operation can be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a transaction block.
    Inside,
    /// In a transaction block, whose end or savepoints it changes.
    Border,
    /// Not in one.
    Outside,
    /// Wherever.
    Anywhere,
}

/// Something to do.
pub struct Operation {
    /// For the summary.
    pub name: &'static str,
    /// How often, in proportion to the others.
    pub weight: u32,
    /// Where.
    pub place: Place,
    /// SQLSTATEs that it may end with, besides those of concurrency.
    pub tolerates: &'static [&'static str],
    /// How.
    pub run: fn(&mut Actor<'_>) -> Done,
}

/// A transaction block.
#[derive(Default)]
pub struct Transaction {
    /// Names of its savepoints.
    pub savepoints: Vec<String>,
    /// Where to roll back to when the operation at hand is refused; nowhere means all of it.
    retreat: Option<String>,
}

/// A session and its random choices.
pub struct Actor<'w> {
    /// The run.
    pub world: &'w World,
    /// Which of the sessions it is.
    pub number: usize,
    /// The transaction block it is in.
    pub transaction: Option<Transaction>,
    /// Cursors WITH HOLD that may be open.
    pub cursors: Vec<String>,
    rng: StdRng,
    session: Option<Session>,
    tolerates: &'static [&'static str],
    /// What had been done to the server and to this session when it connected.
    connected_at: (u64, u64),
}

impl<'w> Actor<'w> {
    /// Not connected yet.
    pub fn new(world: &'w World, number: usize) -> Self {
        let rng = StdRng::seed_from_u64(world.seed.wrapping_add(number as u64));
        let (transaction, session, cursors) = (None, None, Vec::new());
        Self { world, number, transaction, cursors, rng, session, tolerates: &[], connected_at: (0, 0) }
    }

    /// Works until time is up or something is wrong.
    pub fn live(mut self) -> Result<(), String> {
        let strict: &[&[Operation]] = &[
            writes::OPERATIONS,
            copies::OPERATIONS,
            programs::OPERATIONS,
            upkeep::OPERATIONS,
            check::OPERATIONS,
        ];
        let hidden: &[&[Operation]] = match self.world.hiding {
            Hiding::Nowhere => &[check::HELD, upkeep::BY_HAND],
            Hiding::InProcedures => &[programs::HIDDEN, upkeep::BESIDE_THE_BACKGROUND],
            Hiding::Everywhere => &[check::HELD, upkeep::BY_HAND, copies::HIDDEN, programs::HIDDEN],
        };
        let changes: &[&[Operation]] = if self.changes_tables() { &[ddl::OPERATIONS] } else { &[] };
        let lists = [strict, hidden, changes].concat();
        let operations: Vec<&Operation> = lists.into_iter().flatten().collect();
        while !self.world.is_over() {
            let mut outcome = if self.session.is_none() { self.connect() } else { self.step(&operations) };
            while let Err(trouble) = outcome {
                outcome = match trouble {
                    Trouble::Refused => self.retreat(),
                    Trouble::Gone => {
                        self.disconnect();
                        Ok(())
                    }
                    Trouble::Bug(why) => {
                        self.world.stop();
                        return Err(format!("session {}: {why}", self.number));
                    }
                };
            }
        }
        Ok(())
    }

    fn step(&mut self, operations: &[&Operation]) -> Done {
        let places: &[Place] = match self.transaction {
            Some(_) => &[Place::Inside, Place::Border, Place::Anywhere],
            None => &[Place::Outside, Place::Anywhere],
        };
        let possible: Vec<&Operation> =
            operations.iter().copied().filter(|operation| places.contains(&operation.place)).collect();
        let mut at = self.below(possible.iter().map(|operation| operation.weight).sum());
        let Some(operation) = possible.into_iter().find(|operation| {
            let here = at < operation.weight;
            at = at.saturating_sub(operation.weight);
            here
        }) else {
            return Ok(());
        };
        self.tolerates = &[];
        if operation.place == Place::Inside && self.chance(0.4) {
            self.savepoint()?;
        }
        self.tolerates = operation.tolerates;
        self.note(&format!("# {}", operation.name));
        let outcome = (operation.run)(self);
        self.world.count(operation.name, outcome.is_ok());
        if outcome.is_ok()
            && let Some(transaction) = &mut self.transaction
        {
            transaction.retreat = None;
        }
        outcome
    }

    fn savepoint(&mut self) -> Done {
        let name = format!("s{}", self.world.name());
        self.run(&format!("savepoint {name}"))?;
        if let Some(transaction) = &mut self.transaction {
            transaction.savepoints.push(name.clone());
            transaction.retreat = Some(name);
        }
        Ok(())
    }

    /// Undoes an operation that was refused.
    fn retreat(&mut self) -> Done {
        self.tolerates = &[];
        match self.transaction.as_mut().map(|transaction| transaction.retreat.take()) {
            Some(Some(savepoint)) => self.run(&format!("rollback to {savepoint}")),
            Some(None) => {
                self.run("rollback")?;
                self.transaction = None;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn connect(&mut self) -> Done {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let upheavals = self.world.upheavals();
            self.connected_at = (upheavals, self.desk().disturbances.load(SeqCst));
            if upheavals.is_multiple_of(2) {
                match Session::try_connect(&self.world.config) {
                    Ok(session) => {
                        self.session = Some(session);
                        break;
                    }
                    Err(error) if !self.is_disturbed() => {
                        return Err(Trouble::Bug(format!("no connection: {error}")));
                    }
                    Err(_) => {}
                }
            }
            if Instant::now() > deadline {
                return Err(Trouble::Bug("the server has not come back".to_owned()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.prepare_session().inspect_err(|_| self.disconnect())
    }

    fn prepare_session(&mut self) -> Done {
        let temporary = if self.has_temporary() { TEMPORARY } else { "" };
        self.run(&format!("{SETTINGS}{}{}", for_both(temporary), for_both(PREPARED)))?;
        let rows = self.rows("select pg_backend_pid()", &[])?;
        self.desk().pid.store(rows[0].get(0), SeqCst);
        Ok(())
    }

    /// Forgets the connection and all that belonged to it.
    pub fn disconnect(&mut self) {
        self.note("# disconnected");
        self.desk().pid.store(0, SeqCst);
        (self.session, self.transaction) = (None, None);
        self.cursors.clear();
    }

    /// Whether every session has temporary tables of its own.
    pub fn has_temporary(&self) -> bool {
        self.world.hiding != Hiding::InProcedures
    }

    /// Where the background vacuum is at work, only one session takes its locks away.
    pub fn changes_tables(&self) -> bool {
        self.world.hiding != Hiding::InProcedures || self.number == 0
    }

    /// Whether transactions of this session may last: those that change tables keep the background vacuum out.
    pub fn prepares(&self) -> bool {
        self.world.hiding != Hiding::InProcedures || self.number > 0
    }

    fn desk(&self) -> &'w super::world::Desk {
        &self.world.desks[self.number]
    }

    fn is_disturbed(&self) -> bool {
        self.connected_at != (self.world.upheavals(), self.desk().disturbances.load(SeqCst))
    }
}

/// A statement that hangs is a bug, a lock that is not to be had is not.
const SETTINGS: &str = "
    set lock_timeout = '300ms'; set deadlock_timeout = '50ms'; set statement_timeout = '120s';
    set client_min_messages = warning;";
