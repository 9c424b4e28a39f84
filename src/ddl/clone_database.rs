//! CREATE DATABASE … TEMPLATE: the new database has rows that refer to payloads, so it gets files of its own, by hard
//! link where the file system allows. With the library preloaded this happens within the command, before it copies the
//! database; otherwise rbytea_clone_from() does it.

use crate::mark::preconditions;
use crate::pg::catalog::Extension;
use crate::pg::error::{self, Report};
use crate::pg::progress::{self, Phase, Progress};
use crate::session::opening;
use crate::session::opening::Access;
use crate::session::transaction;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, pg_extern, pg_guard, pg_sys};
use rbytea_store as store;
use rbytea_store::{Backend, Kind};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The template if a CREATE DATABASE does not name one.
const DEFAULT_TEMPLATE: &CStr = c"template1";

thread_local! {
    /// The template of the CREATE DATABASE that is running.
    static TEMPLATE: Cell<Option<CString>> = const { Cell::new(None) };
}

/// The hook that was installed before ours.
static PREVIOUS: OnceLock<pg_sys::object_access_hook_type> = OnceLock::new();

/// Hooks into CREATE DATABASE; only while the server loads `shared_preload_libraries`, because a backend without the
/// library would create a database without payload files.
pub fn init() {
    // SAFETY: called from _PG_init; the hook is a plain variable, and ours lives as long as the library.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
    }
}

/// Remembers the template of a CREATE DATABASE that is about to run, as long as the result lives; None for any other
/// statement.
///
/// # Safety
/// `statement` must be a parse tree.
pub unsafe fn remember(statement: *mut pg_sys::Node) -> Option<Remembered> {
    // SAFETY: as promised by the caller.
    unsafe { template_of(statement) }.map(Remembered::new)
}

/// Forgets the template when the statement ends, however it ends.
pub struct Remembered(());

impl Remembered {
    fn new(template: CString) -> Self {
        TEMPLATE.set(Some(template));
        Self(())
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        TEMPLATE.set(None);
    }
}

/// The template that a CREATE DATABASE names; None for any other statement.
///
/// # Safety
/// `statement` must be a parse tree.
unsafe fn template_of(statement: *mut pg_sys::Node) -> Option<CString> {
    // SAFETY: the options of a CreatedbStmt are DefElems; defGetString returns a string in the current memory context.
    unsafe {
        if statement.is_null() || (*statement).type_ != pg_sys::NodeTag::T_CreatedbStmt {
            return None;
        }
        let options = (*statement.cast::<pg_sys::CreatedbStmt>()).options;
        let count = if options.is_null() { 0 } else { (*options).length };
        let template = (0..count)
            .map(|index| pg_sys::list_nth(options, index).cast::<pg_sys::DefElem>())
            .find(|&option| CStr::from_ptr((*option).defname) == c"template" && !(*option).arg.is_null())
            .map_or(DEFAULT_TEMPLATE, |option| CStr::from_ptr(pg_sys::defGetString(option)));
        Some(template.to_owned())
    }
}

/// Called when CREATE DATABASE has made the row of pg_database and before it copies anything: the template is locked
/// and no session is connected to it, and an error leaves nothing behind.
#[pg_guard]
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    argument: *mut c_void,
) {
    if let Some(next) = PREVIOUS.get().copied().flatten() {
        // SAFETY: the hook that was installed before ours, with the arguments as they came.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(access, class, object, sub, argument)) }
    }
    if access == pg_sys::ObjectAccessType::OAT_POST_CREATE
        && class == pg_sys::DatabaseRelationId
        && let Some(template) = TEMPLATE.take()
        && let Err(report) = clone_into(object, &template)
    {
        error::raise(report);
    }
}

fn clone_into(database: pg_sys::Oid, template: &CStr) -> Result<(), Report> {
    // SAFETY: CREATE DATABASE has looked the template up and locked it. The lock on the new database keeps a vacuum of
    // another database from taking its directory for that of a dropped one; it lasts to the end of the transaction.
    let source = unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        pg_sys::LockSharedObject(pg_sys::DatabaseRelationId, database, 0, lock);
        pg_sys::get_database_oid(template.as_ptr(), false)
    };
    let present = |store: Box<dyn Backend>| store.check_present().map(|()| store);
    let store = match opening::open_for(database).and_then(present) {
        Ok(store) => store,
        Err(error)
            if error.kind() == Kind::Config || matches!(error, store::Error::RegistryCorrupt { .. }) =>
        {
            // No store: either no session has stored anything yet, or its file system is not mounted.
            if matches!(opening::store_never_created(&error), Ok(true)) {
                return Ok(());
            }
            let report = error::report(PgSqlErrorCode::ERRCODE_WARNING, "the new database gets no payload files")
                .set_detail("The payload store cannot be opened.")
                .set_hint("If the template has rbytea columns, call rbytea_clone_from('<template>') in the new database later.");
            error::emit(report, PgLogLevel::WARNING);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    // A directory that a dropped database with the same OID has left is not this database's.
    if store.databases()?.contains(&database.to_u32()) {
        store.check_owner()?;
        store.trash_database(database.to_u32(), SystemTime::now())?;
    }
    clone(&*store, source).map(drop)
}

fn clone(store: &dyn Backend, source: pg_sys::Oid) -> Result<i64, Report> {
    let _progress = Progress::begin();
    progress::phase(Phase::Cloning);
    let cloned = store.clone_database(source.to_u32(), &mut |cloned| {
        check_for_interrupts!();
        progress::cloned(cloned.linked + cloned.copied + cloned.present);
    })?;
    Ok((cloned.linked + cloned.copied) as i64)
}

/// Gives this database the payload files of the database that it was made from. Returns the number of files.
#[pg_extern]
fn rbytea_clone_from(template: &CStr, fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    // SAFETY: the first two look at the server's state and raise an ERROR where writing is not allowed; fcinfo is the
    // call at hand, of a function in the extension's schema. The lock keeps the template from being dropped meanwhile.
    let (extension, source) = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_clone_from()".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"rbytea_clone_from()".as_ptr());
        let source = pg_sys::get_database_oid(template.as_ptr(), false);
        pg_sys::LockSharedObject(pg_sys::DatabaseRelationId, source, 0, pg_sys::AccessShareLock as i32);
        (Extension::of_call(fcinfo), pg_sys::get_database_oid(template.as_ptr(), false))
    };
    // SAFETY: a plain read.
    if source == unsafe { pg_sys::MyDatabaseId } {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "a database cannot be its own template",
        )
        .set_hint("Name the database that this one was made from.")
        .into());
    }
    preconditions::exclude(&extension)?;
    Ok(transaction::with_store(Access::Write, |store| clone(store, source))?)
}
