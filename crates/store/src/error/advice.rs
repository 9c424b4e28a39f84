//! DETAIL and HINT of an error, in PostgreSQL's style, and without the names of SQL functions, which the extension adds.

use super::{Error, Kind};

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
            Self::WrongBytes { .. } => {
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
            (Self::NotFound { .. } | Self::WrongSize { .. } | Self::WrongBytes { .. }, _) => {
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
