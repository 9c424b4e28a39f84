//! The keys of this process: the key file, read when a key is first needed and again after the server has read its
//! configuration again.

use crate::catalog::Extension;
use crate::datum::RawResult;
use crate::horizon::RunSnapshot;
use crate::pace::Pace;
use crate::progress::Progress;
use crate::rows::Rows;
use crate::store::KeyRing;
use crate::vacuum::refuse_if_unsafe;
use crate::{error, mark, settings, store};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgSqlErrorCode, pg_extern, pg_sys};
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

/// The keys. A key file that has become unusable is an error for whoever needs a key; what was read before is forgotten.
pub fn ring() -> Result<Rc<KeyRing>, ErrorReport> {
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
pub fn ring_with(id: u16) -> Result<Rc<KeyRing>, ErrorReport> {
    if settings::key_file().is_none() {
        return Err(store::Error::KeyMissing { path: PathBuf::new(), id }.into());
    }
    let known = ring()?;
    if known.get(id).is_some() {
        return Ok(known);
    }
    // Another session may have heard of a new key before this one, and have used it.
    LOADED.set(None);
    ring()
}

/// The full path of the key file.
fn path() -> Result<PathBuf, ErrorReport> {
    let Some(path) = settings::key_file() else {
        return Err(error::report(PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR, "no key file is set")
            .set_detail("\"rbytea.qss_mode\" is on, and new payloads cannot be encrypted without a key.")
            .set_hint("Set \"rbytea.key_file\", and reload the configuration."));
    };
    // SAFETY: DataDir is set before any backend starts and never changes.
    let directory = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(pg_sys::DataDir) }.to_bytes()));
    Ok(directory.join(path))
}

/// The keys of the key file, and those that payloads of this database need: id, fingerprint (NULL if the key file does not have
/// it) and the number of payloads that some tuple refers to.
#[pg_extern]
fn rbytea_keys(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema. The check looks at the
    // server's state and raises an ERROR in recovery, where nothing holds the tuples that a mark has to see.
    let (extension, mut rows) = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_keys()".as_ptr());
        (Extension::of_call(fcinfo), Rows::begin(fcinfo))
    };
    refuse_if_unsafe()?;
    let ring = match settings::key_file() {
        Some(_) => Some(ring()?),
        None => None,
    };
    let snapshot = RunSnapshot::take();
    let _progress = Progress::begin();
    let mut payloads = mark::keys(&extension, &snapshot, &mut Pace::of_statement())?;
    for key in ring.iter().flat_map(|ring| ring.iter()) {
        let fingerprint: String = key.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
        let count = payloads.remove(&key.id().into()).unwrap_or(0);
        rows.put([i32::from(key.id()).into_datum(), fingerprint.into_datum(), (count as i64).into_datum()]);
    }
    for (id, count) in payloads {
        rows.put([(id as i32).into_datum(), None, (count as i64).into_datum()]);
    }
    Ok(RawResult(None))
}
