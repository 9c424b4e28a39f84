//! Cursors WITH HOLD keep rows, and with them references, in a session's memory when no snapshot does. As long as a session
//! has one it holds a lock that the purge asks for.

use crate::{catalog, compat};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString};

thread_local! {
    /// Cursors of this session that may hold references. Not empty: the lock is held.
    static HELD: RefCell<Vec<CString>> = const { RefCell::new(Vec::new()) };
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

/// Before a commit: the transaction may have been one that followed a cursor's rollback, or may have given up all of its
/// advisory locks.
pub fn before_commit() {
    HELD.with_borrow_mut(|held| {
        if !held.is_empty() {
            update(held);
        }
    });
}

/// Makes the list and the lock what they should be.
fn update(held: &mut Vec<CString>) {
    held.retain(|name| holds_references(name));
    let (tag, mode) = (tag(), pg_sys::ShareLock as pg_sys::LOCKMODE);
    // SAFETY: a lock of the session, which nobody waits for and which outlives the transaction.
    unsafe {
        match (compat::lock_is_held(&tag, mode), !held.is_empty()) {
            (false, true) => {
                pg_sys::LockAcquire(&tag, mode, true, false);
            }
            (true, false) => {
                pg_sys::LockRelease(&tag, mode, true);
            }
            _ => {}
        }
    }
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

/// Whether some session of this database has a cursor that may hold references. A cursor that is declared later is of a
/// transaction whose snapshot is younger than this look, or counts itself.
pub fn are_there() -> bool {
    let (tag, mode) = (tag(), pg_sys::ExclusiveLock as pg_sys::LOCKMODE);
    // SAFETY: takes a lock without waiting, and gives it back.
    unsafe {
        let free =
            pg_sys::LockAcquire(&tag, mode, false, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
        if free {
            pg_sys::LockRelease(&tag, mode, false);
        }
        !free || HELD.with_borrow(|held| !held.is_empty())
    }
}

fn tag() -> pg_sys::LOCKTAG {
    catalog::advisory_tag(0)
}
