//! What all rows of a run have in common: options, the progress, and where the files go.

use std::path::Path;
use std::time::Duration;

use super::options::Get;
use super::rows::Row;
use crate::catalog::{Extension, Table};
use crate::connection::Connector;
use crate::error::Error;
use crate::names::Directory;
use crate::progress::Progress;

/// Where the bytes go.
pub enum Output {
    /// Standard output, of the only row.
    Standard,
    /// A file of this name in a directory, of the only row.
    File(Directory, String),
    /// Below a directory, under the rows' names.
    Below(Directory),
}

impl Output {
    /// What `--output` says.
    pub fn of(options: &Get) -> Result<Self, Error> {
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
pub struct Run {
    /// Makes the sessions of the jobs.
    pub connector: Connector,
    /// The extension.
    pub extension: Extension,
    /// The table.
    pub table: Table,
    /// In quotes.
    pub column: String,
    /// Where the files go.
    pub output: Output,
    /// Whether files that exist are replaced.
    pub replace: bool,
    /// Whether the digests of the files are compared.
    pub verify: bool,
    /// How long to try to connect again.
    pub retry: Duration,
    /// What has been written.
    pub progress: Progress,
}

impl Run {
    /// The row's file, in its directory.
    pub fn place(&self, row: &Row) -> Result<Option<(Directory, String)>, Error> {
        match &self.output {
            Output::Standard => Ok(None),
            Output::File(directory, name) => Ok(Some((directory.again()?, name.clone()))),
            Output::Below(directory) => {
                let name = row.name.as_deref().ok_or_else(|| Error::said("the row has no name"))?;
                if row.again {
                    return Err(Error::said("another row has the same name"));
                }
                let (directory, name) = directory.place(name)?;
                Ok(Some((directory, name.to_owned())))
            }
        }
    }
}
