//! A session that blocks: tokio-postgres behind methods that read like sentences. Errors fail the test, unless
//! the method's name says that one is expected. `start` runs statements in the background.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, Row, SimpleQueryMessage};

use super::cluster::PATIENCE;

/// Statement parameters.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The notices, warnings and so on that a session was sent, in order.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Vec<DbError>>>);

impl Notices {
    /// Takes what has come since the last call.
    pub fn take(&self) -> Vec<DbError> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The runtime of all blocking sessions.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// Connects; the connection is driven by a task of the current runtime.
pub async fn connect(config: &Config) -> Client {
    connect_with_notices(config).await.unwrap().0
}

/// The same with the notices.
pub async fn connect_with_notices(config: &Config) -> Result<(Client, Notices), Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let notices = Notices::default();
    tokio::spawn(drive(connection, notices.clone()));
    Ok((client, notices))
}

/// Drives a connection until its client is gone or it breaks, which shows in the statement that it breaks.
async fn drive<S, T>(mut connection: Connection<S, T>, notices: Notices)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message {
            notices.0.lock().unwrap().push(notice);
        }
    }
}

/// Where the server of a configuration listens: the tests' servers have no other way in.
fn socket(config: &Config) -> PathBuf {
    let (Some(Host::Unix(dir)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        panic!("not a Unix-domain socket: {config:?}");
    };
    dir.join(format!(".s.PGSQL.{port}"))
}

/// A blocking session. Dropping it closes it and waits for its backend's end: what a backend does on its way out, such as
/// to drop temporary tables, is a transaction, and would hold up a vacuum that comes next.
pub struct Session {
    client: Arc<Client>,
    notices: Notices,
    socket: PathBuf,
    _end: End,
}

/// Waits, when dropped after the last reference to a client, for the task that drives the client's connection.
struct End {
    client: Weak<Client>,
    task: Option<JoinHandle<()>>,
}

impl Drop for End {
    fn drop(&mut self) {
        // One whose statements go on in the background goes on too.
        if let Some(task) = self.task.take().filter(|_| self.client.strong_count() == 0) {
            // A server that a test has frozen closes nothing.
            let _ = block_on(async { timeout(PATIENCE, task).await });
        }
    }
}

impl Session {
    /// Connects.
    #[track_caller]
    pub fn connect(config: &Config) -> Self {
        Self::try_connect(config).unwrap()
    }

    /// Connects where that may be refused.
    pub fn try_connect(config: &Config) -> Result<Self, Error> {
        let socket = socket(config);
        block_on(async {
            let Ok(stream) = UnixStream::connect(&socket).await else {
                let (client, notices) = connect_with_notices(config).await?; // for its error
                return Ok(Self::new(client, notices, socket, None));
            };
            let stream = stream.into_std().unwrap();
            let mut end = UnixStream::from_std(stream.try_clone().unwrap()).unwrap();
            let stream = UnixStream::from_std(stream).unwrap();
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            let notices = Notices::default();
            let driven = drive(connection, notices.clone());
            let task = tokio::spawn(async move {
                driven.await;
                // The kernel closes a backend's socket with the process.
                let _ = end.read_to_end(&mut Vec::new()).await;
            });
            Ok(Self::new(client, notices, socket, Some(task)))
        })
    }

    fn new(client: Client, notices: Notices, socket: PathBuf, task: Option<JoinHandle<()>>) -> Self {
        let client = Arc::new(client);
        let end = End { client: Arc::downgrade(&client), task };
        Self { client, notices, socket, _end: end }
    }

    /// The asynchronous client behind it, for `block_on`.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The backend's process id.
    pub fn pid(&self) -> i32 {
        self.one("select pg_backend_pid()", &[])
    }

    /// The OID of the database.
    pub fn database(&self) -> u32 {
        self.one("select oid from pg_database where datname = current_database()", &[])
    }

    /// Runs one or several statements without parameters.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| fail(sql, error));
    }

    /// The same where an error is possible.
    pub fn try_run(&self, sql: &str) -> Result<(), Error> {
        block_on(settled(&self.client, self.client.batch_execute(sql)))
    }

    /// Runs one statement; the number of rows it affected.
    #[track_caller]
    pub fn execute(&self, sql: &str, params: Params<'_>) -> u64 {
        block_on(self.client.execute(sql, params)).unwrap_or_else(|error| fail(sql, error))
    }

    /// The only column of the only row.
    #[track_caller]
    pub fn one<T: FromSqlOwned>(&self, sql: &str, params: Params<'_>) -> T {
        block_on(self.client.query_one(sql, params)).unwrap_or_else(|error| fail(sql, error)).get(0)
    }

    /// The first column of every row.
    #[track_caller]
    pub fn column<T: FromSqlOwned>(&self, sql: &str, params: Params<'_>) -> Vec<T> {
        self.rows(sql, params).iter().map(|row| row.get(0)).collect()
    }

    /// All rows.
    #[track_caller]
    pub fn rows(&self, sql: &str, params: Params<'_>) -> Vec<Row> {
        block_on(self.client.query(sql, params)).unwrap_or_else(|error| fail(sql, error))
    }

    /// The rows of the last query in text format as psql -At prints them: fields joined by `|`, NULL empty.
    #[track_caller]
    pub fn text(&self, sql: &str) -> String {
        let messages = block_on(self.client.simple_query(sql)).unwrap_or_else(|error| fail(sql, error));
        let mut lines = Vec::new();
        for message in &messages {
            match message {
                SimpleQueryMessage::RowDescription(_) => lines.clear(),
                SimpleQueryMessage::Row(row) => {
                    let fields: Vec<&str> =
                        (0..row.len()).map(|at| row.get(at).unwrap_or_default()).collect();
                    lines.push(fields.join("|"));
                }
                _ => {}
            }
        }
        lines.join("\n")
    }

    /// The error that these statements must raise.
    #[track_caller]
    pub fn error(&self, sql: &str) -> DbError {
        match self.try_run(sql) {
            Ok(()) => panic!("no error from: {sql}"),
            Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{error} from: {sql}")).clone(),
        }
    }

    /// The SQLSTATE that these statements must raise.
    #[track_caller]
    pub fn sqlstate(&self, sql: &str) -> SqlState {
        self.error(sql).code().clone()
    }

    /// The error that this statement with parameters must raise.
    #[track_caller]
    pub fn error_with(&self, sql: &str, params: Params<'_>) -> DbError {
        match block_on(settled(&self.client, self.client.query(sql, params))) {
            Ok(_) => panic!("no error from: {sql}"),
            Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{error} from: {sql}")).clone(),
        }
    }

    /// The notices since the last call.
    pub fn notices(&self) -> Vec<DbError> {
        self.notices.take()
    }

    /// COPY … FROM STDIN of these bytes; the number of rows.
    #[track_caller]
    pub fn copy_in(&self, sql: &str, data: &[u8]) -> u64 {
        block_on(async {
            let sink = self.client.copy_in(sql).await?;
            pin_mut!(sink);
            for chunk in data.chunks(1 << 16) {
                sink.send(bytes::Bytes::copy_from_slice(chunk)).await?;
            }
            sink.finish().await
        })
        .unwrap_or_else(|error| fail(sql, error))
    }

    /// What COPY … TO STDOUT writes.
    #[track_caller]
    pub fn copy_out(&self, sql: &str) -> Vec<u8> {
        block_on(async {
            let chunks: Vec<bytes::Bytes> = self.client.copy_out(sql).await?.boxed().try_collect().await?;
            Ok(chunks.concat())
        })
        .unwrap_or_else(|error: Error| fail(sql, error))
    }

    /// Starts statements in the background, to block on a lock for instance.
    pub fn start(&self, sql: &str) -> Running {
        let client = Arc::clone(&self.client);
        let sql = sql.to_owned();
        Running(runtime().spawn(async move { settled(&client, client.batch_execute(&sql)).await }))
    }

    /// Asks the server to cancel what this session runs. The server sends the signal twice (to the process, and to its
    /// group); once it has closed the connection that asked, no signal is under way that could hit the next statement.
    pub fn cancel(&self) {
        block_on(async {
            let mut asking = UnixStream::connect(&self.socket).await.unwrap();
            self.client.cancel_token().cancel_query_raw(&mut asking, NoTls).await.unwrap();
            asking.read_to_end(&mut Vec::new()).await.unwrap();
        });
    }

    /// True while the backend with this process id, another session's, waits for a lock.
    pub fn sees_waiting(&self, pid: i32) -> bool {
        self.one("select exists (select from pg_locks where pid = $1 and not granted)", &[&pid])
    }
}

/// Statements that run in the background.
pub struct Running(JoinHandle<Result<(), Error>>);

impl Running {
    /// True once they have ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for their end.
    pub fn finish(self) -> Result<(), Error> {
        block_on(self.0).unwrap()
    }
}

/// A result; an error only when the transaction has ended by it. The server tells of it before that, and another session
/// could still find the transaction's locks and its snapshot.
async fn settled<T>(client: &Client, result: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let result = result.await;
    if result.is_err() {
        // The answer comes after the end of what was before; none comes if the session has ended.
        let _ = client.batch_execute("").await;
    }
    result
}

/// Runs a future of a blocking session's client to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

#[track_caller]
fn fail(sql: &str, error: Error) -> ! {
    match error.as_db_error() {
        Some(error) => panic!("{error} ({}) from: {sql}", error.code().code()),
        None => panic!("{error} from: {sql}"),
    }
}
