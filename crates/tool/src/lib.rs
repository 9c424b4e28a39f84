//! `rbytea`: files in and out of columns of type rbytea, checks, status, and dumps by reference; and what other programs of the
//! project share with it: connections, progress, signals.

mod catalog;
mod check;
pub mod connection;
mod dump;
pub mod error;
mod get;
pub mod human;
mod import_lo;
mod lock;
mod names;
mod programs;
pub mod progress;
mod put;
mod restore;
pub mod run;
mod status;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use connection::Connector;
use error::Error;
use run::End;

const TEMPLATE: &str = "{usage-heading} {usage}\n\n{about}\n\n{all-args}{after-help}";

/// Moves files in and out of columns of type rbytea, checks the store, and says how it is.
#[derive(Debug, Parser)]
#[command(name = "rbytea", version, help_template = TEMPLATE)]
#[command(
    after_help = "Each command has its own --help. Connections follow the environment of libpq (PGHOST, PGUSER, …)."
)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Put files into rows, each in a transaction of its own.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: rbytea put -t documents -c content -n name --jobs 4 --skip-existing /srv/scans

Run it again with --skip-existing after an interruption. Exit status: 0 if every file is there, 1 if not.")]
    Put(put::Put),
    /// Get rows into files.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Examples: rbytea get -t documents -c content --where 'id = 7' -o scan.pdf
          rbytea get -t documents -c content -n name --jobs 4 --verify -o /srv/copy

Exit status: 0 if every row is a file, 1 if not.")]
    Get(get::Get),
    /// Turn large objects into payloads, in batches.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: rbytea import-lo -t images -c content -o picture --unlink

Run it again after an interruption: rows that have a payload are left alone. Exit status: 0 if every row has its payload, 1 if not.")]
    ImportLo(import_lo::ImportLo),
    /// Check the payloads of all databases of a cluster: rows without their file, files without a row, and files that are
    /// not what was stored.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: rbytea check --digest -h db1 -U postgres

Each finding is a line: database, relation, ctid, uuid, problem, path, separated by tabs.

Exit status: 0 if nothing is wrong, 2 if something is, 1 if it could not be found out.")]
    Check(check::Check),
    /// Say how the store of a database is.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: rbytea status --json -d archive | jq .store.live_bytes

Exit status: 0, or 1 if it could not be found out.")]
    Status(status::Status),
    /// Run pg_dump so that it writes references, and give a directory the payload files.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: rbytea dump -d archive --payloads /backup/payloads -- -Fc -f /backup/archive.dump

Exit status: 0, or 1 if the dump or a payload is not complete.")]
    Dump(dump::Dump),
    /// Run pg_restore, or psql for a plain dump, with the payload files of a directory.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: rbytea restore -d archive --payloads /backup/payloads /backup/archive.dump -- --jobs 4

Exit status: 0, or 1 if it did not work.")]
    Restore(restore::Restore),
}

/// The program.
pub fn main() -> ! {
    let arguments = arguments(std::env::args_os().collect());
    run::to_the_end("rbytea", async |connector| run(arguments.command, connector).await)
}

/// The command line; as `rbytea_check` the program is its subcommand.
fn arguments(words: Vec<OsString>) -> Arguments {
    let mut command = Arguments::command();
    let called = words.first().and_then(|word| Path::new(word).file_name());
    if called.is_some_and(|name| name == "rbytea_check") {
        command = command.mut_subcommand("check", |check| {
            check.bin_name("rbytea_check").override_usage("rbytea_check [--digest] [CONNECTION OPTIONS]")
        });
    }
    let parsed =
        command.try_get_matches_from(words).and_then(|matches| Arguments::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| {
        // Where it cannot be printed, the exit status is left. 2 would mean that `check` has found something.
        let _ = error.print();
        std::process::exit(i32::from(error.use_stderr()))
    })
}

async fn run(command: Commands, connector: &Connector) -> Result<End, Error> {
    let outcome = match command {
        Commands::Put(options) => put::run(options, connector).await,
        Commands::Get(options) => get::run(options, connector).await,
        Commands::ImportLo(options) => import_lo::run(options, connector).await,
        Commands::Status(options) => status::run(options, connector).await,
        Commands::Dump(options) => dump::run(options, connector).await,
        Commands::Restore(options) => restore::run(options, connector).await,
        Commands::Check(options) => match check::run(options, connector).await {
            Ok(true) => return Ok(End::Found),
            other => other.map(|_| ()),
        },
    };
    outcome.map(|()| End::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn rbytea_check_is_a_subcommand() {
        let parsed =
            arguments(["/usr/bin/rbytea_check", "check", "--digest", "-h", "db1"].map(Into::into).to_vec());
        assert!(matches!(parsed.command, Commands::Check(_)));
    }
}
