//! The extension's types and functions in this database, looked up once and again after something has changed. Only where
//! every session loads the library at its start.

use crate::pg::catalog::Extension;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;

/// The extension's objects that are asked for all the time.
#[derive(Clone, Copy)]
pub struct Installed {
    /// Its schema.
    pub extension: Extension,
    /// The type.
    pub rbytea: pg_sys::Oid,
    /// Arrays of it.
    pub array: pg_sys::Oid,
    /// The function to bytea for what a client gets.
    pub to_client: pg_sys::Oid,
    /// That of the cast from bytea.
    pub from_bytea: pg_sys::Oid,
    /// The function from bytea for what a client sends to be stored.
    pub from_client: pg_sys::Oid,
}

thread_local! {
    /// Outer None: not known.
    static INSTALLED: Cell<Option<Option<Installed>>> = const { Cell::new(None) };
    /// Changes of types and functions that this backend has heard of.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// Registers for changes of types and functions.
pub fn init() {
    use pg_sys::SysCacheIdentifier::{PROCOID, TYPEOID};
    for cache in [TYPEOID, PROCOID] {
        // SAFETY: called from _PG_init; the callback lives as long as the library.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget), pg_sys::Datum::null());
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    INSTALLED.set(None);
    CHANGES.set(CHANGES.get() + 1);
}

/// Those of this database; None without the extension.
pub fn installed() -> Option<Installed> {
    if let Some(known) = INSTALLED.get() {
        return known;
    }
    let changes = CHANGES.get();
    // SAFETY: an analysis runs in a transaction.
    let found = unsafe { look_up() };
    if CHANGES.get() == changes {
        INSTALLED.set(Some(found));
    }
    found
}

/// # Safety
/// Takes a transaction.
unsafe fn look_up() -> Option<Installed> {
    let name = c"rbytea";
    // SAFETY: catalog lookups; the list is given back, and its tuples are of pg_type.
    unsafe {
        let extension = pg_sys::get_extension_oid(name.as_ptr(), true);
        if extension == pg_sys::InvalidOid {
            return None;
        }
        let list = pg_sys::SearchSysCacheList(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            1,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        );
        let mut found = None;
        for n in 0..(*list).n_members as usize {
            let member = *(*list).members.as_ptr().add(n);
            let form: pg_sys::Form_pg_type = pg_sys::GETSTRUCT(&raw mut (*member).tuple).cast();
            if pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, (*form).oid) == extension {
                found = Some(((*form).oid, (*form).typarray, (*form).typnamespace));
            }
        }
        pg_sys::ReleaseCatCacheList(list);
        let (rbytea, array, namespace) = found?;
        let catalog = pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE);
        let from_bytea = function(name, pg_sys::BYTEAOID, namespace)?;
        Some(Installed {
            extension: Extension::in_schema(namespace),
            rbytea,
            array,
            to_client: function(c"rbytea_to_client", rbytea, catalog)?,
            from_bytea,
            from_client: function(c"rbytea_from_client", pg_sys::BYTEAOID, catalog).unwrap_or(from_bytea),
        })
    }
}

/// A function of one argument.
///
/// # Safety
/// Takes a transaction.
unsafe fn function(name: &CStr, argument: pg_sys::Oid, namespace: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache lookup with the key columns of PROCNAMEARGSNSP: name, argument types, namespace.
    let oid = unsafe {
        let arguments = pg_sys::buildoidvector(ptr::from_ref(&argument), 1);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(arguments),
            pg_sys::Datum::from(namespace),
            pg_sys::Datum::null(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}
