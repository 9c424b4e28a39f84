//! Message and HINT of the store's errors in terms of this extension: its settings and functions, which the store does
//! not know.

use rbytea_store::{Error, KeyFileProblem, Kind};

/// The message.
pub fn message(error: &Error) -> String {
    match error {
        Error::KeyMissing { path, id } if path.as_os_str().is_empty() => {
            format!("encryption key {id} is not available: \"rbytea.key_file\" is not set")
        }
        error => error.to_string(),
    }
}

/// What to do, in full sentences, for HINT.
pub fn hint(error: &Error) -> Option<String> {
    let hint = match (error, error.kind()) {
        (Error::StoreMissing { .. }, _) => {
            "Check that its file system is mounted. If the store is lost, or was left behind on purpose, a superuser can \
             call rbytea_adopt_store()."
        }
        (Error::NotOwner { .. }, _) => {
            "If no other cluster uses this store any more, a superuser can call rbytea_adopt_store()."
        }
        (Error::KeyFile { problem: KeyFileProblem::Io(_), .. }, _) => {
            "The server's user needs to be able to read the file that \"rbytea.key_file\" names."
        }
        (Error::KeyFile { problem: KeyFileProblem::NotRegular, .. }, _) => {
            "\"rbytea.key_file\" must name a file, or a symbolic link to one."
        }
        (_, Kind::DiskFull) => {
            "Free space on the file system that holds the store; rvacuum_purge() deletes what no session can need from TRASH."
        }
        _ => return error.hint(),
    };
    Some(hint.into())
}
