//! A storage: what Orthanc asks for, tried again until it is done or time is up.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rbytea_connect::sql::identifier;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::check::check;
use crate::config::Config;
use crate::error::Error;
use crate::files::{File, Files};
use crate::holder::Holder;
use crate::old::Old;
use crate::pool::{Connection, Load, Moved, Pool};
use crate::prepared::Db;
use crate::schema::Schema;

/// The first pause between two attempts; each one is twice as long as the one before.
const SHORTEST: Duration = Duration::from_millis(50);

/// The stack of a thread that does something with a connection.
const STACK: usize = 2 << 20;

/// Memory that a file is read into.
pub trait Buffer: Send {
    /// As many bytes as the file has. Called again if reading has to begin again, for the same length.
    fn of(&mut self, len: u64) -> Result<&mut [MaybeUninit<u8>], Error>;
}

/// How serious a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing.
    Warning,
    /// Something was not done.
    Error,
}

/// Where lines go that an administrator should see. None of them has a password.
#[derive(Clone, Copy)]
pub struct Log(pub fn(Severity, &str));

impl Log {
    pub(crate) fn line(self, severity: Severity, text: &str) {
        (self.0)(severity, text);
    }
}

/// What was done since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files that were stored.
    pub stored: AtomicU64,
    /// Their bytes.
    pub stored_bytes: AtomicU64,
    /// Files that were read, and ranges of them.
    pub read: AtomicU64,
    /// Their bytes.
    pub read_bytes: AtomicU64,
    /// Files that were removed.
    pub removed: AtomicU64,
    /// Attempts after the first one.
    pub retries: AtomicU64,
    /// Operations that came to an error.
    pub failed: AtomicU64,
}

/// The files of an Orthanc.
pub struct Storage {
    pool: Pool,
    files: Files,
    holder: Option<Holder>,
    old: Option<Old>,
    patience: Duration,
    interval: Duration,
    log: Log,
    counts: Counts,
    place: String,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

/// Tries until it works, it is clear that it never will, or time is up; a second time in any case, because the first one may have
/// waited for all of that time for a server that said nothing.
fn persist<T>(
    until: Instant,
    longest: Duration,
    mut again: impl FnMut(&Error),
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut pause = SHORTEST;
    let mut first = true;
    loop {
        match attempt() {
            Err(error) if error.is_transient() && (first || Instant::now() + pause < until) => {
                again(&error);
                std::thread::sleep(pause);
                pause = (pause * 2).min(longest.max(SHORTEST));
                first = false;
            }
            outcome => return outcome,
        }
    }
}

impl Storage {
    /// Connects, waits for a server that is not up yet, sees that the database is what it has to be, makes the tables, and takes the lock.
    pub fn open(config: Config, log: Log) -> Result<Self, Error> {
        let Config { target, schema: name, lock, connections, patience, interval, old } = config;
        let until = Instant::now() + patience;
        let waiting = |error: &Error| {
            log.line(Severity::Warning, &format!("{}; trying again", error.chain()));
        };
        for warning in &target.warnings {
            log.line(Severity::Warning, warning);
        }
        let schema = persist(until, interval, waiting, || {
            Connection::open(&target)?.run(async |db: &Client| {
                for warning in check(db).await? {
                    log.line(Severity::Warning, &warning);
                }
                if let Some(old) = &old {
                    old.check(db).await?;
                }
                Schema::set_up(db, &name).await
            })
        })?;
        let mut place = format!("schema {} of database \"{}\"", identifier(&name), target.database());
        if let Some(old) = &old {
            place += &format!("; those that are not there are read from {old}");
        }
        let holder = match lock {
            true => Some(Holder::start(target.clone(), schema.clone(), log)?),
            false => None,
        };
        if let Some(holder) = &holder {
            holder.epoch(until.max(Instant::now() + interval))?;
        }
        let pool = Pool::new(target, connections);
        let files = Files::new(&schema);
        Ok(Self { pool, files, holder, old, patience, interval, log, counts: Counts::default(), place })
    }

    /// Where the files are, in words.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What was done since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the connections do now.
    pub fn load(&self) -> Load {
        self.pool.load()
    }

    /// Whether the lock is held; None without `Lock`.
    pub fn holds_lock(&self) -> Option<bool> {
        self.holder.as_ref().map(Holder::is_held)
    }

    /// Stores a file. If it is there already, with this type and content, that is what was asked for.
    pub fn create(&self, uuid: &str, content_type: i32, content: &[u8]) -> Result<(), Error> {
        self.persist("store", uuid, |name, until| {
            let file = File { uuid: name, content_type, content };
            let epoch = self.epoch(until)?;
            let stored = self.pool.with(until, async |db: &Db<'_>, moved: &Moved| {
                self.files.create(db, file, epoch, moved).await
            });
            self.doubt(stored, epoch)
        })?;
        add(&self.counts.stored, 1);
        add(&self.counts.stored_bytes, content.len() as u64);
        Ok(())
    }

