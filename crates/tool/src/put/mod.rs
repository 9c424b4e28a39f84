//! `rbytea put`: files into rows. Each file is a transaction; what is committed is not put twice, whatever becomes of the
//! connection.

mod commit;
mod options;
mod run;
mod sources;
mod store;

use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;

use crate::connection::{Connector, Db};
use crate::error::Error;
use crate::human;
use crate::lock::locked;
use crate::progress::{Measure, Progress, say};

pub use options::Put;
use run::{Run, Statements};
use sources::Sources;

/// Puts the files; an error if one of them is not there afterwards.
pub async fn run(options: Put, connector: &Connector) -> Result<(), Error> {
    let stream = options.paths.iter().any(|path| path.as_os_str() == "-");
    if options.name.is_some() && (options.paths.len() > 1 || options.paths[0].is_dir()) {
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
    join_all(sessions.into_iter().map(|session| work(&run, session, &sources, &tally))).await;
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

/// Puts one file after the other, in a session of its own.
async fn work(run: &Run, mut session: Option<Db>, sources: &Mutex<Sources>, tally: &Mutex<Tally>) {
    loop {
        let Some(next) = locked(sources).next() else { break };
        let outcome = match next {
            Ok(source) => {
                let put = pin!(store::put(run, &mut session, &source));
                put.await.map_err(|error| (source.shown(), error))
            }
            Err((path, error)) => Err((path, error)),
        };
        let mut tally = locked(tally);
        match outcome {
            Ok(Some(bytes)) => {
                tally.put += 1;
                tally.bytes += bytes;
                run.progress.add_things(1);
            }
            Ok(None) => {
                tally.skipped += 1;
                run.progress.add_things(1);
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
