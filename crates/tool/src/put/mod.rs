//! `rbytea put`: files into rows. Each file is a transaction; what is committed is not put twice, whatever becomes of the
//! connection.

mod commit;
mod sources;
mod store;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use tokio_postgres::types::Type;

use crate::catalog::{Extension, Table, literal};
use crate::connection::{ConnectionOptions, Connector, Db, locked};
use crate::error::Error;
use crate::human;
use crate::progress::{Measure, Progress, say};

use sources::{Source, Sources};

/// Options of `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// Table, as it is written in SQL
    #[arg(short, long)]
    table: String,
    /// Column of type rbytea
    #[arg(short, long)]
    column: String,
    /// Column for the names of the files; in a directory, relative to it
    #[arg(short, long, value_name = "COLUMN")]
    name_column: Option<String>,
    /// Name of what comes from standard input or is the only file
    #[arg(long)]
    name: Option<String>,
    /// Value of another column
    #[arg(long, value_name = "COLUMN=VALUE")]
    set: Vec<String>,
    /// Files that are put at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Leave out files whose name is there with as many bytes
    #[arg(long, requires = "name_column")]
    skip_existing: bool,
    /// With --skip-existing: and with the same SHA-256
    #[arg(long, requires = "skip_existing")]
    verify: bool,
    /// How long to try to connect again after a lost connection
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry: u64,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Files, directories, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// What all files of a run have in common.
struct Run {
    connector: Connector,
    statements: Statements,
    skip_existing: bool,
    verify: bool,
    retry: Duration,
    progress: Progress,
}

/// The SQL of a run.
struct Statements {
    /// Opens an upload: its handle, and the transaction's id.
    begin: String,
    /// The rows of this COPY are appended to the uploads they name.
    upload: String,
    /// Puts an upload into a row: handle, and the name if there is a column for it.
    finish: String,
    /// Puts a parameter into a row: bytes, name. Returns the transaction's id.
    insert: String,
    /// Lengths of the rows with a name, the digests too if they are compared.
    existing: Option<String>,
}

impl Statements {
    async fn of(options: &Put, db: &Db) -> Result<Self, Error> {
        let extension = Extension::of(db).await?;
        let table = Table::find(db, &options.table).await?;
        let column = table.column(db, &options.column).await?;
        let name = match &options.name_column {
            Some(name) => Some(table.column(db, name).await?),
            None => None,
        };
        let mut columns = vec![column.clone()];
        let mut others = Vec::new();
        if let Some(name) = &name {
            columns.push(name.clone());
            others.push("$2::pg_catalog.text".to_owned());
        }
        for set in &options.set {
            let (other, value) =
                set.split_once('=').ok_or_else(|| Error::said(format!("--set {set}: no \"=\"")))?;
            columns.push(table.column(db, other).await?);
            others.push(literal(value));
        }
        let insert = |value: String| {
            let values: Vec<_> = std::iter::once(value).chain(others.iter().cloned()).collect();
            format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), values.join(", "))
        };
        let xid = "pg_catalog.pg_current_xact_id()::pg_catalog.text";
        Ok(Self {
            begin: format!("SELECT {}(), {xid}", extension.function("rbytea_begin")),
            upload: format!(
                "COPY {} (upload, chunk) FROM STDIN (FORMAT binary)",
                extension.function("rbytea_upload")
            ),
            finish: insert(format!("{}($1::pg_catalog.int8)", extension.function("rbytea_finish"))),
            insert: format!("{} RETURNING {xid}", insert("$1::pg_catalog.bytea".into())),
            existing: name.map(|name| {
                let digest = if options.verify {
                    format!("{}({column})", extension.function("sha256sum"))
                } else {
                    "NULL::pg_catalog.text".into()
                };
                format!(
                    "SELECT {digest} FROM {} WHERE {name} = $1::pg_catalog.text AND {}({column}) = $2::pg_catalog.int8",
                    table.name,
                    extension.function("len")
                )
            }),
        })
    }
}

/// Puts the files; an error if one of them is not there afterwards.
pub async fn run(options: Put, connector: &Connector) -> Result<(), Error> {
    let stream = options.paths.iter().any(|path| path.as_os_str() == "-");
    if options.name.is_some() && options.paths.len() > 1 {
        return Err(Error::said("--name is for one file"));
    }
    if stream && options.name_column.is_some() && options.name.is_none() {
        return Err(Error::said("what comes from standard input has no name of its own: --name gives one"));
    }
    let db = connector.open(&options.connection).await?;
    let statements = Statements::of(&options, &db).await?;
    let total = sources::total(&options.paths);
    let progress = Progress::new(options.quiet, "files", Measure::Bytes, total);
    let run = Run {
        connector: connector.clone(),
        statements,
        skip_existing: options.skip_existing,
        verify: options.verify,
        retry: Duration::from_secs(options.retry),
        progress,
    };
    let sources = Mutex::new(Sources::of(options.paths, options.name));
    let tally = Mutex::new(Tally::default());
    let mut sessions = vec![Some(db)];
    sessions.resize_with(usize::from(options.jobs), || None);
    join_all(sessions.into_iter().map(|session| run.work(session, &sources, &tally))).await;
    let time = run.progress.end();
    let tally = locked(&tally);
    if !options.quiet {
        let skipped = if tally.skipped > 0 { format!(", {} left out", tally.skipped) } else { String::new() };
        say(&format!("put {}{skipped}", human::done(tally.put, "file", tally.bytes, time)));
    }
    if tally.failed == 0 {
        Ok(())
    } else {
        Err(Error::said(format!("{} not put", human::count(tally.failed, "file"))))
    }
}

#[derive(Default)]
struct Tally {
    put: u64,
    bytes: u64,
    skipped: u64,
    failed: u64,
}

impl Run {
    /// Puts one file after the other, in a session of its own.
    async fn work(&self, mut session: Option<Db>, sources: &Mutex<Sources>, tally: &Mutex<Tally>) {
        loop {
            let Some(next) = locked(sources).next() else { break };
            let outcome = match next {
                Ok(source) => {
                    let put = pin!(self.put(&mut session, &source));
                    put.await.map_err(|error| (source.shown(), error))
                }
                Err((path, error)) => Err((path, error)),
            };
            let mut tally = locked(tally);
            match outcome {
                Ok(Some(bytes)) => {
                    tally.put += 1;
                    tally.bytes += bytes;
                    self.progress.add_things(1);
                }
                Ok(None) => {
                    tally.skipped += 1;
                    self.progress.add_things(1);
                }
                Err((shown, error)) => {
                    tally.failed += 1;
                    say(&format!("{shown}: {error}"));
                }
            }
        }
        if let Some(db) = session {
            db.close().await;
        }
    }

    /// Whether a row has this name and this length, and this digest if that is compared.
    async fn exists(&self, db: &Db, name: &str, len: u64, digest: Option<&str>) -> Result<bool, Error> {
        let Some(query) = &self.statements.existing else { return Ok(false) };
        let len = i64::try_from(len).map_err(|_| Error::said("too long"))?;
        let rows = db.query_typed(query, &[(&name, Type::TEXT), (&len, Type::INT8)]).await?;
        Ok(rows.iter().any(|row| digest.is_none() || row.get::<_, Option<&str>>(0) == digest))
    }

    /// Puts a file, or leaves it out; its length if it was put.
    async fn put(&self, session: &mut Option<Db>, source: &Source) -> Result<Option<u64>, Error> {
        store::put(self, session, source).await
    }
}
