//! `orthanc-rbytea`: moves the files of an Orthanc into the tables of the storage plugin and back, and compares these tables with
//! Orthanc's index. Exit status: 0 if all is done, 1 if not, 2 if `check` or `orphans` has found something, 130 and 143 after SIGINT and SIGTERM.

mod check;
mod export;
mod import;
mod index;
mod old;
mod orphans;
mod tables;

use clap::{Args, Parser, Subcommand};
use rbytea_tool::connection::ConnectionOptions;
use rbytea_tool::run::{End, to_the_end};

const TEMPLATE: &str = "{usage-heading} {usage}\n\n{about}\n\n{all-args}{after-help}";

/// Moves files of Orthanc into the tables of the rbytea storage plugin and back, and compares these tables with Orthanc's index.
#[derive(Debug, Parser)]
#[command(name = "orthanc-rbytea", version, help_template = TEMPLATE)]
#[command(
    after_help = "Each command has its own --help. Connections follow the environment of libpq (PGHOST, PGUSER, …)."
)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Move files from the official plugin's large objects, or from a directory of Orthanc's, into the tables.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Examples: orthanc-rbytea import -d orthanc --from-large-objects
          orthanc-rbytea import -d orthanc --from-directory /var/lib/orthanc/db-v6 --index http://localhost:8042

What the index knows is moved, and compared with the MD5 that it has. Run it again after an interruption: what is there is left
alone. Exit status: 0 if every file of the index is there, 1 if not.")]
    Import(import::Import),
    /// Move files back.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: orthanc-rbytea export -d orthanc --to-directory /var/lib/orthanc/db-v6

Exit status: 0 if every file of the index is there, 1 if not.")]
    Export(export::Export),
    /// Find files that the index knows and that are missing or have another length, and with --digest what is damaged.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: orthanc-rbytea check -d orthanc --digest

Each finding is a line: uuid, type, problem, separated by tabs. Exit status: 0 if nothing is wrong, 2 if something is, 1 if it could not be
found out.")]
    Check(check::Check),
    /// Find rows that the index does not know, and delete them if that is asked for.
    #[command(disable_help_flag = true, help_template = TEMPLATE, after_help = "\
Example: orthanc-rbytea orphans -d orthanc

Each finding is a line: uuid, type, bytes, date, separated by tabs. Orthanc stores a file before its index knows it: what is younger than --older-than is left
out. Exit status: 0 if there are none or they are deleted, 2 if there are some, 1 if it could not be found out.")]
    Orphans(orphans::Orphans),
}

/// Options of all commands.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Schema of the plugin's tables
    #[arg(long, value_name = "NAME", default_value = "public", value_parser = lower)]
    schema: String,
    /// Orthanc's REST interface (http://…), where the index is not in the same database; its user is of the URL, and its
    /// password of the URL or of ORTHANC_PASSWORD
    #[arg(long, value_name = "URL")]
    index: Option<String>,
    /// Schema of the official index
    #[arg(long, value_name = "NAME", default_value = "public", value_parser = lower)]
    index_schema: String,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Names of schemas are in lower case for the plugins, whatever is written.
fn lower(name: &str) -> Result<String, std::convert::Infallible> {
    Ok(name.to_lowercase())
}

fn main() {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        // Where it cannot be printed, the exit status is left. 2 would mean that something was found.
        let _ = error.print();
        std::process::exit(i32::from(error.use_stderr()))
    });
    to_the_end("orthanc-rbytea", async |connector| match arguments.command {
        Commands::Import(options) => import::run(options, connector).await.map(|()| End::Done),
        Commands::Export(options) => export::run(options, connector).await.map(|()| End::Done),
        Commands::Check(options) => check::run(options, connector).await.map(found),
        Commands::Orphans(options) => orphans::run(options, connector).await.map(found),
    })
}

fn found(something: bool) -> End {
    if something { End::Found } else { End::Done }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
