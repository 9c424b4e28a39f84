//! Parameters: what the parser has inferred to be an rbytea, or an array of it, is a bytea for the client, or an array, and cast.

use super::calls::{Call, calls};
use super::{client, results};
use crate::pg::installed::Installed;
use crate::pg::subtransaction::subtransaction;
use crate::pg::{compat, error};
use pgrx::{PgList, PgSqlErrorCode, pg_guard, pg_sys};
use std::ffi::{c_char, c_void};
use std::ptr;

/// parser/parse_param.c, the same in 15 to 18: what the state of an analysis that infers types points to.
#[repr(C)]
struct VarParamState {
    types: *mut *mut pg_sys::Oid,
    number: *mut i32,
}

/// One statement.
struct Change<'a> {
    types: &'a Installed,
    /// By number, from 0: whether the parameter becomes a bytea.
    chosen: Vec<bool>,
}

/// Changes the parameters of a statement whose types were inferred. Whenever the statement is analysed again, they are bytea from the
/// start: one with which it would be another statement, or none at all, stays what it was inferred to be, such as the argument
/// of a function that takes no bytea. If not all can be bytea, those that can, from the first on.
///
/// # Safety
/// `pstate` must be the state of the analysis that `whole` is the result of, and `query` the statement in that.
pub unsafe fn present(
    pstate: *mut pg_sys::ParseState,
    whole: *mut pg_sys::Query,
    query: *mut pg_sys::Query,
    types: &Installed,
) {
    // SAFETY: as promised by the caller. The hook is there only where types are inferred.
    unsafe {
        if (*pstate).p_coerce_param_hook.is_none() {
            return;
        }
        let state: *mut VarParamState = (*pstate).p_ref_hook_state.cast();
        let number = *(*state).number as usize;
        if number == 0 {
            return;
        }
        let inferred = std::slice::from_raw_parts_mut(*(*state).types, number);
        let ours: Vec<usize> = (0..number).filter(|&place| is_ours(inferred[place], types)).collect();
        if ours.is_empty() {
            return;
        }
        let again = Again { pstate, whole, query, calls: calls(query), inferred, types };
        let mut change = Change { types, chosen: vec![false; number] };
        ours.iter().for_each(|&place| change.chosen[place] = true);
        if !again.is_the_same(&change.chosen) {
            change.chosen.fill(false);
            for &place in &ours {
                change.chosen[place] = true;
                change.chosen[place] = ours.len() > 1 && again.is_the_same(&change.chosen);
            }
        }
        let chosen = again.with(&change.chosen);
        let context = ptr::from_mut(&mut change).cast::<c_void>();
        compat::query_tree_mutator(query, replace, context, pg_sys::QTW_DONT_COPY_QUERY as i32);
        inferred.copy_from_slice(&chosen);
    }
}

/// The same statement, analysed again.
struct Again<'a> {
    pstate: *mut pg_sys::ParseState,
    whole: *mut pg_sys::Query,
    query: *mut pg_sys::Query,
    calls: Vec<Call>,
    inferred: &'a [pg_sys::Oid],
    types: &'a Installed,
}

impl Again<'_> {
    /// The parameters' types when these are bytea.
    fn with(&self, chosen: &[bool]) -> Vec<pg_sys::Oid> {
        let types = self.inferred.iter().zip(chosen);
        types.map(|(&of, &chosen)| if chosen { of_client(of, self.types) } else { of }).collect()
    }

    /// Whether the statement can be analysed when these are bytea, calls the same, and has results of the same types for the client.
    ///
    /// # Safety
    /// The pointers must be those of the analysis at hand.
    unsafe fn is_the_same(&self, chosen: &[bool]) -> bool {
        unsafe extern "C-unwind" {
            /// parser/parse_param.h, which pgrx does not have.
            fn setup_parse_fixed_parameters(
                pstate: *mut pg_sys::ParseState,
                types: *const pg_sys::Oid,
                number: std::ffi::c_int,
            );
        }
        let parameters = self.with(chosen);
        let analysed = subtransaction(|| {
            // SAFETY: as promised by the caller. What raises an ERROR here is caught; the parse tree is a fresh one.
            unsafe {
                let Some(raw) = raw((*self.pstate).p_sourcetext, (*self.whole).stmt_location) else {
                    return Ok(None);
                };
                let pstate = pg_sys::make_parsestate(ptr::null_mut());
                (*pstate).p_sourcetext = (*self.pstate).p_sourcetext;
                (*pstate).p_queryEnv = (*self.pstate).p_queryEnv;
                setup_parse_fixed_parameters(pstate, parameters.as_ptr(), parameters.len() as i32);
                let query = pg_sys::transformTopLevelStmt(pstate, raw);
                pg_sys::free_parsestate(pstate);
                Ok(client::statement(query))
            }
        });
        match analysed {
            // SAFETY: as promised by the caller; what has been analysed is there.
            Ok(Some(again)) => unsafe {
                results::of_client(again, self.types).eq(results::of_client(self.query, self.types))
                    && calls(again) == self.calls
            },
            Ok(None) => false,
            Err(caught) if caught.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => error::raise(caught),
            Err(_) => false,
        }
    }
}

