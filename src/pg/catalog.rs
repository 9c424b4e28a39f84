//! The extension's own objects and the names of others. Ours are found by OID: everything is looked up from the schema
//! of the function at hand, so neither the extension's schema nor the search_path matters.

use crate::pg::encoding::readable;
use crate::pg::error::{self, Report};
use crate::pg::{snapshot, spi};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, CString};

/// The schema of the extension's table and views, wherever the extension itself is. The script makes it.
const RELATIONS: &CStr = c"rbytea";

/// The schema that the extension was created in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    namespace: pg_sys::Oid,
}

impl Extension {
    /// The schema of the function that is being called.
    ///
    /// # Safety
    /// `fcinfo` must be a call of a function of the extension that lives in the extension's schema.
    pub unsafe fn of_call(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: the caller vouches for fcinfo; a call by the executor has flinfo with the function's OID.
        let namespace = unsafe { pg_sys::get_func_namespace((*(*fcinfo).flinfo).fn_oid) };
        Self { namespace }
    }

    /// Of this schema.
    pub fn in_schema(namespace: pg_sys::Oid) -> Self {
        Self { namespace }
    }

    /// The schema of the extension in this database; None if it is not installed.
    pub fn installed() -> Result<Option<Self>, Report> {
        let namespace = spi::value(c"SELECT extnamespace FROM pg_extension WHERE extname = 'rbytea'", &[])?;
        Ok(namespace.map(|namespace| Self { namespace }))
    }

    /// The type.
    pub fn type_oid(&self) -> Result<pg_sys::Oid, Report> {
        // SAFETY: a syscache lookup with the key columns of TYPENAMENSP: name, namespace.
        let oid = unsafe {
            pg_sys::GetSysCacheOid(
                pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
                pg_sys::Anum_pg_type_oid as i16,
                pg_sys::Datum::from(c"rbytea".as_ptr()),
                pg_sys::Datum::from(self.namespace),
                pg_sys::Datum::null(),
                pg_sys::Datum::null(),
            )
        };
        found(oid, "type", c"rbytea")
    }

    /// A relation in the schema of the extension, if it is there.
    pub fn relation_oid(&self, name: &CStr) -> Option<pg_sys::Oid> {
        // SAFETY: a lookup in the system cache.
        let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), self.namespace) };
        (oid != pg_sys::InvalidOid).then_some(oid)
    }

    /// A function of the extension without arguments.
    pub fn function_oid(&self, name: &CStr) -> Result<pg_sys::Oid, Report> {
        // SAFETY: a syscache lookup with the key columns of PROCNAMEARGSNSP: name, argument types, namespace. The
        // empty oidvector is palloc'd by buildoidvector.
        let oid = unsafe {
            let no_arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
            pg_sys::GetSysCacheOid(
                pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
                pg_sys::Anum_pg_proc_oid as i16,
                pg_sys::Datum::from(name.as_ptr()),
                pg_sys::Datum::from(no_arguments),
                pg_sys::Datum::from(self.namespace),
                pg_sys::Datum::null(),
            )
        };
        found(oid, "function", name)
    }

    /// A query with the extension's schema, quoted, in place of each `@schema@`. In the database's encoding, which may
    /// not be Rust's.
    pub fn query(&self, template: &str) -> Result<CString, Report> {
        // SAFETY: the first returns a palloc'd name or NULL, the second a string made of it.
        let schema = unsafe {
            let name = pg_sys::get_namespace_name(self.namespace);
            if name.is_null() {
                return Err(error::internal("the schema of rbytea is gone"));
            }
            CStr::from_ptr(pg_sys::quote_identifier(name)).to_bytes()
        };
        let parts: Vec<&[u8]> = template.split("@schema@").map(str::as_bytes).collect();
        CString::new(parts.join(schema)).map_err(|error| error::internal(error.to_string()))
    }

    /// The objects that a run needs throughout.
    pub fn objects(self) -> Result<Objects, Report> {
        // SAFETY: syscache lookups by name, and by name and namespace; there is no relation in an invalid namespace.
        let history = unsafe {
            let namespace = pg_sys::get_namespace_oid(RELATIONS.as_ptr(), true);
            pg_sys::get_relname_relid(c"rbytea_vacuum_history".as_ptr(), namespace)
        };
        Ok(Objects {
            extension: self,
            type_oid: self.type_oid()?,
            history: found(history, "table", c"rbytea.rbytea_vacuum_history")?,
        })
    }
}

/// Objects of the extension, looked up once for a run. They stay what they are while the history is locked
/// (`mark::preconditions::lock_history`); without that lock they may be dropped meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// The schema.
    pub extension: Extension,
    /// The type.
    pub type_oid: pg_sys::Oid,
    /// The table rbytea.rbytea_vacuum_history.
    pub history: pg_sys::Oid,
}

