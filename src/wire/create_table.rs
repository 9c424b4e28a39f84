//! CREATE TABLE AS EXECUTE, also within EXPLAIN: the prepared statement has bytea for the client where the new table has the
//! type itself. So a second one is prepared of the same text, as it is, and executed in its place.

use crate::pg::relation::attributes;
use crate::pg::statement;
use pgrx::{pg_guard, pg_sys};
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::OnceLock;

/// The hook that was installed before ours.
static PREVIOUS: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// Hooks in, where every session does that at its start.
pub fn init() {
    // SAFETY: called from _PG_init; the hook is a plain variable, and ours lives as long as the library.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

#[allow(clippy::too_many_arguments, reason = "the server's hook has as many")]
#[pg_guard]
unsafe extern "C-unwind" fn process_utility(
    utility: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server passes a statement with a parse tree; all arguments are passed on as they came, but for a
    // statement that is a copy.
    unsafe {
        let second = Second::of(utility);
        statement::run_next(
            PREVIOUS.get().copied().flatten(),
            second.as_ref().map_or(utility, |second| second.utility),
            query,
            read_only_tree,
            context,
            params,
            environment,
            destination,
            completion,
        );
    }
}

/// The second prepared statement, and the utility statement that executes it. Dropped with self.
struct Second {
    utility: *mut pg_sys::PlannedStmt,
    name: CString,
}

impl Second {
    /// None if the statement creates no table, executes nothing, or what it executes returns no bytea.
    ///
    /// # Safety
    /// `utility` must be a utility statement.
    unsafe fn of(utility: *mut pg_sys::PlannedStmt) -> Option<Self> {
        // SAFETY: as promised by the caller. A prepared statement lives until it is deallocated.
        unsafe {
            let execute = execute_of((*utility).utilityStmt)?;
            let prepared = pg_sys::FetchPreparedStatement((*execute).name, false);
            if prepared.is_null() {
                return None;
            }
            let source = (*prepared).plansource;
            let arguments = (*execute).params.as_ref().map_or(0, |arguments| arguments.length);
            // A wrong number of arguments is an error about the statement that was named.
            if (*source).raw_parse_tree.is_null()
                || !returns_bytea((*source).resultDesc)
                || (*source).num_params > 0 && arguments != (*source).num_params
            {
                return None;
            }
            let name = free_name();
            prepare(source, &name);
            // From here on it is dropped, whatever happens.
            let mut second = Self { utility, name };
            second.utility = pg_sys::copyObjectImpl(utility.cast()).cast();
            let execute = execute_of((*second.utility).utilityStmt)?;
            (*execute).name = pg_sys::pstrdup(second.name.as_ptr());
            Some(second)
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // SAFETY: raises nothing with this flag. Also while an ERROR unwinds: it only takes memory back, and what still
        // executes the statement has a plan of its own.
        unsafe { pg_sys::DropPreparedStatement(self.name.as_ptr(), false) }
    }
}

/// A name that no prepared statement has: the user may have taken any, and what is executed may create a table itself.
fn free_name() -> CString {
    let mut names =
        (0..).map(|n| CString::from_vec_with_nul(format!("rbytea: CREATE TABLE AS {n}\0").into_bytes()));
    // SAFETY: looks the name up.
    let is_free = |name: &CString| unsafe { pg_sys::FetchPreparedStatement(name.as_ptr(), false) }.is_null();
    names.find_map(|name| name.ok().filter(is_free)).unwrap_or_default()
}

/// Whether a result has a bytea, or an array of it.
///
/// # Safety
/// `results` must be valid, or NULL.
unsafe fn returns_bytea(results: pg_sys::TupleDesc) -> bool {
    // SAFETY: as promised by the caller.
    !results.is_null()
        && unsafe { attributes(results) }
            .any(|(_, attribute)| [pg_sys::BYTEAOID, pg_sys::BYTEAARRAYOID].contains(&attribute.atttypid))
}

/// The EXECUTE inside of CREATE TABLE AS.
///
/// # Safety
/// `statement` must be the parse tree of a utility statement.
unsafe fn execute_of(statement: *mut pg_sys::Node) -> Option<*mut pg_sys::ExecuteStmt> {
    // SAFETY: as promised by the caller; the tags say what the nodes are.
    unsafe {
        let create = match (*statement).type_ {
            pg_sys::NodeTag::T_CreateTableAsStmt => statement,
            pg_sys::NodeTag::T_ExplainStmt => inside((*statement.cast::<pg_sys::ExplainStmt>()).query)
                .filter(|inside| (**inside).type_ == pg_sys::NodeTag::T_CreateTableAsStmt)?,
            _ => return None,
        };
        let execute = inside((*create.cast::<pg_sys::CreateTableAsStmt>()).query)?;
        ((*execute).type_ == pg_sys::NodeTag::T_ExecuteStmt).then(|| execute.cast())
    }
}

/// The utility statement in an analysed query.
///
/// # Safety
/// `query` must be NULL or a node.
unsafe fn inside(query: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: as promised by the caller.
    unsafe {
        if query.is_null() || (*query).type_ != pg_sys::NodeTag::T_Query {
            return None;
        }
        let utility = (*query.cast::<pg_sys::Query>()).utilityStmt;
        (!utility.is_null()).then_some(utility)
    }
}

/// Prepares the text of a prepared statement once more; its analysis is not one of what the client has sent.
///
/// # Safety
/// `source` must be a prepared statement's, with a parse tree.
unsafe fn prepare(source: *mut pg_sys::CachedPlanSource, name: &CStr) {
    // SAFETY: as promised by the caller; a zeroed node with its tag is what makeNode makes. The parse tree is copied
    // before it is analysed.
    unsafe {
        let raw = (*source).raw_parse_tree;
        let mut types = ptr::null_mut();
        for n in 0..(*source).num_params as usize {
            let of = pg_sys::makeTypeNameFromOid(*(*source).param_types.add(n), -1);
            types = pg_sys::lappend(types, of.cast());
        }
        let mut statement: pg_sys::PrepareStmt = std::mem::zeroed();
        statement.type_ = pg_sys::NodeTag::T_PrepareStmt;
        statement.name = pg_sys::pstrdup(name.as_ptr());
        statement.argtypes = types;
        statement.query = pg_sys::copyObjectImpl((*raw).stmt.cast()).cast();
        let pstate = pg_sys::make_parsestate(ptr::null_mut());
        (*pstate).p_sourcetext = (*source).query_string;
        pg_sys::PrepareQuery(pstate, &mut statement, (*raw).stmt_location, (*raw).stmt_len);
        pg_sys::free_parsestate(pstate);
    }
}
