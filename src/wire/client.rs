//! Which analyses are of statements that the client has sent.

use super::results;
use crate::pg::installed::Installed;
use crate::pg::relation::attributes;
use crate::pg::statement::{self, Utility};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char};
use std::hash::{DefaultHasher, Hash, Hasher};

thread_local! {
    /// Hashes of the texts of prepared statements with results of type bytea. Describe may have their plans made anew, where
    /// the text alone says whose they are; they must come out the same, also if a column has become an rbytea meanwhile.
    static PRESENTED: RefCell<HashSet<u64>> = RefCell::new(HashSet::new());
}

/// Texts that are remembered.
const REMEMBERED: usize = 1 << 16;

/// Whether the client has sent the statement that is being analysed. The text of what functions analyse is their own; what the
/// client has sent is recognised by the pointer.
///
/// # Safety
/// `pstate` must be the state of an analysis.
pub unsafe fn has_sent(pstate: *mut pg_sys::ParseState) -> bool {
    // SAFETY: as promised by the caller; plain reads of the backend's variables.
    let (text, sent, is_client) =
        unsafe { ((*pstate).p_sourcetext, pg_sys::debug_query_string, !pg_sys::MyProcPort.is_null()) };
    if text.is_null() || !is_client {
        return false;
    }
    match statement::running() {
        None if text == sent => true,
        // Describe, for which no text is known. Triggers that run at the end of a transaction have none either.
        // SAFETY: it has a text.
        None if sent.is_null() && !in_trigger() => unsafe { is_remembered(text) },
        // COPY and CREATE VIEW analyse queries of the client's text, too.
        Some(Utility::Prepare | Utility::Execute) => text == statement::analysed(),
        _ => false,
    }
}

/// Whether a statement of the client's is an EXECUTE of what was prepared with results of the type, by a function or with the setting
/// `rbytea.client_type = rbytea`. It cannot change them.
pub fn stays(types: &Installed) -> bool {
    let results = statement::results_before();
    // SAFETY: a descriptor if it is not NULL.
    !results.is_null()
        && unsafe { attributes(results) }.any(|(_, column)| results::kind(column.atttypid, types).is_some())
}

/// Whether a trigger's function is running.
fn in_trigger() -> bool {
    unsafe extern "C-unwind" {
        /// commands/trigger.h; the function of SQL, which looks at no argument.
        fn pg_trigger_depth(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    }
    // SAFETY: returns a variable of the backend, and raises nothing.
    unsafe { pg_trigger_depth(std::ptr::null_mut()) }.value() > 0
}

/// The statement whose results a client gets: of EXPLAIN and DECLARE CURSOR the one inside. None for other utility statements.
///
/// # Safety
/// `query` must be the result of an analysis.
pub unsafe fn statement(query: *mut pg_sys::Query) -> Option<*mut pg_sys::Query> {
    // SAFETY: as promised by the caller; the tags say what the nodes are.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_UTILITY {
            return Some(query);
        }
        let utility = (*query).utilityStmt;
        let inside = match (*utility).type_ {
            pg_sys::NodeTag::T_DeclareCursorStmt => (*utility.cast::<pg_sys::DeclareCursorStmt>()).query,
            pg_sys::NodeTag::T_ExplainStmt => (*utility.cast::<pg_sys::ExplainStmt>()).query,
            _ => return None,
        };
        let is_query = !inside.is_null() && (*inside).type_ == pg_sys::NodeTag::T_Query;
        let inside = is_query.then(|| inside.cast::<pg_sys::Query>());
        inside.filter(|inside| (**inside).commandType != pg_sys::CmdType::CMD_UTILITY)
    }
}

/// Whether a statement is prepared, in either way: only then does the parser infer types of parameters.
///
/// # Safety
/// As for [`has_sent`].
pub unsafe fn prepares(pstate: *mut pg_sys::ParseState) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { (*pstate).p_coerce_param_hook.is_some() }
}

/// Remembers that results of this statement are bytea.
///
/// # Safety
/// As for [`has_sent`].
pub unsafe fn remember(pstate: *mut pg_sys::ParseState) {
    // SAFETY: as promised by the caller.
    let hash = unsafe { hash((*pstate).p_sourcetext) };
    PRESENTED.with_borrow_mut(|presented| {
        if presented.len() == REMEMBERED {
            presented.clear();
        }
        presented.insert(hash);
    });
}

/// Whether results of prepared statements with this text are bytea.
///
/// # Safety
/// `text` must be NUL-terminated.
unsafe fn is_remembered(text: *const c_char) -> bool {
    // SAFETY: as promised by the caller.
    let hash = unsafe { hash(text) };
    PRESENTED.with_borrow(|presented| presented.contains(&hash))
}

/// # Safety
/// `text` must be NUL-terminated.
unsafe fn hash(text: *const c_char) -> u64 {
    let mut hasher = DefaultHasher::new();
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.hash(&mut hasher);
    hasher.finish()
}
