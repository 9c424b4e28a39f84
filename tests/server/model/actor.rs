//! A session at work: what it does next, in which transaction, and how it gets over being refused or killed.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, pin_mut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::{Error, Row};

use super::pairs::{Pair, Side, session_setup};
use super::trouble::{Done, Tolerance, Trouble};
use super::world::World;
use super::{check, copies, ddl, programs, upkeep, writes};
use crate::cluster::PATIENCE;
use crate::session::{Params, Session, block_on};

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
            ddl::OPERATIONS,
            upkeep::OPERATIONS,
            check::OPERATIONS,
        ];
        let hidden: &[&[Operation]] = &[copies::HIDDEN, programs::HIDDEN];
        let lists = if self.world.strict { strict.to_vec() } else { [strict, hidden].concat() };
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
                        self.desk().pid.store(session.pid(), SeqCst);
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
        let setup = format!("{SETTINGS}{}", session_setup());
        self.run(&setup).inspect_err(|_| self.disconnect())
    }

    /// Forgets the connection and all that belonged to it.
    pub fn disconnect(&mut self) {
        self.note("# disconnected");
        self.desk().pid.store(0, SeqCst);
        (self.session, self.transaction) = (None, None);
        self.cursors.clear();
    }

    fn desk(&self) -> &'w super::world::Desk {
        &self.world.desks[self.number]
    }

    fn is_disturbed(&self) -> bool {
        self.connected_at != (self.world.upheavals(), self.desk().disturbances.load(SeqCst))
    }

    // --- statements ------------------------------------------------------------------------------------------

    /// Remembers a line.
    pub fn note(&self, line: &str) {
        self.world.note(self.number, line);
    }

    /// Runs statements without parameters.
    pub fn run(&mut self, sql: &str) -> Done {
        self.try_statement(sql, "", async |session| session.client().batch_execute(sql).await)
    }

    /// Runs one statement; the number of rows it affected.
    pub fn execute(&mut self, sql: &str, params: Params<'_>) -> Done<u64> {
        let shown = shown(params);
        self.try_statement(sql, &shown, async |session| session.client().execute(sql, params).await)
    }

    /// Runs a query.
    pub fn rows(&mut self, sql: &str, params: Params<'_>) -> Done<Vec<Row>> {
        let shown = shown(params);
        self.try_statement(sql, &shown, async |session| session.client().query(sql, params).await)
    }

    /// COPY … FROM STDIN; the number of rows. A session whose COPY was refused starts anew: with some errors
    /// tokio-postgres loses track of the protocol.
    pub fn copy_in(&mut self, sql: &str, data: &[u8]) -> Done<u64> {
        let copied = self.try_statement(sql, &format!("({} bytes)", data.len()), async |session| {
            let sink = session.client().copy_in(sql).await?;
            pin_mut!(sink);
            for chunk in data.chunks(1 << 16) {
                // Why the server takes no more is what finish() says.
                if sink.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                    break;
                }
            }
            sink.finish().await
        });
        copied.map_err(|trouble| if matches!(trouble, Trouble::Refused) { Trouble::Gone } else { trouble })
    }

    /// Runs what `sql` says for a table and for its twin; both have to count the same rows.
    pub fn both(&mut self, sql: impl Fn(Side) -> String, params: Params<'_>) -> Done<u64> {
        let order = if self.chance(0.5) { [Side::Real, Side::Twin] } else { [Side::Twin, Side::Real] };
        let first = self.execute(&sql(order[0]), params)?;
        let second = self.execute(&sql(order[1]), params)?;
        self.expect(first == second, || format!("{first} rows here, {second} there: {}", sql(Side::Real)))?;
        Ok(first)
    }

    /// Something that has to be true.
    pub fn expect(&self, truth: bool, otherwise: impl FnOnce() -> String) -> Done {
        if truth { Ok(()) } else { Err(Trouble::Bug(otherwise())) }
    }

    fn try_statement<T>(
        &mut self,
        sql: &str,
        shown: &str,
        work: impl AsyncFnOnce(&Session) -> Result<T, Error>,
    ) -> Done<T> {
        let Some(session) = &self.session else { return Err(Trouble::Gone) };
        let begun = Instant::now();
        let result = block_on(work(session));
        let line: Vec<&str> = sql.split_whitespace().collect();
        let line: String = line.join(" ").chars().take(600).collect();
        let millis = begun.elapsed().as_millis();
        match result {
            Ok(result) => {
                self.note(&format!("{line} {shown} ({millis} ms)"));
                Ok(result)
            }
            Err(error) => {
                let tolerance = Tolerance {
                    states: self.tolerates,
                    disturbed: self.is_disturbed(),
                    closed: session.client().is_closed(),
                };
                let why = error.as_db_error().map_or(error.to_string(), |error| {
                    format!("{} {}", error.code().code(), error.message())
                });
                self.note(&format!("{line} {shown} ({millis} ms) -> {why}"));
                Err(tolerance.judge(sql, &error))
            }
        }
    }

    // --- choices -----------------------------------------------------------------------------------------------

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end.max(1))
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    /// A number for gen().
    pub fn seed(&mut self) -> i32 {
        self.rng.random_range(0..1 << 20)
    }

    /// Bytes of a payload: mostly few, now and then some hundred thousand.
    pub fn size(&mut self) -> u32 {
        let limit = match self.below(100) {
            0..20 => return self.one_of(&[0, 1, 2, 31, 67, 68, 69, 125, 126, 127, 1999, 2000, 8160]),
            20..50 => 100,
            50..80 => 3_000,
            80..94 => 20_000,
            94..98 => 100_000,
            _ => 300 << 10,
        };
        self.below(limit + 1)
    }

    /// A payload of random bytes, or of one byte often.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![self.below(256) as u8; self.size() as usize];
        if self.chance(0.8) {
            self.rng.fill(&mut bytes[..]);
        }
        bytes
    }

    /// A pair to write to, of those that `wanted` admits; in a transaction also one that was created on the way.
    pub fn pair(&mut self, wanted: impl Fn(&Pair) -> bool) -> Done<Pair> {
        if self.transaction.is_some()
            && self.chance(0.2)
            && let Some(created) = self.created()?
            && wanted(&created)
        {
            return Ok(created);
        }
        let pairs: Vec<Pair> = Pair::all().into_iter().filter(wanted).collect();
        Ok(pairs[self.below(pairs.len() as u32) as usize].clone())
    }

    /// A pair to copy from.
    pub fn source(&mut self) -> Done<Pair> {
        if self.chance(0.1) { Ok(Pair::shadow()) } else { self.pair(|_| true) }
    }

    /// A pair that was created on the way. In a transaction it is locked against DROP TABLE.
    pub fn created(&mut self) -> Done<Option<Pair>> {
        let created = "select substr(relname, 3)::int from pg_class where relname ~ '^x_[0-9]+$' order by 1";
        let numbers: Vec<i32> = self.rows(created, &[])?.iter().map(|row| row.get(0)).collect();
        if numbers.is_empty() {
            return Ok(None);
        }
        let pair = Pair::created(self.one_of(&numbers));
        if self.transaction.is_some() {
            let usual = std::mem::replace(&mut self.tolerates, &["42P01"]);
            let (table, twin) = (pair.on(Side::Real), pair.on(Side::Twin));
            self.run(&format!("lock table {table}, {twin} in access share mode"))?;
            self.tolerates = usual;
        }
        Ok(Some(pair))
    }

    /// Ids of up to `most` rows, locked against all other sessions: what happens to a row happens to its twin too.
    pub fn lock_rows(&mut self, pair: &Pair, most: u32) -> Done<Vec<i32>> {
        let (salt, limit) = (self.seed(), i64::from(1 + self.below(most)));
        let sql = format!(
            "select distinct id, hashint4(id + {salt}) from {} order by 2 limit {limit}",
            pair.on(Side::Twin)
        );
        let mut ids: Vec<i32> = self.rows(&sql, &[])?.iter().map(|row| row.get(0)).collect();
        ids.sort_unstable();
        self.rows("select pg_advisory_xact_lock($1, id) from unnest($2::int[]) id", &[&pair.key, &ids])?;
        Ok(ids)
    }
}

/// Parameters as the journal shows them.
fn shown(params: Params<'_>) -> String {
    if params.is_empty() { String::new() } else { format!("{params:?}").chars().take(200).collect() }
}

/// A statement that hangs is a bug, a lock that is not to be had is not.
const SETTINGS: &str = "
    set lock_timeout = '300ms'; set deadlock_timeout = '50ms'; set statement_timeout = '30s';
    set client_min_messages = warning;";
