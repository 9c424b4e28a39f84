//! Why there is no connection.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use tokio_postgres::error::SqlState;

use crate::sql;

/// What is wrong with the description of a connection, or what came of the attempts to make it. No message has a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A connection string or URI that cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// A keyword that no version of libpq knows.
    #[error("invalid connection option \"{0}\"")]
    UnknownOption(String),
    /// A keyword that libpq knows and that is not honoured here.
    #[error("connection option \"{0}\" is not supported")]
    Unsupported(&'static str),
    /// A value that its keyword does not take.
    #[error("invalid {keyword} value: \"{value}\"")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// Its value.
        value: String,
    },
    /// Values that do not fit together.
    #[error("{0}")]
    Conflict(String),
    /// No service of this name in any service file.
    #[error("definition of service \"{0}\" not found")]
    NoService(String),
    /// A file that a connection needs.
    #[error("could not read file \"{}\": {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that has not what it should have.
    #[error("{what} in file \"{}\"", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificates and keys that TLS cannot use.
    #[error("TLS: {0}")]
    Tls(String),
    /// No host has given a connection.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Attempts(Vec<Failure>),
}

impl Error {
    /// Whether the same attempt may succeed later: a server that does not listen, starts, ends, or has too many sessions.
    pub fn is_transient(&self) -> bool {
        let Self::Attempts(failures) = self else { return false };
        failures.iter().any(Failure::is_transient)
    }

    /// Whether a server asked for a password and there was none.
    pub fn wants_password(&self) -> bool {
        let Self::Attempts(failures) = self else { return false };
        failures.iter().any(|failure| match &failure.why {
            Why::Client(error) => {
                error.source().is_some_and(|source| source.to_string() == "password missing")
            }
            _ => false,
        })
    }
}

/// What came of the attempt to connect to one host.
#[derive(Debug, thiserror::Error)]
#[error("connection to {host} failed: {why}")]
pub struct Failure {
    pub(crate) host: String,
    pub(crate) why: Why,
}

#[derive(Debug)]
pub(crate) enum Why {
    Client(tokio_postgres::Error),
    TimedOut,
    Attributes(&'static str),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(error) => match error.as_db_error() {
                Some(error) => write!(f, "{}:  {}", error.severity(), error.message()),
                None => match error.source() {
                    Some(source) if source.to_string() == "password missing" => {
                        f.write_str("no password supplied")
                    }
                    Some(source) => write!(f, "{source}"),
                    None => write!(f, "{error}"),
                },
            },
            Self::TimedOut => f.write_str("timeout expired"),
            Self::Attributes(what) => f.write_str(what),
        }
    }
}

impl Failure {
    /// The server's SQLSTATE, if it sent one.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match &self.why {
            Why::Client(error) => error.code(),
            _ => None,
        }
    }

    fn is_transient(&self) -> bool {
        match &self.why {
            Why::TimedOut | Why::Attributes(_) => true,
            Why::Client(error) => {
                sql::is_lost(error) || error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
            }
        }
    }
}
