//! The settings `rbytea.*`: defined once when the library is loaded, read through typed accessors.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

static FILESYSTEM_STORAGE_PATH: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"rbytea"));
static EXTERNAL_THRESHOLD: GucSetting<i32> = GucSetting::<i32>::new(0);
static VERIFY_DIGEST: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Defines the settings and reserves their prefix, so that a misspelt one is refused.
pub fn init() {
    GucRegistry::define_string_guc(
        c"rbytea.filesystem_storage_path",
        c"Directory that holds the payload files.",
        c"A relative path lies in the data directory and is created when it is first needed. \
          An absolute path must name an existing directory that the server's user owns.",
        &FILESYSTEM_STORAGE_PATH,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"rbytea.external_threshold",
        c"Smallest payload that is stored in a file of its own.",
        c"Smaller payloads stay in the row, as bytea does.",
        &EXTERNAL_THRESHOLD,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_bool_guc(
        c"rbytea.verify_digest",
        c"Checks the digest whenever a whole payload is read.",
        c"Ranges of a payload are never checked; md5sum and sha256sum always check.",
        &VERIFY_DIGEST,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: called from _PG_init with a NUL-terminated constant, after all variables of the class are defined.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"rbytea".as_ptr()) };
}

/// The root of the store as it was set; a relative one lies in the data directory.
pub fn filesystem_storage_path() -> PathBuf {
    let path = FILESYSTEM_STORAGE_PATH.get().unwrap_or_default();
    PathBuf::from(OsString::from_vec(path.into_bytes()))
}

/// The smallest payload in bytes that leaves the row.
pub fn external_threshold() -> u64 {
    u64::try_from(EXTERNAL_THRESHOLD.get()).unwrap_or(0)
}

/// Whether a whole read compares the payload with the digest in the row.
pub fn verify_digest() -> bool {
    VERIFY_DIGEST.get()
}