/// The parse tree of the statement at this place of a text, as it was before its analysis; of PREPARE the one inside.
///
/// # Safety
/// `text` must be NUL-terminated.
unsafe fn raw(text: *const c_char, location: i32) -> Option<*mut pg_sys::RawStmt> {
    // SAFETY: as promised by the caller; the tag says what the node is.
    unsafe {
        let parsed = pg_sys::raw_parser(text, pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let mut statements =
            PgList::<pg_sys::RawStmt>::from_pg(parsed).iter_ptr().collect::<Vec<_>>().into_iter();
        let raw = statements.find(|raw| (**raw).stmt_location == location)?;
        if (*(*raw).stmt).type_ == pg_sys::NodeTag::T_PrepareStmt {
            (*raw).stmt = (*(*raw).stmt.cast::<pg_sys::PrepareStmt>()).query;
        }
        Some(raw)
    }
}

/// Whether parameters of this type become a bytea, or an array: those of the type, of a domain over it, and arrays.
fn is_ours(of: pg_sys::Oid, types: &Installed) -> bool {
    // SAFETY: a lookup in the system cache. PostgreSQL's own types are no domains over ours.
    let base = || unsafe { pg_sys::getBaseType(of) };
    of == types.array || of.to_u32() >= pg_sys::FirstNormalObjectId && base() == types.rbytea
}

/// What the client has in the place of such a parameter.
fn of_client(of: pg_sys::Oid, types: &Installed) -> pg_sys::Oid {
    if of == types.array { pg_sys::BYTEAARRAYOID } else { pg_sys::BYTEAOID }
}

/// Whether a node is a parameter that becomes a bytea.
///
/// # Safety
/// `node` must be a node.
unsafe fn is_chosen(node: *mut pg_sys::Node, change: &Change<'_>) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_Param {
            return false;
        }
        let param = &*node.cast::<pg_sys::Param>();
        let place = usize::try_from(param.paramid).ok().and_then(|number| number.checked_sub(1));
        param.paramkind == pg_sys::ParamKind::PARAM_EXTERN
            && place.and_then(|place| change.chosen.get(place)).is_some_and(|&chosen| chosen)
    }
}

/// A mutator that puts casts from bytea in the place of parameters.
#[pg_guard]
unsafe extern "C-unwind" fn replace(node: *mut pg_sys::Node, context: *mut c_void) -> *mut pg_sys::Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: the mutators pass nodes of the statement, and the context that they were given.
    unsafe {
        let change = &*context.cast::<Change<'_>>();
        if is_chosen(node, change) {
            let param: *mut pg_sys::Param = pg_sys::copyObjectImpl(node.cast()).cast();
            let inferred = (*param).paramtype;
            (*param).paramtype = of_client(inferred, change.types);
            return pg_sys::coerce_to_target_type(
                ptr::null_mut(),
                param.cast(),
                (*param).paramtype,
                inferred,
                (*param).paramtypmod,
                pg_sys::CoercionContext::COERCION_EXPLICIT,
                pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
                -1,
            );
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            return compat::query_tree_mutator(node.cast(), replace, context, 0).cast();
        }
        compat::expression_tree_mutator(node, replace, context)
    }
}
