//! The settings `rbytea.*`: defined once when the library is loaded, read through typed accessors.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_guard, pg_sys};
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::time::Duration;

static FILESYSTEM_STORAGE_PATH: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"rbytea"));
static DATABASES_FOR_VACUUMING: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static VACUUM_NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(60);
static VACUUM_FULL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(DAY);
static TRASH_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * DAY);
static LOG_MIN_DURATION: GucSetting<i32> = GucSetting::<i32>::new(600_000);
static GROUP_ACCESS: GucSetting<bool> = GucSetting::<bool>::new(false);
static INJECTION_POINTS: GucSetting<bool> = GucSetting::<bool>::new(false);
static EXTERNAL_THRESHOLD: GucSetting<i32> = GucSetting::<i32>::new(0);
static VERIFY: GucSetting<Verify> = GucSetting::<Verify>::new(Verify::Checksum);
static CLIENT_TYPE: GucSetting<ClientType> = GucSetting::<ClientType>::new(ClientType::Bytea);
static WAL_PAYLOAD_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
static RECOVERY_STORE: GucSetting<RecoveryStore> = GucSetting::<RecoveryStore>::new(RecoveryStore::Auto);
static MAX_UPLOADS: GucSetting<i32> = GucSetting::<i32>::new(64);
static DUMP_REFERENCES: GucSetting<bool> = GucSetting::<bool>::new(false);
static RESTORE_REFERENCES: GucSetting<RestoreReferences> =
    GucSetting::<RestoreReferences>::new(RestoreReferences::Off);
static REFERENCE_DIRECTORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static QSS_MODE: GucSetting<bool> = GucSetting::<bool>::new(false);
static KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// What whole payloads are compared with when they are read.
#[derive(Clone, Copy, PartialEq, Eq, pgrx::PostgresGucEnum)]
pub enum Verify {
    /// The checksum in the row; encrypted payloads the digest.
    #[name = c"checksum"]
    Checksum,
    /// The digest in the row.
    #[name = c"digest"]
    Digest,
    /// Nothing.
    #[name = c"off"]
    Off,
}

/// Which payloads are in the WAL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None.
    None,
    /// Those of at most so many stored bytes.
    Bytes(u64),
    /// All.
    All,
}

/// Whose store a server in recovery has.
#[derive(Clone, Copy, PartialEq, Eq, pgrx::PostgresGucEnum)]
pub enum RecoveryStore {
    /// Its own in the data directory and where OWNER names this data directory or nobody; otherwise another server's.
    #[name = c"auto"]
    Auto,
    /// Its own: recovery writes and moves payloads.
    #[name = c"own"]
    Own,
    /// Another server's, which does that itself.
    #[name = c"shared"]
    Shared,
}

/// What input makes of references to payloads.
#[derive(Clone, Copy, PartialEq, Eq, pgrx::PostgresGucEnum)]
pub enum RestoreReferences {
    /// An error.
    #[name = c"off"]
    Off,
    /// Values, whose files are there and have the right length.
    #[name = c"on"]
    On,
    /// The same, and the payloads are read and compared with their digests.
    #[name = c"verify"]
    Verify,
}

/// As what clients see the type.
#[derive(Clone, Copy, PartialEq, Eq, pgrx::PostgresGucEnum)]
pub enum ClientType {
    /// As bytea, which drivers know.
    #[name = c"bytea"]
    Bytea,
    /// As itself.
    #[name = c"rbytea"]
    Rbytea,
}

