//! Cursors WITH HOLD keep rows, and with them references, in a session's memory when no snapshot does. Sessions that have one
//! are counted, and nothing is purged while there are some.

use crate::{compat, shared};
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_int};

thread_local! {
    /// Cursors of this session that may hold references.
    static HELD: RefCell<Vec<CString>> = const { RefCell::new(Vec::new()) };
    /// Whether this session is counted, and whether it will be uncounted when it ends.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// What a statement may change.
pub enum Change {
    /// It declares a cursor WITH HOLD of this name.
    Declared(CString),
    /// It may close some.
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
pub fn after(change: Change) {
    HELD.with_borrow_mut(|held| {
        if let Change::Declared(name) = change {
            held.push(name);
        }
        update(held);
    });
}

/// Before a commit: cursors of a transaction that was rolled back meanwhile are gone.
pub fn before_commit() {
    HELD.with_borrow_mut(|held| {
        if !held.is_empty() {
            update(held);
        }
    });
}

/// Makes the list and the count what they should be.
fn update(held: &mut Vec<CString>) {
    held.retain(|name| holds_references(name));
    if !held.is_empty() && !WATCHED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::null()) };
    }
    count(!held.is_empty());
}

fn count(has: bool) {
    if COUNTED.replace(has) != has {
        shared::count_cursors(has);
    }
}

#[pg_guard]
extern "C-unwind" fn at_exit(_code: c_int, _argument: pg_sys::Datum) {
    count(false);
}

/// Whether some session of this database has such a cursor. One that is declared later is of a transaction whose snapshot is
/// younger than this look, or counts already.
pub fn are_there() -> bool {
    shared::are_there_cursors()
}

/// Whether there is such a cursor and it has columns that are not of PostgreSQL's own types.
fn holds_references(name: &CStr) -> bool {
    // SAFETY: looks a portal of this session up; its descriptor lives as long as it.
    unsafe {
        let portal = pg_sys::GetPortalByName(name.as_ptr());
        if portal.is_null() || (*portal).cursorOptions & pg_sys::CURSOR_OPT_HOLD as i32 == 0 {
            return false;
        }
        let columns = (*portal).tupDesc;
        !columns.is_null()
            && (0..(*columns).natts as usize).any(|index| {
                let type_oid = (*compat::attribute(columns, index)).atttypid;
                type_oid.to_u32() >= pg_sys::FirstNormalObjectId
                    || type_oid == pg_sys::RECORDOID
                    || type_oid == pg_sys::RECORDARRAYOID
                    || type_oid == pg_sys::ANYARRAYOID
            })
    }
}
