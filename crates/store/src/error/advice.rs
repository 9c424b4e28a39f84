//! The words of an error beyond its variant's own message: DETAIL, HINT, and parts of messages. In PostgreSQL's
//! style, and without the names of SQL functions, which the extension adds.

use std::io;
use std::path::Path;

use super::{Error, Kind};
use crate::crypt::key_file::KeyFileProblem;

/// The message about a key file, in PostgreSQL's words for the server's private key and, with a line, for its
/// configuration files.
pub(super) fn key_file_message(
    path: &Path,
    line: Option<usize>,
    problem: KeyFileProblem,
    source: Option<&io::Error>,
) -> String {
    let path = path.display();
    match (problem, source, line) {
        (KeyFileProblem::Io(op), Some(source), _) => {
            format!("could not {op} key file \"{path}\": {}", reason(source))
        }
        (KeyFileProblem::Io(op), None, _) => format!("could not {op} key file \"{path}\""),
        (problem, _, Some(line)) => format!("invalid entry in key file \"{path}\" line {line}: {problem}"),
        (problem, _, None) => format!("key file \"{path}\" {problem}"),
    }
}

/// The end of the message about a missing key: which file does not have it.
pub(super) fn missing_from(key_file: &Path) -> String {
    if key_file.as_os_str().is_empty() {
        "not available: there is no key file".into()
    } else {
        format!("not in key file \"{}\"", key_file.display())
    }
}

/// The text of an error without the "(os error N)" that std appends and PostgreSQL does not.
pub(super) fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl Error {
    /// A full sentence for DETAIL.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some("The file is neither among the live payloads nor in TRASH.".into()),
            Self::RootNotOwned { found, expected, .. } => {
                Some(format!("The directory belongs to user {found}, the server runs as user {expected}."))
            }
            Self::StoreMissing { .. } => Some("Its file OWNER is missing.".into()),
            Self::Sync { .. } => Some(
                "After a failed fsync the kernel may have dropped the data, so the transaction cannot be committed."
                    .into(),
            ),
            Self::WrongDigest { .. } => {
                Some("The file has other bytes than were written when the value was stored.".into())
            }
            Self::KeyFile { problem, .. } => problem.detail(),
            _ => None,
        }
    }

    /// What to do, in full sentences, for HINT.
    pub fn hint(&self) -> Option<String> {
        let hint = match (self, self.kind()) {
            (Self::RootMissing { .. }, _) => {
                "Create the directory, owned by the server's user, or check that its file system is mounted."
            }
            (Self::RootNotADirectory { .. } | Self::RootNotOwned { .. }, _) => {
                "The storage path must be a directory that the server's user owns."
            }
            (Self::StoreMissing { .. }, _) => {
                "Check that its file system is mounted. If the store is lost, or was left behind on purpose, it can be adopted."
            }
            (Self::RegistryCorrupt { .. }, _) => {
                "Remove the file when the store's file system is mounted; it is written anew."
            }
            (Self::NotOwner { .. }, _) => "If no other cluster uses this store any more, it can be adopted.",
            (Self::NotFound { .. } | Self::WrongSize { .. } | Self::WrongDigest { .. }, _) => {
                "Restore the file from a backup of the store."
            }
            (Self::KeyFile { problem, .. }, _) => return problem.hint().map(Into::into),
            (Self::KeyMissing { .. }, _) => {
                "A payload can be read with the key that encrypted it and no other; put it back into the key file."
            }
            (Self::UnknownFormat { .. }, _) => {
                "Use the version of the extension that wrote the store, or a later one."
            }
            (_, Kind::DiskFull) => "Free space on the file system that holds the store.",
            (_, Kind::ReadOnly) => "Remount the file system that holds the store for writing.",
            (_, Kind::Permission) => "The server's user needs to own the files and directories of the store.",
            _ => return None,
        };
        Some(hint.into())
    }
}
