//! The command line of `put`.

use std::path::PathBuf;

use clap::Args;

use crate::connection::ConnectionOptions;

/// Options of `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// Table, as it is written in SQL
    #[arg(short, long)]
    pub table: String,
    /// Column of type rbytea
    #[arg(short, long)]
    pub column: String,
    /// Column for the names of the files; in a directory, relative to it
    #[arg(short, long, value_name = "COLUMN")]
    pub name_column: Option<String>,
    /// Name of what comes from standard input or is the only file
    #[arg(long, requires = "name_column")]
    pub name: Option<String>,
    /// Value of another column
    #[arg(long, value_name = "COLUMN=VALUE")]
    pub set: Vec<String>,
    /// Files that are put at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// Leave out files whose name is there with as many bytes
    #[arg(long, requires = "name_column")]
    pub skip_existing: bool,
    /// With --skip-existing: and with the same SHA-256
    #[arg(long, requires = "skip_existing")]
    pub verify: bool,
    /// How long to try to connect again after a lost connection
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub retry: u64,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Files, directories, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub connection: ConnectionOptions,
}