fn found(oid: pg_sys::Oid, kind: &str, name: &CStr) -> Result<pg_sys::Oid, Report> {
    if oid != pg_sys::InvalidOid {
        return Ok(oid);
    }
    let name = name.to_string_lossy();
    let message = format!("{kind} \"{name}\" of the extension rbytea does not exist");
    Err(error::report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
        .set_hint("Do not move single objects of the extension to another schema."))
}

/// The qualified and quoted name of a relation, for messages; None when it is gone.
pub fn relation_name(relid: pg_sys::Oid) -> Option<String> {
    // SAFETY: the first two return a palloc'd name or NULL, the third a palloc'd string made of both.
    unsafe {
        let relation = pg_sys::get_rel_name(relid);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relid));
        (!relation.is_null() && !schema.is_null()).then(|| {
            readable(CStr::from_ptr(pg_sys::quote_qualified_identifier(schema, relation)).to_bytes())
        })
    }
}

/// The transaction that made the type in this database: no row with a value of it is older, but for those that pg_upgrade has
/// brought along. None once VACUUM has frozen the row that tells: a frozen transaction id cannot be compared any more.
/// (The row is that of the cast from bytea, which unlike the type's own nothing updates.)
pub fn made_by(type_oid: pg_sys::Oid) -> Option<pg_sys::TransactionId> {
    // SAFETY: a lookup in the system cache, whose tuple is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(
            pg_sys::SysCacheIdentifier::CASTSOURCETARGET as i32,
            pg_sys::Datum::from(pg_sys::BYTEAOID),
            pg_sys::Datum::from(type_oid),
        );
        if tuple.is_null() {
            return None;
        }
        let header = (*tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        let made_by = ((*header).t_infomask & frozen != frozen).then_some((*header).t_choice.t_heap.t_xmin);
        pg_sys::ReleaseSysCache(tuple);
        made_by
    }
}

/// The quoted name of a constraint.
pub fn constraint_name(constraint: pg_sys::Oid) -> Option<String> {
    // SAFETY: the first returns a palloc'd name or NULL, the second a name that is quoted if need be.
    unsafe {
        let name = pg_sys::get_constraint_name(constraint);
        (!name.is_null()).then(|| readable(CStr::from_ptr(pg_sys::quote_identifier(name)).to_bytes()))
    }
}

/// Whether some transaction may know a database of this OID: whether pg_database has a row that VACUUM must not
/// remove.
pub fn database_may_exist(database: pg_sys::Oid) -> bool {
    // SAFETY: a scan of pg_database by its index over oid. The snapshot outlives the scan.
    unsafe {
        let databases = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let mut snapshot = snapshot::non_removable(databases);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_database_oid as i16,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::F_OIDEQ.into(),
            pg_sys::Datum::from(database),
        );
        let index = pg_sys::DatabaseOidIndexId.into();
        let scan = pg_sys::systable_beginscan(databases, index, true, &mut snapshot, 1, &mut key);
        let exists = !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(databases, pg_sys::AccessShareLock as i32);
        exists
    }
}

/// The lock that keeps all sessions from creating, entering or dropping a database; given back by drop.
pub struct DatabaseLock {
    tag: pg_sys::LOCKTAG,
}

/// Takes that lock if it is available at once.
pub fn try_lock_database(database: pg_sys::Oid) -> Option<DatabaseLock> {
    let tag = database_tag(database);
    // SAFETY: takes a lock without waiting; it ends with the transaction at the latest.
    let result = unsafe { pg_sys::LockAcquire(&tag, pg_sys::AccessExclusiveLock as i32, false, true) };
    (result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL).then(|| DatabaseLock { tag })
}

impl Drop for DatabaseLock {
    fn drop(&mut self) {
        // During unwinding the transaction's abort releases it.
        if !std::thread::panicking() {
            // SAFETY: taken by try_lock_database.
            unsafe { pg_sys::LockRelease(&self.tag, pg_sys::AccessExclusiveLock as i32, false) };
        }
    }
}

/// Of the lock on a row of pg_database, as SET_LOCKTAG_OBJECT makes it.
pub fn database_tag(database: pg_sys::Oid) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

/// The name of the current database, for messages.
pub fn database_name() -> String {
    // SAFETY: a plain read.
    name_of_database(unsafe { pg_sys::MyDatabaseId }).unwrap_or_default()
}

/// The name of a database, for messages; None when it is gone.
pub fn name_of_database(database: pg_sys::Oid) -> Option<String> {
    // SAFETY: returns a palloc'd name or NULL.
    unsafe {
        let name = pg_sys::get_database_name(database);
        (!name.is_null()).then(|| readable(CStr::from_ptr(name).to_bytes()))
    }
}

/// Whether a type exists now, whatever older snapshots see.
pub fn type_exists(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: a syscache lookup with the key column of TYPEOID.
    unsafe {
        pg_sys::SearchSysCacheExists(
            pg_sys::SysCacheIdentifier::TYPEOID as i32,
            pg_sys::Datum::from(type_oid),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    }
}
