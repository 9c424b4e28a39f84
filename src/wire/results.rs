//! Results: each visible target of type rbytea, and of arrays of it, goes through a function to bytea.

use crate::pg::installed::Installed;
use pgrx::{PgList, pg_guard, pg_sys};
use std::ffi::c_void;
use std::ptr;

/// Changes what a statement returns.
///
/// # Safety
/// `query` must be the result of an analysis.
pub unsafe fn present(query: *mut pg_sys::Query, types: &Installed) {
    // SAFETY: as promised by the caller.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_SELECT {
            wrap((*query).returningList, types);
            return;
        }
        let of_type = targets((*query).targetList).any(|target| is_presented(target, types));
        if !of_type {
            return;
        }
        let compared = targets((*query).targetList)
            .any(|target| (*target).ressortgroupref != 0 && is_presented(target, types));
        if compared || !(*query).setOperations.is_null() || !(*query).distinctClause.is_null() {
            nest(query);
        }
        wrap((*query).targetList, types);
    }
}

/// The types of a statement's results as the client sees them.
///
/// # Safety
/// As for [`present`].
pub unsafe fn of_client(query: *mut pg_sys::Query, types: &Installed) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: as promised by the caller.
    unsafe { results(query) }.map(|target| {
        // SAFETY: as above.
        let of = unsafe { pg_sys::exprType((*target).expr.cast()) };
        match kind(of, types) {
            Some(Kind::Value) => pg_sys::BYTEAOID,
            Some(Kind::Array) => pg_sys::BYTEAARRAYOID,
            None => of,
        }
    })
}

/// The targets of a statement that the client gets.
///
/// # Safety
/// As for [`present`].
unsafe fn results(query: *mut pg_sys::Query) -> impl Iterator<Item = *mut pg_sys::TargetEntry> {
    // SAFETY: as promised by the caller.
    unsafe {
        let is_select = (*query).commandType == pg_sys::CmdType::CMD_SELECT;
        targets(if is_select { (*query).targetList } else { (*query).returningList })
    }
}

/// Whether a statement returns a bytea, or an array of it: one that was presented, or that may be some day, when the column has
/// become an rbytea.
///
/// # Safety
/// As for [`present`].
pub unsafe fn has_bytea(query: *mut pg_sys::Query) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        results(query).any(|target| {
            [pg_sys::BYTEAOID, pg_sys::BYTEAARRAYOID].contains(&pg_sys::exprType((*target).expr.cast()))
        })
    }
}

/// How a result is presented.
#[derive(Clone, Copy)]
pub enum Kind {
    /// As a bytea.
    Value,
    /// As an array of them.
    Array,
}

/// # Safety
/// `target` must be a target of a statement.
unsafe fn is_presented(target: *mut pg_sys::TargetEntry, types: &Installed) -> bool {
    // SAFETY: as promised by the caller.
    kind(unsafe { pg_sys::exprType((*target).expr.cast()) }, types).is_some()
}

/// How results of a type are presented; None for other types.
pub fn kind(of: pg_sys::Oid, types: &Installed) -> Option<Kind> {
    // PostgreSQL's own types are no domains over ours.
    if of.to_u32() < pg_sys::FirstNormalObjectId {
        return None;
    }
    // SAFETY: a lookup in the system cache.
    let base = unsafe { pg_sys::getBaseType(of) };
    match base {
        _ if base == types.rbytea => Some(Kind::Value),
        _ if base == types.array || is_array_of_domain(base, types) => Some(Kind::Array),
        _ => None,
    }
}

/// Whether it is an array of a domain over the type.
fn is_array_of_domain(of: pg_sys::Oid, types: &Installed) -> bool {
    // SAFETY: lookups in the system cache.
    unsafe {
        let element = pg_sys::get_element_type(of);
        element != pg_sys::InvalidOid && pg_sys::getBaseType(element) == types.rbytea
    }
}

