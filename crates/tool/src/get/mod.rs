//! `rbytea get`: rows into files, all of one snapshot. A file appears under its name when it is complete, and never outside of
//! the directory that was given.

mod fetch;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use clap::{Args, value_parser};
use futures_util::future::join_all;

use crate::catalog::{Extension, Table, literal};
use crate::connection::{ConnectionOptions, Connector, locked};
use crate::error::Error;
use crate::human;
use crate::names::Directory;
use crate::progress::{Measure, Progress, say};

use fetch::Worker;
use rows::{Row, Rows};

/// Options of `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// Table, as it is written in SQL
    #[arg(short, long)]
    table: String,
    /// Column of type rbytea
    #[arg(short, long)]
    column: String,
    /// Condition in SQL
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    /// Column with the names of the files, which may have directories
    #[arg(short, long, value_name = "COLUMN", required_unless_present = "condition")]
    name_column: Option<String>,
    /// Name of a row
    #[arg(long, requires = "name_column")]
    name: Vec<String>,
    /// File, existing directory, or - for standard output; without it, the current directory
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(short, long)]
    force: bool,
    /// Compare each file's SHA-256 with what the server says
    #[arg(long)]
    verify: bool,
    /// Files that are written at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// How long to try to connect again after a lost connection
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry: u64,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Where the bytes go.
enum Output {
    /// Standard output, of the only row.
    Standard,
    /// A file of this name in a directory, of the only row.
    File(Directory, String),
    /// Below a directory, under the rows' names.
    Below(Directory),
}

impl Output {
    fn of(options: &Get) -> Result<Self, Error> {
        match options.output.as_deref() {
            None => {
                if options.name_column.is_none() {
                    return Err(Error::said("rows without names need --output"));
                }
                Ok(Self::Below(Directory::open(Path::new("."))?))
            }
            Some(path) if path.as_os_str() == "-" => Ok(Self::Standard),
            Some(path) if path.is_dir() => {
                if options.name_column.is_none() {
                    return Err(Error::said("a directory's files take their names from --name-column"));
                }
                Ok(Self::Below(Directory::open(path)?))
            }
            Some(path) => {
                let name = path.file_name().and_then(|name| name.to_str());
                let name =
                    name.ok_or_else(|| Error::said(format!("\"{}\" is no name of a file", path.display())))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                Ok(Self::File(Directory::open(parent.unwrap_or(Path::new(".")))?, name.to_owned()))
            }
        }
    }
}

/// What all rows of a run have in common.
struct Run {
    connector: Connector,
    extension: Extension,
    table: Table,
    /// In quotes.
    column: String,
    output: Output,
    replace: bool,
    verify: bool,
    retry: Duration,
    progress: Progress,
}

#[derive(Default)]
struct Tally {
    got: u64,
    bytes: u64,
    failed: u64,
}

/// Gets the rows; an error if one of them is not a file afterwards.
pub async fn run(options: Get, connector: &Connector) -> Result<(), Error> {
    let output = Output::of(&options)?;
    let db = connector.open(&options.connection).await?;
    let extension = Extension::of(&db).await?;
    let table = Table::find(&db, &options.table).await?;
    let column = table.column(&db, &options.column).await?;
    let name = match &options.name_column {
        Some(name) => Some(table.column(&db, name).await?),
        None => None,
    };
    let condition = condition(&options, name.as_deref())?;
    let rows = Rows::of(db, &extension, &table, &column, name.as_deref(), &condition).await?;
    let total = rows.total().await?;
    if !matches!(output, Output::Below(_)) && total.0 != 1 {
        return Err(Error::said(format!(
            "{} rows fit; one file takes exactly one, several take a directory and --name-column",
            total.0
        )));
    }
    let run = Run {
        connector: connector.clone(),
        extension,
        table,
        column,
        output,
        replace: options.force,
        verify: options.verify,
        retry: Duration::from_secs(options.retry),
        progress: Progress::new(options.quiet, "files", Measure::Bytes, Some(total)),
    };
    let missing = rows.missing(&options.name).await?;
    for name in &missing {
        say(&format!("{name}: no such row"));
    }
    let tally = Mutex::new(Tally { failed: missing.len() as u64, ..Tally::default() });
    let rows = tokio::sync::Mutex::new(rows);
    let jobs = u64::from(options.jobs).min(total.0);
    join_all((0..jobs).map(|_| run.work(&rows, &tally))).await;
    rows.into_inner().end().await;
    if let Output::File(directory, _) | Output::Below(directory) = &run.output {
        // Who deletes rows after this relies on the files.
        rustix::fs::syncfs(directory.fd())
            .map_err(|error| Error::said(format!("could not flush the files: {error}")))?;
    }
    let time = run.progress.end();
    let tally = locked(&tally);
    if !options.quiet {
        say(&format!("got {}", human::done(tally.got, "file", tally.bytes, time)));
    }
    if tally.failed == 0 {
        Ok(())
    } else {
        Err(Error::said(format!("{} not got", human::count(tally.failed, "file"))))
    }
}

/// Which rows; the user's own condition stands in parentheses.
fn condition(options: &Get, name: Option<&str>) -> Result<String, Error> {
    let mut parts = Vec::new();
    if let Some(condition) = &options.condition {
        parts.push(format!("({condition}\n)"));
    }
    if let Some(name) = name.filter(|_| !options.name.is_empty()) {
        if options.name.iter().any(|name| name.contains('\0')) {
            return Err(Error::said("a name cannot have a zero byte"));
        }
        let names: Vec<_> = options.name.iter().map(|name| literal(name)).collect();
        parts.push(format!("{name} IN ({})", names.join(", ")));
    }
    Ok(if parts.is_empty() { "true".into() } else { parts.join(" AND ") })
}

impl Run {
    /// Gets one row after the other, in a session of its own.
    async fn work(&self, rows: &tokio::sync::Mutex<Rows>, tally: &Mutex<Tally>) {
        let mut worker = Worker::new(self);
        loop {
            let (row, snapshot) = {
                let mut rows = rows.lock().await;
                match rows.next(self).await {
                    Ok(Some(row)) => (row, rows.snapshot().to_owned()),
                    Ok(None) => break,
                    Err(error) => {
                        locked(tally).failed += 1;
                        say(&error.to_string());
                        break;
                    }
                }
            };
            match worker.get(&row, &snapshot).await {
                Ok(bytes) => {
                    let mut tally = locked(tally);
                    tally.got += 1;
                    tally.bytes += bytes;
                    self.progress.add_things(1);
                }
                Err(error) => {
                    locked(tally).failed += 1;
                    say(&format!("{}: {error}", row.shown()));
                }
            }
        }
        worker.end().await;
    }

    /// The row's file, in its directory.
    fn place(&self, row: &Row) -> Result<Option<(Directory, String)>, Error> {
        match &self.output {
            Output::Standard => Ok(None),
            Output::File(directory, name) => Ok(Some((directory.again()?, name.clone()))),
            Output::Below(directory) => {
                let name = row.name.as_deref().ok_or_else(|| Error::said("the row has no name"))?;
                let (directory, name) = directory.place(name)?;
                Ok(Some((directory, name.to_owned())))
            }
        }
    }
}
