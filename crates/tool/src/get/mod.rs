//! `rbytea get`: rows into files, all of one snapshot. A file appears under its name when it is complete, and never outside of
//! the directory that was given.

mod fetch;
mod options;
mod rows;
mod run;

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;

use crate::catalog::{Table, extension, literal};
use crate::connection::Connector;
use crate::error::Error;
use crate::human;
use crate::lock::locked;
use crate::progress::{Measure, Progress, say};

use fetch::Worker;
pub use options::Get;
use rows::Rows;
use run::{Output, Run};

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
    let extension = extension(&db).await?;
    let table = Table::find(&db, &options.table).await?;
    let column = table.payloads(&db, &options.column).await?;
    let name = match &options.name_column {
        Some(name) => Some(table.column(&db, name).await?),
        None => None,
    };
    let condition = condition(&options, name.as_deref())?;
    let rows = Rows::of(db, &extension, &table, &column, name.as_deref(), &condition).await?;
    let total = rows.total().await?;
    if !matches!(output, Output::Below(_)) && total.0 != 1 {
        return Err(Error::said(match (total.0, &options.name_column, &options.output) {
            (0, ..) => "no row fits".into(),
            (rows, Some(_), Some(path)) => format!(
                "{rows} rows fit, and \"{}\" is no directory; several files take one that exists",
                path.display()
            ),
            (rows, ..) => {
                format!("{rows} rows fit; several files take --name-column, and a directory that exists")
            }
        }));
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
    join_all((0..jobs).map(|_| work(&run, &rows, &tally))).await;
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

/// Gets one row after the other, in a session of its own.
async fn work(run: &Run, rows: &tokio::sync::Mutex<Rows>, tally: &Mutex<Tally>) {
    let mut worker = Worker::new(run);
    loop {
        let (row, snapshot) = {
            let mut rows = rows.lock().await;
            match rows.next(&run.connector, run.retry).await {
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
                run.progress.add_things(1);
            }
            Err(error) => {
                locked(tally).failed += 1;
                say(&format!("{}: {error}", row.shown()));
            }
        }
    }
    worker.end().await;
}