/// Seconds.
const DAY: i32 = 24 * 60 * 60;

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
    GucRegistry::define_enum_guc(
        c"rbytea.verify",
        c"What a payload is compared with whenever the whole of it is read.",
        c"Encrypted payloads are compared with the digest unless it is off, parts of a payload with nothing; md5sum and sha256sum always go by the digest.",
        &VERIFY,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"rbytea.client_type",
        c"Type that clients see in the place of rbytea.",
        c"Needs shared_preload_libraries or session_preload_libraries. After a change, prepare statements again.",
        &CLIENT_TYPE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"rbytea.max_uploads",
        c"Most payloads that a session may be uploading at once.",
        c"Each takes a file descriptor. Counts the uploads of rbytea_begin(), and files that rbytea_agg() and its like are writing.",
        &MAX_UPLOADS,
        1,
        4096,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"rbytea.dump_references",
        c"Prints references to stored payloads instead of the payloads, for dumps beside a copy of the store.",
        c"In text format only; \"rbytea.client_type\" counts as rbytea meanwhile.",
        &DUMP_REFERENCES,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"rbytea.restore_references",
        c"Accepts references to stored payloads as input, from superusers.",
        c"The payloads must be in the store of this database, or in \"rbytea.reference_directory\"; \"verify\" reads them, too.",
        &RESTORE_REFERENCES,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"rbytea.reference_directory",
        c"Directory of a database in another store, or in a copy of one, from which payloads are taken when references are restored.",
        c"A relative path starts at the data directory.",
        &REFERENCE_DIRECTORY,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_bool_guc(
        c"rbytea.qss_mode",
        c"Encrypts new payloads with the newest key of \"rbytea.key_file\".",
        c"Payloads that are stored already stay as they are; rbytea_reencrypt() changes them.",
        &QSS_MODE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"rbytea.key_file",
        c"File with the keys of encrypted payloads.",
        c"A line for each key: its id, and 64 hexadecimal digits. The highest id encrypts new payloads. A relative path \
          starts at the data directory. The file must be for the server's user alone.",
        &KEY_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"rbytea.wal_payload_limit",
        c"Largest payload that is written to the WAL as well.",
        c"-1 writes all of them, for standbys and archives that have stores of their own; 0 none. Needs shared_preload_libraries.",
        &WAL_PAYLOAD_LIMIT,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_enum_guc(
        c"rbytea.recovery_store",
        c"Whether the store of a server in archive recovery is its own, to which recovery writes what the WAL has.",
        c"\"auto\" takes it for its own in the data directory, and elsewhere if recovery has made it so before or no \
          store was ever there; \"own\" and \"shared\" say so.",
        &RECOVERY_STORE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    init_vacuum();
    // SAFETY: called from _PG_init with a NUL-terminated constant, after all variables of the class are defined.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"rbytea".as_ptr()) };
}

fn init_vacuum() {
    // SAFETY: the check hook is guarded and lives as long as the library.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"rbytea.databases_for_vacuuming",
            c"Databases that the background vacuum visits.",
            c"A comma-separated list of names; one with upper-case letters or other special characters is written in \
              double quotes. Needs shared_preload_libraries.",
            &DATABASES_FOR_VACUUMING,
            GucContext::Sighup,
            GucFlags::from_bits_retain(pg_sys::GUC_LIST_INPUT as i32),
            Some(check_list),
            None,
            None,
        );
    }
    let int = |name, short, long, setting, min, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, i32::MAX, GucContext::Sighup, flags);
    };
    int(
        c"rbytea.vacuum_naptime",
        c"Pause between two rounds of the background vacuum.",
        c"",
        &VACUUM_NAPTIME,
        1,
        GucFlags::UNIT_S,
    );
    int(
        c"rbytea.vacuum_full_interval",
        c"Longest time between two sweeps of the whole store by the background vacuum.",
        c"The store is swept as a whole before that when rows may have died; other rounds look only at new files.",
        &VACUUM_FULL_INTERVAL,
        1,
        GucFlags::UNIT_S,
    );
    int(
        c"rbytea.trash_retention",
        c"How long a payload file stays in TRASH before the vacuum deletes it.",
        c"-1 keeps files for ever; 0 deletes them as soon as nothing can refer to them.",
        &TRASH_RETENTION,
        -1,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"rbytea.log_min_duration",
        c"Shortest run of the background vacuum that is logged.",
        c"0 logs every run, -1 none.",
        &LOG_MIN_DURATION,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"rbytea.group_access",
        c"Lets the group of the server's user read new files and directories of a store outside of the data directory.",
        c"A store in the data directory follows the mode of that, as PostgreSQL's own files do.",
        &GROUP_ACCESS,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"rbytea.injection_points",
        c"Makes the vacuum wait at injection points while another session holds their advisory lock; for tests.",
        c"",
        &INJECTION_POINTS,
        GucContext::Suset,
        GucFlags::NO_SHOW_ALL,
    );
}

/// Refuses a list that is not one.
#[pg_guard]
unsafe extern "C-unwind" fn check_list(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes a NUL-terminated string; the message is a constant, which the server does not free.
    unsafe {
        let valid = split_list(CStr::from_ptr(*new)).is_some();
        if !valid {
            pg_sys::GUC_check_errdetail_string = c"List syntax is invalid.".as_ptr().cast_mut();
        }
        valid
    }
}

