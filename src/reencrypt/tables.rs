//! The tables of a re-encryption, and their columns of type rbytea. Refuses relations that the user does not own, and
//! those with constraints that an update below SQL would not check.

use crate::pg::error::{self, Report};
use crate::pg::relation::{Relation, Unlock};
use crate::pg::{catalog, compat, spi};
use crate::value::columns::Closure;
use crate::value::walk::Types;
use crate::write::pass::refuse_dependent_keys;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::num::NonZeroUsize;

/// The table, or the leaf partitions and descendants of it, that have rows.
pub fn tables(relation: pg_sys::Oid, type_oid: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, Report> {
    let Some(name) = catalog::relation_name(relation) else {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("relation with OID {relation} does not exist"),
        ));
    };
    // SAFETY: lookups in the system cache.
    let (kind, persistence) =
        unsafe { (pg_sys::get_rel_relkind(relation) as u8, pg_sys::get_rel_persistence(relation) as u8) };
    if !matches!(kind, b'r' | b'p') || persistence == b't' {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("cannot re-encrypt the payloads of {name}"),
        )
        .set_detail("It is not a table, or a temporary one."));
    }
    if !compat::owns_relation(relation) {
        let (not_owner, table) = (pg_sys::AclResult::ACLCHECK_NOT_OWNER, pg_sys::ObjectType::OBJECT_TABLE);
        // SAFETY: raises an ERROR; the name is palloc'd, or NULL.
        unsafe { pg_sys::aclcheck_error(not_owner, table, pg_sys::get_rel_name(relation)) };
    }
    let open = Relation::try_open(relation, pg_sys::AccessShareLock, Unlock::AtEnd);
    let Some(open) = open else { return Ok(Vec::new()) };
    if columns(&open, type_oid).is_empty() {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("table {name} has no column of type rbytea"),
        ));
    }
    drop(open);
    // Partitions and descendants that have rows of their own.
    let query = c"WITH RECURSIVE tree AS (
                      SELECT $1 AS relid
                      UNION SELECT i.inhrelid FROM pg_inherits i, tree WHERE i.inhparent = tree.relid)
                  SELECT c.oid FROM pg_class c, tree
                   WHERE c.oid = tree.relid AND c.relkind = 'r' AND c.relpersistence <> 't' ORDER BY c.oid";
    let tables: Vec<pg_sys::Oid> = spi::column(query, &[relation.into()])?;
    tables.iter().try_for_each(|&table| refuse_dependent_keys(table, "re-encrypt"))?;
    Ok(tables)
}

/// Columns of type rbytea or of a domain over it, without generated ones: those are computed anew.
pub fn columns(relation: &Relation, type_oid: pg_sys::Oid) -> Vec<NonZeroUsize> {
    let types = Closure::new(type_oid);
    // SAFETY: a lookup in the system cache.
    let is_ours = |column: pg_sys::Oid| unsafe { pg_sys::getBaseType(column) } == type_oid;
    relation
        .attributes()
        .filter(|(_, attribute)| attribute.attgenerated == 0 && types.leads_to_value(attribute.atttypid))
        .filter(|(_, attribute)| is_ours(attribute.atttypid))
        .map(|(column, _)| column)
        .collect()
}
