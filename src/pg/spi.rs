//! The extension's own queries. They run under a search_path with PostgreSQL's own names alone, so that no operator,
//! function or table of a user can take the place of what they mean; the extension's objects are named with their
//! schema ([`query`], [`Extension::query`](crate::pg::catalog::Extension::query)). Each query is planned anew, and its plan is
//! not kept.
//!
//! The session's search_path is back when a function returns, and also when an ERROR passes through it. None of the
//! queries runs code of users, with one exception: a trigger that the extension's owner has put on the vacuum's
//! history sees the same search_path that rvacuum() is declared with.

use crate::pg::error::{self, Report};
use pgrx::datum::DatumWithOid;
use pgrx::spi::{self, SpiTupleTable};
use pgrx::{FromDatum, IntoDatum, Spi, pg_sys};
use std::ffi::{CStr, CString};

/// A query as text for the functions below. In ASCII: the database may have another encoding than Rust.
pub fn query(text: &str) -> Result<CString, Report> {
    CString::new(text).map_err(|error| error::internal(error.to_string()))
}

/// The first column of every row that a query returns; NULLs are left out.
pub fn column<T: FromDatum + IntoDatum>(
    query: &CStr,
    parameters: &[DatumWithOid<'_>],
) -> Result<Vec<T>, Report> {
    let _restricted = RestrictedSearchPath::set();
    let rows = Spi::connect(|client| {
        client.select(query, None, parameters)?.map(|row| row.get(1)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// The first column of the first row that a query returns; None if it is NULL, or if there is no row.
pub fn value<T: FromDatum + IntoDatum>(
    query: &CStr,
    parameters: &[DatumWithOid<'_>],
) -> Result<Option<T>, Report> {
    row(query, parameters, |row| if row.is_empty() { Ok(None) } else { row.get(1) })
}

/// What `read` makes of the first row that a query returns.
pub fn row<T>(
    query: &CStr,
    parameters: &[DatumWithOid<'_>],
    read: impl FnOnce(&SpiTupleTable<'_>) -> Result<T, spi::Error>,
) -> Result<T, Report> {
    let _restricted = RestrictedSearchPath::set();
    Ok(Spi::connect(|client| read(&client.select(query, Some(1), parameters)?.first()))?)
}

/// Runs a statement that changes rows.
pub fn execute(query: &CStr, parameters: &[DatumWithOid<'_>]) -> Result<(), Report> {
    let _restricted = RestrictedSearchPath::set();
    Spi::connect_mut(|client| client.update(query, None, parameters).map(drop))?;
    Ok(())
}

/// The search_path under which PostgreSQL's own maintenance commands run code (RestrictSearchPath of its guc.c, which
/// majors below 17 do not have); the session's own comes back when it is dropped.
struct RestrictedSearchPath {
    nest_level: i32,
}

impl RestrictedSearchPath {
    fn set() -> Self {
        // SAFETY: begins a level of settings, which drop ends; name and value are NUL-terminated and the value is
        // valid.
        unsafe {
            let restricted = Self { nest_level: pg_sys::NewGUCNestLevel() };
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            restricted
        }
    }
}

impl Drop for RestrictedSearchPath {
    fn drop(&mut self) {
        // Also while an ERROR unwinds: a caller that catches it without a subtransaction goes on before the abort.
        // SAFETY: ends the level that set() began, with those inside of it that an ERROR has left. It raises nothing,
        // as an abort calls it too, which finds this level ended then.
        unsafe { pg_sys::AtEOXact_GUC(!std::thread::panicking(), self.nest_level) }
    }
}
