//! What can go wrong in a store, with the path and the source of each error.
//! Messages are in PostgreSQL's style; the one map to SQLSTATE lives with the SQL side and uses [`Kind`].

mod advice;
pub(crate) mod key_file;
mod message;

use crate::payload::By;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

use self::key_file::KeyFileProblem;
use self::message::{key_file_message, missing_from, reason};
use crate::owner::OwnerId;

/// `Result` of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Any failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A payload is neither LIVE nor in TRASH (I7).
    #[error("payload {uuid} does not exist: file \"{}\" is missing", path.display())]
    NotFound {
        /// The payload's uuid.
        uuid: Uuid,
        /// Where it would be if it were LIVE.
        path: PathBuf,
    },
    /// The root directory does not exist.
    #[error("storage directory \"{}\" does not exist", path.display())]
    RootMissing {
        /// The root.
        path: PathBuf,
    },
    /// The root exists and is no directory.
    #[error("storage path \"{}\" is not a directory", path.display())]
    RootNotADirectory {
        /// The root.
        path: PathBuf,
    },
    /// The root belongs to another user than the one the server runs as.
    #[error("storage directory \"{}\" has wrong ownership", path.display())]
    RootNotOwned {
        /// The root.
        path: PathBuf,
        /// User id of the root's owner.
        found: u32,
        /// Effective user id of this process.
        expected: u32,
    },
    /// The root has no OWNER although this cluster has written to a store there.
    #[error("storage directory \"{}\" is not the store that this cluster has written to", path.display())]
    StoreMissing {
        /// The root.
        path: PathBuf,
    },
    /// The list of the roots that this cluster has written to is not what the store writes.
    #[error("file \"{}\" is corrupted: {reason}", path.display())]
    RegistryCorrupt {
        /// The file in the data directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An operation on a file or directory failed.
    #[error("could not {op} \"{}\": {}", path.display(), reason(source))]
    Io {
        /// What was tried: a verb and its object, as in "open file".
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// An fsync, fdatasync or syncfs failed, now or earlier in this transaction. Never retried (I1).
    #[error("could not fsync \"{}\": {}", path.display(), reason(source))]
    Sync {
        /// The file, directory or file system.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file has not as many bytes as the value's header says.
    #[error("payload file \"{}\" has {found} bytes instead of {expected}", path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Bytes expected in the file.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A file has other bytes than were written.
    #[error("payload {uuid} is corrupted: the {by} of file \"{}\" does not match", path.display())]
    WrongBytes {
        /// What has told.
        by: By,
        /// The payload's uuid.
        uuid: Uuid,
        /// The file.
        path: PathBuf,
    },
    /// OWNER names another cluster, so nothing may be written, or a copy of this one, so nothing may be moved (I9).
    #[error("the store belongs to another cluster: {found}, this one is {expected}")]
    NotOwner {
        /// The cluster in OWNER.
        found: OwnerId,
        /// This cluster.
        expected: OwnerId,
    },
    /// OWNER is not what the store writes.
    #[error("owner file \"{}\" is corrupted: {reason}", path.display())]
    OwnerCorrupt {
        /// The file OWNER.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// OWNER names a format that this version does not know.
    #[error("store \"{}\" has format {found}, which this version does not support", path.display())]
    UnknownFormat {
        /// The file OWNER.
        path: PathBuf,
        /// The format it names.
        found: u64,
    },
    /// A request that this version cannot fulfil.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// A range reaches past the end of the payload.
    #[error("range of {requested} bytes at offset {offset} exceeds the {len} bytes of \"{}\"", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        requested: u64,
        /// Bytes that there are.
        len: u64,
    },
    /// The key file cannot be used. Its message has no text of the file.
    #[error("{}", key_file_message(path, *line, *problem, source.as_ref()))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The line that is wrong, from 1 on.
        line: Option<usize>,
        /// What is wrong.
        problem: KeyFileProblem,
        /// The operating system's answer.
        source: Option<io::Error>,
    },
    /// A payload is encrypted with a key that the key file does not have.
    #[error("encryption key {id} is {}", missing_from(path))]
    KeyMissing {
        /// The key file; empty when there is none.
        path: PathBuf,
        /// The key's id.
        id: u16,
    },
}

/// Classes of errors, one SQLSTATE each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A payload's file is missing.
    NotFound,
    /// No space left, or a quota is used up.
    DiskFull,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The operating system refused it.
    Permission,
    /// Files are not what was written.
    Corrupted,
    /// The root or the key file is missing or unsuitable.
    Config,
    /// The store belongs to another cluster (I9).
    NotOwner,
    /// Not implemented, or an unknown format.
    Unsupported,
    /// A caller's mistake: a range outside the payload.
    OutOfRange,
    /// Any other failure of the operating system.
    Io,
}

impl Error {
    /// The file or directory that the error is about: the root itself as an absolute path, the key file as it was
    /// named, everything else below the root.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path, .. }
            | Self::RootMissing { path }
            | Self::RootNotADirectory { path }
            | Self::RootNotOwned { path, .. }
            | Self::StoreMissing { path }
            | Self::RegistryCorrupt { path, .. }
            | Self::Io { path, .. }
            | Self::Sync { path, .. }
            | Self::WrongSize { path, .. }
            | Self::WrongBytes { path, .. }
            | Self::OwnerCorrupt { path, .. }
            | Self::UnknownFormat { path, .. }
            | Self::OutOfRange { path, .. }
            | Self::KeyFile { path, .. }
            | Self::KeyMissing { path, .. } => Some(path),
            Self::NotOwner { .. } | Self::Unsupported { .. } => None,
        }
    }

    /// The class of this error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::RootMissing { .. }
            | Self::RootNotADirectory { .. }
            | Self::RootNotOwned { .. }
            | Self::StoreMissing { .. } => Kind::Config,
            Self::Io { source, .. } | Self::Sync { source, .. } => Self::kind_of(source),
            Self::WrongSize { .. } | Self::WrongBytes { .. } => Kind::Corrupted,
            Self::OwnerCorrupt { .. } | Self::RegistryCorrupt { .. } => Kind::Corrupted,
            Self::NotOwner { .. } => Kind::NotOwner,
            Self::UnknownFormat { .. } | Self::Unsupported { .. } => Kind::Unsupported,
            Self::OutOfRange { .. } => Kind::OutOfRange,
            Self::KeyFile { .. } | Self::KeyMissing { .. } => Kind::Config,
        }
    }

    fn kind_of(source: &io::Error) -> Kind {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Kind::ReadOnly,
            io::ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::Io,
        }
    }

    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { op, path: path.as_ref().into(), source }
    }

    pub(crate) fn sync(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Sync { path: path.as_ref().into(), source }
    }
}
