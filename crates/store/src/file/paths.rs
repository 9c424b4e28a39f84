//! Paths below the root, and what the operating system says of them.

use std::io;
use std::path::PathBuf;

/// How often an operation makes a directory again that a concurrent `remove_empty_dirs` has removed.
pub(super) const ATTEMPTS: usize = 32;

/// A path below the root as messages show it: without the root, which is for administrators to know.
pub(super) fn shown(path: &str) -> PathBuf {
    if path.is_empty() { ".".into() } else { path.into() }
}

/// `NotFound` as `None`.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The parent of a path relative to the root; the root's is the empty path.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a file was cloned; false where the file systems cannot.
pub(super) fn cloned(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(e) => Err(e),
    }
}
