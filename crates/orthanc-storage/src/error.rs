//! Why something did not work, what Orthanc is told, and whether trying again may help.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use rbytea_connect::sql;
use tokio_postgres::error::SqlState;

/// The errors of a storage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] rbytea_connect::Error),
    /// The server has raised an error, or its connection is lost.
    #[error("{}", sql::error(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// No row.
    #[error("there is no file {0}")]
    Missing(String),
    /// Another content under the same name.
    #[error("file {0} exists already, and has another content")]
    Differs(String),
    /// More bytes than there are.
    #[error("file {uuid} has no {len} bytes from {start} on")]
    Range {
        /// The file.
        uuid: String,
        /// The first byte, from 0 on.
        start: u64,
        /// How many bytes.
        len: u64,
    },
    /// The lock of the option `Lock` is not held.
    #[error("{0}")]
    Lock(String),
    /// Nothing has come over a connection.
    #[error("the server has not answered for {} s", .0.as_secs())]
    Silent(Duration),
    /// All connections are in use, and stay it.
    #[error("all {0} connections are in use")]
    Busy(usize),
    /// What is asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The configuration, or the database, is not what it has to be.
    #[error("{0}")]
    Unfit(String),
    /// No memory for a file.
    #[error("there is no memory for a file of {0} bytes")]
    Memory(u64),
    /// A file or directory outside of the tables.
    #[error("\"{}\"", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What it is.
        source: std::io::Error,
    },
    /// The operating system.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// What has happened, as far as Orthanc has a code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such file.
    Missing,
    /// A file is not what was stored, or its payload is gone.
    Damaged,
    /// There is no room.
    Full,
    /// The server cannot be reached, or does not do its work now.
    Unavailable,
    /// The range is not in the file.
    Range,
    /// The caller is wrong.
    Invalid,
    /// There is no memory.
    Memory,
    /// Everything else.
    Other,
}

impl Error {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Sql(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the same may succeed later. What a commit that was not answered has come to is found out by trying again: every
    /// operation comes to the same if it is done twice.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_transient(),
            Self::Sql(error) => sql::is_lost(error) || self.code().is_some_and(may_pass),
            Self::Lock(_) | Self::Busy(_) | Self::Silent(_) => true,
            _ => false,
        }
    }

    /// What to tell Orthanc.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::Missing,
            Self::Range { .. } => Kind::Range,
            Self::Differs(_) | Self::Invalid(_) => Kind::Invalid,
            Self::Memory(_) => Kind::Memory,
            _ if self.is_transient() => Kind::Unavailable,
            Self::Connect(_) => Kind::Unavailable,
            Self::Sql(error) => match error.code() {
                Some(code) if *code == SqlState::DISK_FULL => Kind::Full,
                Some(code) if [SqlState::DATA_CORRUPTED, SqlState::UNDEFINED_FILE].contains(code) => {
                    Kind::Damaged
                }
                _ => Kind::Other,
            },
            _ => Kind::Other,
        }
    }

    /// With all that caused it, for a line of the log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = match self {
            Self::Sql(_) | Self::Connect(_) => None,
            other => other.source(),
        };
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text.replace('\n', "; ")
    }
}

/// Errors that another attempt on another connection may not meet: conflicts with other transactions, somebody's cancel, a server that has no
/// resources left for a moment, and one that is read-only because another one has become the primary.
fn may_pass(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::QUERY_CANCELED,
    ]
    .contains(code)
}
