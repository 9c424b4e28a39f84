//! Sessions: the options of the command line, passwords from the terminal, and what has to be cancelled when the user
//! interrupts the program.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use rbytea_connect::{Canceller, Environment, Parameters, Session, Target, is_connection_string, sql};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use crate::error::Error;
use crate::lock::locked;
use crate::progress::say;

/// How long the server may take to hear of an interruption.
const CANCELLING: Duration = Duration::from_secs(5);

/// The longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where to connect, as PostgreSQL's own programs ask for it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection options")]
pub struct ConnectionOptions {
    /// Database, or a connection string or URI
    #[arg(short, long, value_name = "NAME|URI", overrides_with = "dbname")]
    pub dbname: Option<String>,
    /// Host, or the directory of the server's socket
    #[arg(short, long, overrides_with = "host")]
    pub host: Option<String>,
    /// Port
    #[arg(short, long, overrides_with = "port")]
    pub port: Option<String>,
    /// User
    #[arg(short = 'U', long, value_name = "NAME", overrides_with = "username")]
    pub username: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, overrides_with = "no_password")]
    pub no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long, overrides_with_all = ["password", "no_password"])]
    pub password: bool,
    /// Show this and end
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
}

impl ConnectionOptions {
    /// What they say, without the environment.
    pub fn parameters(&self) -> Result<Parameters, Error> {
        let mut said = Parameters::default();
        if let Some(name) = &self.dbname {
            if is_connection_string(name) {
                said = Parameters::parse(name)?;
            } else {
                said.set("dbname", name)?;
            }
        }
        for (keyword, value) in [("host", &self.host), ("port", &self.port), ("user", &self.username)] {
            if let Some(value) = value {
                said.set(keyword, value)?;
            }
        }
        Ok(said)
    }
}

type Cancellers = Arc<Mutex<BTreeMap<u64, Canceller>>>;

/// Makes sessions, and knows those that are open.
#[derive(Clone, Default)]
pub struct Connector {
    known: Arc<Mutex<Option<Target>>>,
    /// What the user has typed.
    password: Arc<Mutex<Option<String>>>,
    sessions: Cancellers,
}

/// An open session.
pub struct Db {
    session: Session,
    _known: Known,
}

/// The entry of a session among those that can be cancelled, for as long as the session is open.
struct Known {
    number: u64,
    sessions: Cancellers,
}

impl Deref for Db {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.session.client
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        locked(&self.sessions).remove(&self.number);
    }
}

impl Db {
    /// Ends the session, and waits for that.
    pub async fn close(self) {
        self.session.close().await;
    }
}

fn notice(notice: &DbError) {
    say(&sql::message(notice));
}

impl Connector {
    /// Connects for the first time: asks for a password if the server does.
    pub async fn open(&self, options: &ConnectionOptions) -> Result<Db, Error> {
        let mut said = options.parameters()?;
        if said.get("fallback_application_name").is_none() {
            said.set("fallback_application_name", "rbytea")?;
        }
        let mut target = Target::resolve(said, &Environment::of_process())?;
        for warning in &target.warnings {
            say(&format!("WARNING: {warning}"));
        }
        if options.password {
            target = self.with_password(&target)?;
        }
        *locked(&self.known) = Some(target.clone());
        match self.connect().await {
            Err(Error::Connect(error)) if error.wants_password() && !options.no_password => {
                *locked(&self.known) = Some(self.with_password(&target)?);
                self.connect().await
            }
            other => other,
        }
    }

    fn with_password(&self, target: &Target) -> Result<Target, Error> {
        let password = ask(target.user())?;
        let target = target.with_password(&password);
        *locked(&self.password) = Some(password);
        Ok(target)
    }

    /// The password that the user was asked for.
    pub fn password(&self) -> Option<String> {
        locked(&self.password).clone()
    }

    fn target(&self) -> Result<Target, Error> {
        locked(&self.known).clone().ok_or_else(|| Error::said("there was no first connection"))
    }

    /// Another session like the first one.
    pub async fn connect(&self) -> Result<Db, Error> {
        self.connect_to(&self.target()?).await
    }

    /// Another session like the first one in another database.
    pub async fn connect_in(&self, database: &str) -> Result<Db, Error> {
        self.connect_to(&self.target()?.with_database(database)).await
    }

    async fn connect_to(&self, target: &Target) -> Result<Db, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let session = target.connect(notice).await?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        locked(&self.sessions).insert(number, session.canceller.clone());
        Ok(Db { session, _known: Known { number, sessions: Arc::clone(&self.sessions) } })
    }

    /// Another session, as soon as the server gives one, for so long.
    pub async fn connect_within(&self, limit: Duration) -> Result<Db, Error> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(100);
        loop {
            match self.connect().await {
                Err(error) if error.is_lost() && Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// What cancels the sessions that are open now.
    pub fn cancellers(&self) -> Vec<Canceller> {
        locked(&self.sessions).values().cloned().collect()
    }
}

/// Has the server give up what these sessions run.
pub async fn cancel(sessions: Vec<Canceller>) {
    let requests = sessions.iter().map(Canceller::cancel);
    // A server that cannot be told notices that its client is gone.
    let _ = tokio::time::timeout(CANCELLING, futures_util::future::join_all(requests)).await;
}

/// Asks at the terminal, which does not show what is typed.
fn ask(user: &str) -> Result<String, Error> {
    let no_terminal = |error| Error::said(format!("no terminal to ask for a password at: {error}"));
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    write!(&terminal, "Password for user {user}: ").map_err(no_terminal)?;
    let before = tcgetattr(&terminal).map_err(|error| no_terminal(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| no_terminal(error.into()))?;
    let mut word = String::new();
    let read = BufReader::new(&terminal).read_line(&mut word);
    // Whatever came of it, the terminal shows again what is typed.
    let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
    let _ = writeln!(&terminal);
    read.map_err(no_terminal)?;
    Ok(word.trim_end_matches(['\r', '\n']).to_owned())
}
