//! Parameters that a statement stores: they are cast by a function that no plan computes. A plan would have a constant of it, which is
//! one more copy of the payload. Elsewhere, in conditions, plans are better with the constant.

use crate::pg::installed::Installed;
use pgrx::{PgList, pg_guard, pg_sys};
use std::ffi::c_void;
use std::ptr;

/// Changes what INSERT, UPDATE and MERGE store, in queries of WITH too. Not for foreign tables: their servers compute no function
/// that is not immutable.
///
/// # Safety
/// `query` must be the result of an analysis.
pub unsafe fn present(query: *mut pg_sys::Query, types: &Installed) {
    // SAFETY: as promised by the caller; the lists are of the nodes that an analysis puts there.
    unsafe {
        for expression in PgList::<pg_sys::CommonTableExpr>::from_pg((*query).cteList).iter_ptr() {
            present((*expression).ctequery.cast(), types);
        }
        let of_server =
            |table: *mut pg_sys::RangeTblEntry| (*table).relkind as u8 != pg_sys::RELKIND_FOREIGN_TABLE;
        let tables = PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
        let target = usize::try_from((*query).resultRelation).ok().and_then(|place| place.checked_sub(1));
        if !target.and_then(|place| tables.get_ptr(place)).is_some_and(of_server) {
            return;
        }
        let change = |list: *mut pg_sys::List| {
            let context = ptr::from_ref(types).cast_mut().cast::<c_void>();
            if !list.is_null() {
                replace(list.cast(), context);
            }
        };
        change((*query).targetList);
        if !(*query).onConflict.is_null() {
            change((*(*query).onConflict).onConflictSet);
        }
        for action in PgList::<pg_sys::MergeAction>::from_pg((*query).mergeActionList).iter_ptr() {
            change((*action).targetList);
        }
        if (*query).commandType == pg_sys::CmdType::CMD_INSERT {
            for table in tables.iter_ptr() {
                change((*table).values_lists);
                if !(*table).subquery.is_null() {
                    change((*(*table).subquery).targetList);
                }
            }
        }
    }
}

/// A walker that puts the function in the place of the cast. It leaves subqueries alone.
#[pg_guard]
unsafe extern "C-unwind" fn replace(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the walkers pass nodes of the statement, and the context that they were given; the cast has one argument.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => return false,
            pg_sys::NodeTag::T_FuncExpr => {
                let types = &*context.cast::<Installed>();
                let cast = &mut *node.cast::<pg_sys::FuncExpr>();
                if cast.funcid == types.from_bytea && is_parameter(pg_sys::list_nth(cast.args, 0).cast()) {
                    cast.funcid = types.from_client;
                }
            }
            _ => {}
        }
        pg_sys::expression_tree_walker(node, Some(replace), context)
    }
}

/// # Safety
/// `node` must be a node.
unsafe fn is_parameter(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_Param
            && (*node.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN
    }
}
