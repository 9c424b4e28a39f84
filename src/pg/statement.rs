//! Which utility statement is running, the innermost one: what is analysed meanwhile belongs to it.

use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::c_char;
use std::sync::OnceLock;

/// What matters of a utility statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Utility {
    /// PREPARE, which analyses a statement of the client.
    Prepare,
    /// EXECUTE, also within EXPLAIN, which may analyse such a statement once more.
    Execute,
    /// CREATE TABLE AS and SELECT INTO, also within EXPLAIN: the table is filled below SQL.
    CreateTableAs,
    /// Any other.
    Other,
}

/// One that is running.
#[derive(Clone, Copy)]
struct Statement {
    utility: Utility,
    /// Of PREPARE by a client: its text, to be recognised by the pointer; else NULL.
    text: *const c_char,
    /// Of EXECUTE: the name, and what it stood for. What runs may have deallocated that.
    name: *const c_char,
    prepared: *mut pg_sys::CachedPlanSource,
}

impl Statement {
    fn of(utility: Utility) -> Self {
        let (text, name) = (std::ptr::null(), std::ptr::null());
        Self { utility, text, name, prepared: std::ptr::null_mut() }
    }

    /// What EXECUTE executes, if it is still there.
    fn executed(&self) -> Option<&pg_sys::CachedPlanSource> {
        // SAFETY: the name lives as long as the statement; a prepared statement has a plan source.
        unsafe {
            let found = if self.name.is_null() {
                None
            } else {
                pg_sys::FetchPreparedStatement(self.name, false).as_ref()
            };
            found
                .filter(|found| found.plansource == self.prepared)
                .and_then(|found| found.plansource.as_ref())
        }
    }
}

thread_local! {
    static RUNNING: Cell<Option<Statement>> = const { Cell::new(None) };
}

/// The innermost utility statement that is running.
pub fn running() -> Option<Utility> {
    RUNNING.get().map(|running| running.utility)
}

/// The text of the statement that PREPARE or EXECUTE analyses for a client, to be recognised by the pointer; else NULL.
pub fn analysed() -> *const c_char {
    let of = |running: Statement| running.executed().map_or(running.text, |prepared| prepared.query_string);
    RUNNING.get().map_or(std::ptr::null(), of)
}

/// The results of the prepared statement that EXECUTE analyses once more, as they were before; else NULL.
pub fn results_before() -> pg_sys::TupleDesc {
    let of = |running: Statement| running.executed().map(|prepared| prepared.resultDesc);
    RUNNING.get().and_then(of).unwrap_or(std::ptr::null_mut())
}

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
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server passes a statement with a parse tree; all arguments are passed on as they came.
    unsafe {
        let is_client_s = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL;
        let _running =
            Running::begin((*statement).utilityStmt, if is_client_s { query } else { std::ptr::null() });
        run_next(
            PREVIOUS.get().copied().flatten(),
            statement,
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

/// Calls the hook that was there before another one, or runs the statement.
///
/// # Safety
/// The arguments must be those of a hook for utility statements.
#[allow(clippy::too_many_arguments, reason = "the server's hook has nearly as many")]
pub unsafe fn run_next(
    previous: pg_sys::ProcessUtility_hook_type,
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let next = previous.unwrap_or(standard_ProcessUtility);
            next(statement, query, read_only_tree, context, params, environment, destination, completion);
        });
    }
}

unsafe extern "C-unwind" {
    /// tcop/utility.h, without pgrx's wrapper: it is called inside of one boundary.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Says that a utility statement is running, until it is dropped.
struct Running {
    outer: Option<Statement>,
}

impl Running {
    /// Of this parse tree, in this text if a client has sent it.
    ///
    /// # Safety
    /// `statement` must be the parse tree of a utility statement.
    unsafe fn begin(statement: *mut pg_sys::Node, text: *const c_char) -> Self {
        // SAFETY: as promised by the caller; the tag says what the node is.
        let running = unsafe {
            match (*statement).type_ {
                pg_sys::NodeTag::T_PrepareStmt => Statement { text, ..Statement::of(Utility::Prepare) },
                pg_sys::NodeTag::T_ExecuteStmt => executes(statement.cast()),
                pg_sys::NodeTag::T_ExplainStmt => explained((*statement.cast::<pg_sys::ExplainStmt>()).query),
                pg_sys::NodeTag::T_CreateTableAsStmt => Statement::of(Utility::CreateTableAs),
                _ => Statement::of(Utility::Other),
            }
        };
        Self { outer: RUNNING.replace(Some(running)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.outer);
    }
}

/// Of EXPLAIN, by the query inside.
///
/// # Safety
/// `query` must be NULL or the Query inside of it.
unsafe fn explained(query: *mut pg_sys::Node) -> Statement {
    // SAFETY: as promised by the caller.
    unsafe {
        if query.is_null() || (*query).type_ != pg_sys::NodeTag::T_Query {
            return Statement::of(Utility::Other);
        }
        let utility = (*query.cast::<pg_sys::Query>()).utilityStmt;
        match utility.as_ref().map(|utility| utility.type_) {
            Some(pg_sys::NodeTag::T_ExecuteStmt) => executes(utility.cast()),
            Some(pg_sys::NodeTag::T_CreateTableAsStmt) => Statement::of(Utility::CreateTableAs),
            _ => Statement::of(Utility::Other),
        }
    }
}

/// EXECUTE, with what was prepared: functions that it calls have texts of their own.
///
/// # Safety
/// `execute` must be its parse tree.
unsafe fn executes(execute: *mut pg_sys::ExecuteStmt) -> Statement {
    let of_nothing = Statement::of(Utility::Execute);
    // SAFETY: as promised by the caller; a prepared statement has a plan source.
    unsafe {
        match pg_sys::FetchPreparedStatement((*execute).name, false).as_ref() {
            Some(prepared) => {
                Statement { name: (*execute).name, prepared: prepared.plansource, ..of_nothing }
            }
            None => of_nothing,
        }
    }
}
