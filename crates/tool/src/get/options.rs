//! The command line of `get`.

use std::path::PathBuf;

use clap::{Args, value_parser};

use crate::connection::ConnectionOptions;

/// Options of `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// Table, as it is written in SQL
    #[arg(short, long)]
    pub table: String,
    /// Column of type rbytea
    #[arg(short, long)]
    pub column: String,
    /// Condition in SQL
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// Column with the names of the files, which may have directories; needed unless --where finds one row
    #[arg(short, long, value_name = "COLUMN", required_unless_present = "condition")]
    pub name_column: Option<String>,
    /// Name of a row
    #[arg(long, requires = "name_column")]
    pub name: Vec<String>,
    /// File, existing directory, or - for standard output; without it, the current directory
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// Compare each file's SHA-256 with what the server says
    #[arg(long)]
    pub verify: bool,
    /// Files that are written at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// How long to try to connect again after a lost connection
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub retry: u64,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub connection: ConnectionOptions,
}
