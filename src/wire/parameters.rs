//! Parameters: what the parser has inferred to be an rbytea, or an array of it, is a bytea for the client, or an array, and cast.

use crate::pg::compat;
use crate::pg::installed::Installed;
use pgrx::{PgList, pg_guard, pg_sys};
use std::ffi::c_void;
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
    /// How many statements inside of the client's the walker is in.
    depth: u32,
    /// By number, from 0: whether the parameter stays what it was inferred to be.
    stays: Vec<bool>,
    /// Whether it has become a bytea.
    changed: Vec<bool>,
}

/// Changes the parameters of a statement whose types were inferred. One that is an argument of a function stays: with a
/// bytea the function would not be found when the statement is analysed again. Of arrays only those change that ANY or ALL
/// compares with, or that are a result or a column's new value as they are: operators of two array types there are none.
///
/// # Safety
/// `pstate` must be the state of the analysis that `query` is a result of.
pub unsafe fn present(pstate: *mut pg_sys::ParseState, query: *mut pg_sys::Query, types: &Installed) {
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
        if !inferred.iter().any(|&of| is_ours(of, types)) {
            return;
        }
        let mut change = Change { types, depth: 0, stays: vec![false; number], changed: vec![false; number] };
        let context = ptr::from_mut(&mut change).cast::<c_void>();
        pg_sys::query_tree_walker(query, Some(find_arguments), context, 0);
        compat::query_tree_mutator(query, replace, context, pg_sys::QTW_DONT_COPY_QUERY as i32);
        for (inferred, changed) in inferred.iter_mut().zip(&change.changed) {
            if *changed {
                *inferred = if *inferred == types.array { pg_sys::BYTEAARRAYOID } else { pg_sys::BYTEAOID };
            }
        }
    }
}

/// Whether parameters of this type become a bytea, or an array: those of the type, of a domain over it, and arrays.
fn is_ours(of: pg_sys::Oid, types: &Installed) -> bool {
    // SAFETY: a lookup in the system cache. PostgreSQL's own types are no domains over ours.
    let base = || unsafe { pg_sys::getBaseType(of) };
    of == types.array || of.to_u32() >= pg_sys::FirstNormalObjectId && base() == types.rbytea
}

/// The parameter's place in the vectors, if it is one of the client's of such a type.
///
/// # Safety
/// `node` must be a node.
unsafe fn place(node: *mut pg_sys::Node, change: &Change<'_>) -> Option<usize> {
    // SAFETY: as promised by the caller.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_Param {
            return None;
        }
        let param = &*node.cast::<pg_sys::Param>();
        let is_external = param.paramkind == pg_sys::ParamKind::PARAM_EXTERN;
        let place = usize::try_from(param.paramid).ok()?.checked_sub(1)?;
        (is_external && place < change.stays.len() && is_ours(param.paramtype, change.types)).then_some(place)
    }
}

/// The same, if it is an array.
///
/// # Safety
/// `node` must be a node.
unsafe fn place_of_array(node: *mut pg_sys::Node, change: &Change<'_>) -> Option<usize> {
    // SAFETY: as promised by the caller; what has a place is a parameter.
    unsafe {
        let place = place(node, change)?;
        ((*node.cast::<pg_sys::Param>()).paramtype == change.types.array).then_some(place)
    }
}

/// A walker that notes which parameters stay: arguments of functions, and most arrays.
#[pg_guard]
unsafe extern "C-unwind" fn find_arguments(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the walkers pass nodes of the statement, and the context that they were given.
    unsafe {
        let change = &mut *context.cast::<Change<'_>>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                change.depth += 1;
                let found = pg_sys::query_tree_walker(node.cast(), Some(find_arguments), context, 0);
                (*context.cast::<Change<'_>>()).depth -= 1;
                return found;
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let call = &*node.cast::<pg_sys::FuncExpr>();
                if call.funcformat == pg_sys::CoercionForm::COERCE_EXPLICIT_CALL {
                    for argument in PgList::<pg_sys::Node>::from_pg(call.args).iter_ptr() {
                        if let Some(place) = place(argument, change) {
                            change.stays[place] = true;
                        }
                    }
                }
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                let comparison = &*node.cast::<pg_sys::ScalarArrayOpExpr>();
                let arguments = PgList::<pg_sys::Node>::from_pg(comparison.args);
                if let (Some(value), Some(array)) = (arguments.get_ptr(0), arguments.get_ptr(1))
                    && place_of_array(array, change).is_some()
                {
                    return find_arguments(value, context);
                }
            }
            pg_sys::NodeTag::T_TargetEntry => {
                let value: *mut pg_sys::Node = (*node.cast::<pg_sys::TargetEntry>()).expr.cast();
                if change.depth == 0 && !value.is_null() && place_of_array(value, change).is_some() {
                    return false;
                }
            }
            _ => {
                if let Some(place) = place_of_array(node, change) {
                    change.stays[place] = true;
                }
            }
        }
        pg_sys::expression_tree_walker(node, Some(find_arguments), context)
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
        let change = &mut *context.cast::<Change<'_>>();
        if let Some(place) = place(node, change) {
            if change.stays[place] {
                return node;
            }
            let param: *mut pg_sys::Param = pg_sys::copyObjectImpl(node.cast()).cast();
            let inferred = (*param).paramtype;
            let is_array = inferred == change.types.array;
            (*param).paramtype = if is_array { pg_sys::BYTEAARRAYOID } else { pg_sys::BYTEAOID };
            let value = pg_sys::coerce_to_target_type(
                ptr::null_mut(),
                param.cast(),
                (*param).paramtype,
                inferred,
                (*param).paramtypmod,
                pg_sys::CoercionContext::COERCION_EXPLICIT,
                pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
                -1,
            );
            if value.is_null() {
                return node;
            }
            change.changed[place] = true;
            return value;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            return compat::query_tree_mutator(node.cast(), replace, context, 0).cast();
        }
        compat::expression_tree_mutator(node, replace, context)
    }
}