    /// Reads a file.
    pub fn read(&self, uuid: &str, buffer: &mut dyn Buffer) -> Result<(), Error> {
        let mut len = 0;
        self.persist("read", uuid, |name, until| {
            let mut counting = Counting { buffer: &mut *buffer, len: &mut len };
            self.pool.with(until, async |db: &Db<'_>, moved: &Moved| {
                let outcome = self.files.read(db, name, &mut counting, moved).await;
                let (Err(Error::Missing(_)), Some(old)) = (&outcome, &self.old) else { return outcome };
                match old.read(db, uuid, &mut counting, moved).await {
                    // Moved between the two.
                    Err(Error::Missing(_)) => self.files.read(db, name, &mut counting, moved).await,
                    outcome => outcome,
                }
            })
        })?;
        add(&self.counts.read, 1);
        add(&self.counts.read_bytes, len);
        Ok(())
    }

    /// Reads a range of a file, as many bytes as the target has. A range of all bytes is compared with what was stored.
    pub fn read_range(&self, uuid: &str, start: u64, target: &mut [MaybeUninit<u8>]) -> Result<(), Error> {
        self.persist("read", uuid, |name, until| {
            self.pool.with(until, async |db: &Db<'_>, moved: &Moved| {
                let outcome = self.files.read_range(db, name, start, target, moved).await;
                let (Err(Error::Missing(_)), Some(old)) = (&outcome, &self.old) else { return outcome };
                match old.read_range(db, uuid, start, target, moved).await {
                    // Moved between the two.
                    Err(Error::Missing(_)) => self.files.read_range(db, name, start, target, moved).await,
                    outcome => outcome,
                }
            })
        })?;
        add(&self.counts.read, 1);
        add(&self.counts.read_bytes, target.len() as u64);
        Ok(())
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, uuid: &str) -> Result<(), Error> {
        self.persist("remove", uuid, |name, until| {
            let epoch = self.epoch(until)?;
            let removed = self.pool.with(until, async |db: &Db<'_>, _| {
                // This tells whether the lock is held.
                self.files.remove(db, name, epoch).await?;
                match &self.old {
                    Some(old) => old.remove(db, uuid).await,
                    None => Ok(()),
                }
            });
            self.doubt(removed, epoch)
        })?;
        add(&self.counts.removed, 1);
        Ok(())
    }

    fn epoch(&self, until: Instant) -> Result<Option<i64>, Error> {
        self.holder.as_ref().map(|holder| holder.epoch(until)).transpose()
    }

    /// Where the tables have another epoch, it is seen to who holds the lock.
    fn doubt(&self, outcome: Result<(), Error>, epoch: Option<i64>) -> Result<(), Error> {
        if let (Err(Error::Lock(_)), Some(holder)) = (&outcome, &self.holder) {
            holder.doubt(epoch);
        }
        outcome
    }

    /// One operation, with its attempts and its line in the log, on a thread of its own: those of Orthanc's web server have a stack of
    /// 100 kB, which is too little for TLS and the client.
    fn persist<T: Send>(
        &self,
        what: &str,
        uuid: &str,
        attempt: impl FnMut(Uuid, Instant) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let outcome = parse(uuid).and_then(|name| {
            std::thread::scope(|scope| {
                let builder = std::thread::Builder::new().name("rbytea".into()).stack_size(STACK);
                let thread = builder.spawn_scoped(scope, || self.attempts(what, name, attempt))?;
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        outcome.inspect_err(|error| {
            add(&self.counts.failed, 1);
            let text = format!("could not {what} file {uuid}: {}", error.chain());
            self.log.line(Severity::Error, &text);
        })
    }

    fn attempts<T>(
        &self,
        what: &str,
        name: Uuid,
        mut attempt: impl FnMut(Uuid, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let until = Instant::now() + self.patience;
        let mut attempts = 1_u32;
        let again = |error: &Error| {
            add(&self.counts.retries, 1);
            if matches!(error, Error::Sql(_) | Error::Connect(_)) {
                self.pool.forget_idle();
            }
            if attempts == 1 {
                let text = format!("could not {what} file {name}: {}; trying again", error.chain());
                self.log.line(Severity::Warning, &text);
            }
            attempts += 1;
        };
        persist(until, self.interval, again, || attempt(name, until))
    }
}

/// Passes a buffer on, and notes its length.
struct Counting<'a> {
    buffer: &'a mut dyn Buffer,
    len: &'a mut u64,
}

impl Buffer for Counting<'_> {
    fn of(&mut self, len: u64) -> Result<&mut [MaybeUninit<u8>], Error> {
        *self.len = len;
        self.buffer.of(len)
    }
}

fn parse(uuid: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(uuid).map_err(|_| Error::Invalid(format!("\"{uuid}\" is not a uuid")))
}
