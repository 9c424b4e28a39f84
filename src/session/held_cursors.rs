//! Cursors WITH HOLD keep rows, and with them references, in a session's memory without a snapshot. Sessions that have
//! one are counted in shared memory, and nothing is purged while the count of the database is above zero.

use crate::pg::catalog::Extension;
use crate::pg::error::Report;
use crate::pg::relation::attributes;
use crate::pg::shared;
use crate::value::columns::Closure;
use crate::value::walk::Types;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_int};

thread_local! {
    /// Cursors of this session that may hold references.
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    /// Whether this session is counted, and whether it will be uncounted when it ends.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// A cursor.
struct Held {
    name: CString,
}

/// InvalidSubTransactionId (PostgreSQL's c.h).
const NO_TRANSACTION: pg_sys::SubTransactionId = 0;

/// What a statement may change.
pub enum Change {
    /// It declares a cursor WITH HOLD of this name.
    Declared(CString),
    /// It may close cursors.
    Closed,
}

impl Change {
    /// None for a statement that has nothing to do with such cursors.
    ///
    /// # Safety
    /// `statement` must be a parse tree.
    pub unsafe fn of(statement: *mut pg_sys::Node) -> Option<Self> {
        // SAFETY: as promised by the caller; a DeclareCursorStmt has a name.
        unsafe {
            match (*statement).type_ {
                pg_sys::NodeTag::T_DeclareCursorStmt => {
                    let declare = statement.cast::<pg_sys::DeclareCursorStmt>();
                    let held = (*declare).options & pg_sys::CURSOR_OPT_HOLD as i32 != 0;
                    held.then(|| Self::Declared(CStr::from_ptr((*declare).portalname).to_owned()))
                }
                pg_sys::NodeTag::T_ClosePortalStmt | pg_sys::NodeTag::T_DiscardStmt => Some(Self::Closed),
                _ => None,
            }
        }
    }
}

/// Follows a statement that has ended.
pub fn after(change: Change) -> Result<(), Report> {
    let declared = match change {
        Change::Declared(name) if holds_references(&name)? => Some(Held { name }),
        Change::Declared(_) | Change::Closed => None,
    };
    HELD.with_borrow_mut(|held| {
        held.extend(declared);
        update(held);
    });
    Ok(())
}

/// Before a commit: cursors of a savepoint that was rolled back are gone, the others stay.
pub fn before_commit() {
    HELD.with_borrow_mut(|held| {
        if !held.is_empty() {
            update(held);
        }
    });
}

/// After a rollback. Cursors that belong to no transaction stay: those of earlier transactions, and those that were
/// materialized before the commit of this one failed. Raises nothing.
pub fn after_abort() {
    HELD.with_borrow_mut(|held| {
        held.retain(|cursor| portal(&cursor.name).is_some_and(is_of_no_transaction));
        count(!held.is_empty());
    });
}

/// Makes the list and the count what they should be.
fn update(held: &mut Vec<Held>) {
    held.retain(|cursor| portal(&cursor.name).is_some());
    if !held.is_empty() && !WATCHED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::null()) };
    }
    count(!held.is_empty());
}

/// A cursor WITH HOLD of this session.
fn portal(name: &CStr) -> Option<pg_sys::Portal> {
    // SAFETY: looks a portal up; it is valid until it is dropped.
    unsafe {
        let portal = pg_sys::GetPortalByName(name.as_ptr());
        let held = !portal.is_null() && (*portal).cursorOptions & pg_sys::CURSOR_OPT_HOLD as i32 != 0;
        held.then_some(portal)
    }
}

/// Whether a commit has materialized the cursor, even one that failed later.
fn is_of_no_transaction(portal: pg_sys::Portal) -> bool {
    // SAFETY: the portal exists; a rollback drops its own after the callbacks of its end.
    unsafe { (*portal).createSubid == NO_TRANSACTION }
}

fn count(has: bool) {
    if COUNTED.replace(has) != has {
        shared::count_cursors(has);
    }
}

#[pg_guard]
extern "C-unwind" fn at_exit(_code: c_int, _argument: pg_sys::Datum) {
    // The abort of an open transaction comes after this, and must not count the session again.
    HELD.with(|held| held.try_borrow_mut().map(|mut held| held.clear()).ok());
    count(false);
}

/// Whether some session of this database has such a cursor. One that is declared later has a snapshot that is younger
/// than this call, or is counted already.
pub fn any_held() -> bool {
    shared::any_cursors()
}

/// Whether there is such a cursor and its columns can hold values of our type.
fn holds_references(name: &CStr) -> Result<bool, Report> {
    let Some(portal) = portal(name) else { return Ok(false) };
    // SAFETY: the portal's descriptor lives as long as it, and a statement's end drops no cursor.
    let types: Vec<pg_sys::Oid> = unsafe {
        let columns = (*portal).tupDesc;
        if columns.is_null() {
            return Ok(false);
        }
        attributes(columns).map(|(_, column)| column.atttypid).collect()
    };
    // Anonymous rows and the values of statistics can hold anything.
    let anything = [pg_sys::RECORDOID, pg_sys::RECORDARRAYOID, pg_sys::ANYARRAYOID];
    let users = |type_oid: &pg_sys::Oid| type_oid.to_u32() >= pg_sys::FirstNormalObjectId;
    if !types.iter().any(|type_oid| users(type_oid) || anything.contains(type_oid)) {
        return Ok(false);
    }
    let Some(extension) = Extension::installed()? else { return Ok(false) };
    let closure = Closure::new(extension.type_oid()?);
    Ok(types.iter().any(|&type_oid| anything.contains(&type_oid) || closure.leads_to_value(type_oid)))
}
