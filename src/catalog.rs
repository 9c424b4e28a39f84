//! The extension's own objects and the names of others. Ours are found by OID: everything is looked up
//! from the schema of the function at hand, so it does not matter in which schema the extension was created or what the search_path is.

use crate::error;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, Spi, pg_sys};
use std::ffi::{CStr, CString};

/// The schema that the extension was created in.
#[derive(Clone, Copy)]
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

    /// The schema of the extension in this database; None if it is not installed.
    pub fn installed() -> Result<Option<Self>, ErrorReport> {
        let namespace = Spi::connect(|client| {
            let query = "SELECT extnamespace FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'rbytea'";
            let found = client.select(query, Some(1), &[])?;
            if found.is_empty() { Ok(None) } else { found.first().get::<pg_sys::Oid>(1) }
        });
        let namespace = namespace.map_err(|error: pgrx::spi::Error| error::internal(error.to_string()))?;
        Ok(namespace.map(|namespace| Self { namespace }))
    }

    /// The type.
    pub fn type_oid(&self) -> Result<pg_sys::Oid, ErrorReport> {
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

    /// A function of the extension without arguments.
    pub fn function_oid(&self, name: &CStr) -> Result<pg_sys::Oid, ErrorReport> {
        // SAFETY: a syscache lookup with the key columns of PROCNAMEARGSNSP: name, argument types, namespace. The empty
        // oidvector is palloc'd by buildoidvector.
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

    /// A query with the extension's schema, quoted, in place of each `@schema@`. In the database's encoding, which may not
    /// be Rust's.
    pub fn query(&self, template: &str) -> Result<CString, ErrorReport> {
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

    /// A table of the extension.
    pub fn relation_oid(&self, name: &CStr) -> Result<pg_sys::Oid, ErrorReport> {
        // SAFETY: a syscache lookup by name and namespace.
        found(unsafe { pg_sys::get_relname_relid(name.as_ptr(), self.namespace) }, "table", name)
    }
}

fn found(oid: pg_sys::Oid, kind: &str, name: &CStr) -> Result<pg_sys::Oid, ErrorReport> {
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

/// The name of the current database, for messages.
pub fn database_name() -> String {
    // SAFETY: returns a palloc'd name; the current database exists.
    unsafe { readable(CStr::from_ptr(pg_sys::get_database_name(pg_sys::MyDatabaseId)).to_bytes()) }
}

/// Text in the database's encoding as Rust's, for messages: what is not ASCII appears as `\xNN` unless it is UTF-8.
pub fn readable(text: &[u8]) -> String {
    // SAFETY: a plain read of the backend's state.
    let is_utf8 = unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32;
    match std::str::from_utf8(text) {
        Ok(text) if is_utf8 => text.to_string(),
        _ => {
            let shown = |&byte: &u8| {
                if byte.is_ascii() { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }
            };
            text.iter().map(shown).collect()
        }
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