/// The names in a list as PostgreSQL reads lists of names; None if it is not one.
fn split_list(list: &CStr) -> Option<Vec<CString>> {
    // SAFETY: SplitIdentifierString writes into the copy and returns pointers into it.
    unsafe {
        let copy = pg_sys::pstrdup(list.as_ptr());
        let mut names = null_mut();
        let valid = pg_sys::SplitIdentifierString(copy, b',' as c_char, &mut names);
        let found = (0..if names.is_null() { 0 } else { (*names).length as c_int })
            .map(|index| CStr::from_ptr(pg_sys::list_nth(names, index).cast()).to_owned())
            .collect();
        pg_sys::list_free(names);
        pg_sys::pfree(copy.cast());
        valid.then_some(found)
    }
}

/// Whether a boolean setting of the server is on.
pub fn is_on(name: &CStr) -> bool {
    // SAFETY: the name is NUL-terminated; the value is too, and stays valid until the setting changes.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        !value.is_null() && CStr::from_ptr(value) == c"on"
    }
}

/// Databases that the background vacuum visits, in the order of the list.
pub fn databases_for_vacuuming() -> Vec<CString> {
    let list = DATABASES_FOR_VACUUMING.get().unwrap_or_default();
    split_list(&list).unwrap_or_default()
}

/// Pause between two rounds.
pub fn vacuum_naptime() -> Duration {
    seconds(VACUUM_NAPTIME.get()).unwrap_or_default()
}

/// Longest time between two whole sweeps.
pub fn vacuum_full_interval() -> Duration {
    seconds(VACUUM_FULL_INTERVAL.get()).unwrap_or_default()
}

/// How long TRASH is kept; None for ever.
pub fn trash_retention() -> Option<Duration> {
    seconds(TRASH_RETENTION.get())
}

/// Runs of the background vacuum that take this long are logged; None for no run.
pub fn log_min_duration() -> Option<Duration> {
    u64::try_from(LOG_MIN_DURATION.get()).ok().map(Duration::from_millis)
}

/// Whether the group may read a store outside of the data directory.
pub fn group_access() -> bool {
    GROUP_ACCESS.get()
}

/// Whether the injection points are armed.
pub fn injection_points() -> bool {
    INJECTION_POINTS.get()
}

fn seconds(value: i32) -> Option<Duration> {
    u64::try_from(value).ok().map(Duration::from_secs)
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

/// Whether clients see the type as bytea.
pub fn client_type_is_bytea() -> bool {
    CLIENT_TYPE.get() == ClientType::Bytea && !dump_references()
}

/// Whether output prints references.
pub fn dump_references() -> bool {
    DUMP_REFERENCES.get()
}

/// What input makes of references.
pub fn restore_references() -> RestoreReferences {
    RESTORE_REFERENCES.get()
}

/// Where payloads of references are taken from, as it was set. None if nothing is set.
pub fn reference_directory() -> Option<PathBuf> {
    let path = REFERENCE_DIRECTORY.get().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// What a whole read compares the payload with.
pub fn verify() -> Verify {
    VERIFY.get()
}

/// Which payloads are in the WAL.
pub fn wal_payload_limit() -> Limit {
    match WAL_PAYLOAD_LIMIT.get() {
        0 => Limit::None,
        limit => u64::try_from(limit).map_or(Limit::All, Limit::Bytes),
    }
}

/// Whether payloads are in the WAL, as sessions begin.
pub fn logs_payloads() -> bool {
    // SAFETY: the name is NUL-terminated, the setting is defined, and its value stays valid until it changes.
    let value =
        unsafe { CStr::from_ptr(pg_sys::GetConfigOptionResetString(c"rbytea.wal_payload_limit".as_ptr())) };
    value != c"0"
}

/// Whose store a server in recovery has.
pub fn recovery_store() -> RecoveryStore {
    RECOVERY_STORE.get()
}

/// Most payloads that a session may be uploading at once.
pub fn max_uploads() -> i32 {
    MAX_UPLOADS.get()
}

/// Whether new payloads are encrypted.
pub fn qss_mode() -> bool {
    QSS_MODE.get()
}

/// The key file as it was set; a relative path starts at the data directory. None if none is set.
pub fn key_file() -> Option<PathBuf> {
    let path = KEY_FILE.get().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(path.into_bytes())))
}
