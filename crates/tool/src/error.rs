//! Why something did not work, and whether trying again may help.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};

use rbytea_connect::sql;

/// The errors of all commands.
#[derive(Debug)]
pub enum Error {
    /// There is no connection.
    Connect(rbytea_connect::Error),
    /// The server has raised an error, or its connection is lost.
    Sql(tokio_postgres::Error),
    /// A file or directory.
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Everything else, in words.
    Said(String),
    /// That has been reported already, file by file.
    Reported,
}

impl std::error::Error for Error {}

impl From<rbytea_connect::Error> for Error {
    fn from(error: rbytea_connect::Error) -> Self {
        Self::Connect(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Sql(error) => f.write_str(&sql::error(error)),
            Self::Io { doing, path, source } => {
                write!(f, "could not {doing} \"{}\": {source}", path.display())
            }
            Self::Said(text) => f.write_str(text),
            Self::Reported => Ok(()),
        }
    }
}

impl Error {
    /// In words.
    pub fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    /// For `map_err`: what was tried with which file.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// The same for rustix's errors.
    pub fn errno(doing: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        let error = Self::io(doing, path);
        move |errno| error(errno.into())
    }

    /// Whether the connection is lost, or the server is ending or starting: a new connection may do better.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_transient(),
            Self::Sql(error) => sql::is_lost(error),
            _ => false,
        }
    }
}