/// The visible targets.
///
/// # Safety
/// `list` must be a list of targets.
unsafe fn targets(list: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::TargetEntry> {
    // SAFETY: as promised by the caller.
    let targets: Vec<_> = unsafe { PgList::<pg_sys::TargetEntry>::from_pg(list).iter_ptr().collect() };
    // SAFETY: as above.
    targets.into_iter().filter(|target| unsafe { !(**target).resjunk })
}

/// # Safety
/// `list` must be a list of targets.
unsafe fn wrap(list: *mut pg_sys::List, types: &Installed) {
    // SAFETY: as promised by the caller; the expressions become arguments of the new ones.
    unsafe {
        for target in targets(list) {
            let value: *mut pg_sys::Node = (*target).expr.cast();
            let Some(kind) = kind(pg_sys::exprType(value), types) else { continue };
            let presented: *mut pg_sys::Node = match kind {
                Kind::Value => pg_sys::makeFuncExpr(
                    types.to_client,
                    pg_sys::BYTEAOID,
                    pg_sys::lappend(ptr::null_mut(), value.cast()),
                    pg_sys::InvalidOid,
                    pg_sys::InvalidOid,
                    pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
                )
                .cast(),
                Kind::Array => pg_sys::coerce_to_target_type(
                    ptr::null_mut(),
                    value,
                    pg_sys::exprType(value),
                    pg_sys::BYTEAARRAYOID,
                    -1,
                    pg_sys::CoercionContext::COERCION_EXPLICIT,
                    pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
                    -1,
                ),
            };
            if !presented.is_null() {
                (*target).expr = presented.cast();
            }
        }
    }
}

/// Makes the statement the subquery of a new one that selects all of its visible targets: they are sorted, grouped or compared
/// as rbytea, and what the new one makes of them is computed afterwards.
///
/// # Safety
/// `query` must be a SELECT.
unsafe fn nest(query: *mut pg_sys::Query) {
    // SAFETY: as promised by the caller; zeroed nodes with their tag are what makeNode makes.
    unsafe {
        let inner: *mut pg_sys::Query = node(pg_sys::NodeTag::T_Query);
        ptr::copy_nonoverlapping(query, inner, 1);

        let table: *mut pg_sys::RangeTblEntry = node(pg_sys::NodeTag::T_RangeTblEntry);
        (*table).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*table).subquery = inner;
        (*table).inFromCl = true;
        let (mut list, mut names) = (ptr::null_mut(), ptr::null_mut());
        for target in targets((*inner).targetList) {
            let value: *mut pg_sys::Node = (*target).expr.cast();
            let column = pg_sys::makeVar(
                1,
                (*target).resno,
                pg_sys::exprType(value),
                pg_sys::exprTypmod(value),
                pg_sys::exprCollation(value),
                0,
            );
            let outer = pg_sys::makeTargetEntry(column.cast(), (*target).resno, (*target).resname, false);
            (*outer).resorigtbl = (*target).resorigtbl;
            (*outer).resorigcol = (*target).resorigcol;
            list = pg_sys::lappend(list, outer.cast());
            let name = if (*target).resname.is_null() { c"?column?".as_ptr() } else { (*target).resname };
            names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(name)).cast());
        }
        (*table).eref = pg_sys::makeAlias(c"*SELECT*".as_ptr(), names);

        let reference: *mut pg_sys::RangeTblRef = node(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        let from = pg_sys::lappend(ptr::null_mut(), reference.cast());

        let outer: *mut pg_sys::Query = node(pg_sys::NodeTag::T_Query);
        (*outer).commandType = pg_sys::CmdType::CMD_SELECT;
        (*outer).querySource = (*inner).querySource;
        (*outer).queryId = (*inner).queryId;
        (*outer).canSetTag = (*inner).canSetTag;
        (*outer).stmt_location = (*inner).stmt_location;
        (*outer).stmt_len = (*inner).stmt_len;
        (*outer).rtable = pg_sys::lappend(ptr::null_mut(), table.cast());
        (*outer).jointree = pg_sys::makeFromExpr(from, ptr::null_mut());
        (*outer).targetList = list;
        // WITH that changes data must be at the top.
        (*outer).cteList = (*inner).cteList;
        (*outer).hasRecursive = (*inner).hasRecursive;
        (*outer).hasModifyingCTE = (*inner).hasModifyingCTE;
        (*inner).cteList = ptr::null_mut();
        (*inner).hasRecursive = false;
        (*inner).hasModifyingCTE = false;
        if !(*outer).cteList.is_null() {
            let mut depth = 0u32;
            let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as i32;
            let context = ptr::from_mut(&mut depth).cast::<c_void>();
            pg_sys::query_tree_walker(inner, Some(deepen), context, flags);
        }
        ptr::copy_nonoverlapping(outer, query, 1);
    }
}

/// A walker for references to the statement's WITH, which is one level further up now.
#[pg_guard]
unsafe extern "C-unwind" fn deepen(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the walkers pass nodes of the statement, and the context that they were given.
    unsafe {
        let depth = context.cast::<u32>();
        match (*node).type_ {
            pg_sys::NodeTag::T_RangeTblEntry => {
                let table = &mut *node.cast::<pg_sys::RangeTblEntry>();
                if table.rtekind == pg_sys::RTEKind::RTE_CTE && table.ctelevelsup == *depth {
                    table.ctelevelsup += 1;
                }
                false
            }
            pg_sys::NodeTag::T_Query => {
                *depth += 1;
                let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as i32;
                let found = pg_sys::query_tree_walker(node.cast(), Some(deepen), context, flags);
                *depth -= 1;
                found
            }
            _ => pg_sys::expression_tree_walker(node, Some(deepen), context),
        }
    }
}

/// A zeroed node with its tag.
///
/// # Safety
/// `tag` must be that of the type.
unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: the memory is large enough for the type, which begins with its tag.
    unsafe {
        let node: *mut T = pg_sys::palloc0(size_of::<T>()).cast();
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node
    }
}
