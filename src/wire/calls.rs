//! What a statement calls: whether two analyses of a text have come to the same functions and operators.

use pgrx::{pg_guard, pg_sys};
use std::ffi::{CStr, CString, c_void};
use std::ptr;

/// A function or an operator: PostgreSQL's own and the extension's operators, of which there is one for each type, by name.
#[derive(PartialEq, Eq)]
pub enum Call {
    /// In pg_catalog.
    Named(CString),
    /// Anything else.
    Other(pg_sys::Oid),
}

/// The calls of a statement, in the order in which they are found; without casts.
///
/// # Safety
/// `query` must be the result of an analysis.
pub unsafe fn calls(query: *mut pg_sys::Query) -> Vec<Call> {
    let mut found = Vec::new();
    // SAFETY: as promised by the caller.
    unsafe { pg_sys::query_tree_walker(query, Some(find), ptr::from_mut(&mut found).cast::<c_void>(), 0) };
    found
}

#[pg_guard]
unsafe extern "C-unwind" fn find(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::CoercionForm::{COERCE_EXPLICIT_CALL, COERCE_SQL_SYNTAX};
    if node.is_null() {
        return false;
    }
    // SAFETY: the walkers pass nodes of the statement, and the context that they were given; DistinctExpr and NullIfExpr are OpExpr.
    unsafe {
        let found = &mut *context.cast::<Vec<Call>>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                return pg_sys::query_tree_walker(node.cast(), Some(find), context, 0);
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let call = &*node.cast::<pg_sys::FuncExpr>();
                if matches!(call.funcformat, COERCE_EXPLICIT_CALL | COERCE_SQL_SYNTAX) {
                    found.push(function(call.funcid));
                }
            }
            pg_sys::NodeTag::T_Aggref => found.push(function((*node.cast::<pg_sys::Aggref>()).aggfnoid)),
            pg_sys::NodeTag::T_WindowFunc => {
                found.push(function((*node.cast::<pg_sys::WindowFunc>()).winfnoid))
            }
            pg_sys::NodeTag::T_OpExpr | pg_sys::NodeTag::T_DistinctExpr | pg_sys::NodeTag::T_NullIfExpr => {
                found.push(operator((*node.cast::<pg_sys::OpExpr>()).opno));
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                found.push(operator((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno));
            }
            pg_sys::NodeTag::T_RowCompareExpr => {
                let operators = (*node.cast::<pg_sys::RowCompareExpr>()).opnos;
                let len = if operators.is_null() { 0 } else { (*operators).length as usize };
                found.extend((0..len).map(|n| operator((*(*operators).elements.add(n)).oid_value)));
            }
            _ => {}
        }
        pg_sys::expression_tree_walker(node, Some(find), context)
    }
}

fn function(oid: pg_sys::Oid) -> Call {
    // SAFETY: lookups in the system cache.
    unsafe { call(oid, pg_sys::get_func_namespace(oid), pg_sys::get_func_name(oid)) }
}

fn operator(oid: pg_sys::Oid) -> Call {
    // SAFETY: a lookup in the system cache, whose tuple is released.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::OPEROID as i32, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return Call::Other(oid);
        }
        let namespace = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_operator>()).oprnamespace;
        pg_sys::ReleaseSysCache(tuple);
        call(oid, namespace, pg_sys::get_opname(oid))
    }
}

/// # Safety
/// `name` must be NUL-terminated, or NULL.
unsafe fn call(oid: pg_sys::Oid, namespace: pg_sys::Oid, name: *const std::ffi::c_char) -> Call {
    if name.is_null() || namespace.to_u32() != pg_sys::PG_CATALOG_NAMESPACE {
        return Call::Other(oid);
    }
    // SAFETY: as promised by the caller.
    Call::Named(unsafe { CStr::from_ptr(name) }.into())
}
