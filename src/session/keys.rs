//! The keys of this process: the key file, read when a key is first needed and again after the server has read its
//! configuration again.

use crate::pg::error::{self, Report};
use crate::pg::settings;
use pgrx::{PgSqlErrorCode, pg_sys};
use rbytea_store::KeyRing;
use std::cell::RefCell;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What was read, and when.
struct Loaded {
    ring: Rc<KeyRing>,
    path: PathBuf,
    /// PgReloadTime at that moment.
    configured: pg_sys::TimestampTz,
}

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
}

/// The keys. A key file that has become unusable is an error for every use of a key; the keys read before are
/// forgotten.
pub fn ring() -> Result<Rc<KeyRing>, Report> {
    let path = path()?;
    // SAFETY: a plain read of a variable that changes only while the configuration is read.
    let configured = unsafe { pg_sys::PgReloadTime };
    let known = LOADED.with_borrow(|loaded| {
        let current = |loaded: &&Loaded| loaded.configured == configured && loaded.path == path;
        loaded.as_ref().filter(current).map(|loaded| Rc::clone(&loaded.ring))
    });
    if let Some(ring) = known {
        return Ok(ring);
    }
    LOADED.set(None);
    let ring = Rc::new(KeyRing::load(&path)?);
    LOADED.set(Some(Loaded { ring: Rc::clone(&ring), path, configured }));
    Ok(ring)
}

/// The keys, for a payload that the key with this id has encrypted.
pub fn ring_with(id: u16) -> Result<Rc<KeyRing>, Report> {
    if settings::key_file().is_none() {
        return Err(rbytea_store::Error::KeyMissing { path: PathBuf::new(), id }.into());
    }
    let known = ring()?;
    if known.get(id).is_some() {
        return Ok(known);
    }
    // Another session may have read a new key before this one, and have used it.
    LOADED.set(None);
    ring()
}

/// The full path of the key file.
fn path() -> Result<PathBuf, Report> {
    let Some(path) = settings::key_file() else {
        return Err(error::report(PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR, "no key file is set")
            .set_detail("\"rbytea.qss_mode\" is on, and new payloads cannot be encrypted without a key.")
            .set_hint("Set \"rbytea.key_file\", and reload the configuration."));
    };
    // SAFETY: DataDir is set before any backend starts and never changes.
    let directory = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(pg_sys::DataDir) }.to_bytes()));
    Ok(directory.join(path))
}
