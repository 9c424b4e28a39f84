//! Where values may not be kept: in an index that holds them, and in extended statistics, because both outlive the rows whose
//! files they refer to; in the bounds of partitions; in a table that is no heap, because no mark sees into it, nor
//! into a columnstore. (A btree index on a column of the type
//! itself is refused by its options function, before it is built. A hash index holds no values.)

use crate::mark::columnstore;
use crate::pg::encoding::readable;
use crate::pg::error::{self, Report};
use crate::pg::relation::{Relation, Unlock};
use crate::pg::spi;
use crate::value::columns::Closure;
use crate::value::walk::Types;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, CString};

/// Looks at these relations, at all their indexes and statistics, and at the statistics that the current command has made.
pub fn check(relations: &[pg_sys::Oid], types: &Closure) -> Result<(), Report> {
    relations.iter().try_for_each(|&relid| refuse_access_method(relid, types))?;
    columnstore::refuse(relations, |of| types.leads_to_value(of))?;
    refuse_partitioning(relations, types)?;
    refuse_indexes(relations, types)?;
    refuse_statistics(relations, types)
}

/// By LIST or RANGE: a bound is a value that the catalog keeps, where no mark sees it. By HASH there are numbers.
fn refuse_partitioning(relations: &[pg_sys::Oid], types: &Closure) -> Result<(), Report> {
    let query = c"SELECT atttypid FROM pg_partitioned_table JOIN pg_attribute ON attrelid = partrelid AND attnum = ANY (partattrs)
                   WHERE partrelid = ANY ($1) AND partstrat <> 'h'";
    let mut keys: Vec<pg_sys::Oid> = spi::column(query, &[relations.to_vec().into()])?;
    let query = c"SELECT partexprs::text FROM pg_partitioned_table
                   WHERE partrelid = ANY ($1) AND partstrat <> 'h' AND partexprs IS NOT NULL";
    let expressions: Vec<String> = spi::column(query, &[relations.to_vec().into()])?;
    for expression in expressions {
        keys.extend(expression_types(&expression)?);
    }
    if !keys.into_iter().any(|key| types.leads_to_value(key)) {
        return Ok(());
    }
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "partitioning by list or range of values of type rbytea is not supported",
    )
    .set_detail("The bounds of a partition keep values whose payload files the vacuum deletes.")
    .set_hint("Partition by hash, or by sha256sum(column)."))
}

fn refuse_access_method(relid: pg_sys::Oid, types: &Closure) -> Result<(), Report> {
    // SAFETY: a lookup in the system cache; a relation that is gone has kind 0.
    if !matches!(unsafe { pg_sys::get_rel_relkind(relid) } as u8, b'r' | b'm') {
        return Ok(());
    }
    let Some(relation) = Relation::try_open(relid, pg_sys::AccessShareLock, Unlock::AtEnd) else {
        return Ok(());
    };
    let holds = relation.attributes().any(|(_, attribute)| types.leads_to_value(attribute.atttypid));
    if relation.is_heap() || !holds { Ok(()) } else { Err(access_method(relation.class().relam)) }
}

/// That a table's access method is not PostgreSQL's heap.
pub fn access_method(oid: pg_sys::Oid) -> Report {
    // SAFETY: returns a palloc'd name, or NULL.
    let name = unsafe {
        let name = pg_sys::get_am_name(oid);
        if name.is_null() { String::new() } else { readable(CStr::from_ptr(name).to_bytes()) }
    };
    error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("tables of the access method \"{name}\" cannot have values of type rbytea"),
    )
    .set_detail(
        "The vacuum reads tables of PostgreSQL's heap alone, and would take their payload files for garbage.",
    )
    .set_hint("Make the table with USING heap, or the column a bytea.")
}

/// That an index would hold values, be it in arrays or rows.
pub fn index() -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "indexes that hold values of type rbytea are not supported",
    )
    .set_detail("An index keeps entries of deleted rows, whose payload files the vacuum deletes.")
    .set_hint(
        "For =, create a hash index; for uniqueness, a constraint EXCLUDE USING hash (column WITH =), or a unique index on \
         sha256sum(column).",
    )
}

fn refuse_indexes(relations: &[pg_sys::Oid], types: &Closure) -> Result<(), Report> {
    let query = c"SELECT DISTINCT atttypid FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
                   WHERE (indrelid = ANY ($1) OR indexrelid = ANY ($1)) AND attnum <= indnkeyatts";
    let keys: Vec<pg_sys::Oid> = spi::column(query, &[relations.to_vec().into()])?;
    if keys.into_iter().any(|key| types.leads_to_value(key)) { Err(index()) } else { Ok(()) }
}

/// Looks at the indexes of all tables, after the rows of these relations have got values: an index of a function's result has no
/// other tie to the type of that.
pub fn check_results(relations: &[pg_sys::Oid], types: &Closure) -> Result<(), Report> {
    // SAFETY: lookups in the system cache; a relation that is gone has no row type.
    let holds = |&relid: &pg_sys::Oid| types.leads_to_value(unsafe { pg_sys::get_rel_type_id(relid) });
    if !relations.iter().any(holds) {
        return Ok(());
    }
    let query = c"SELECT DISTINCT atttypid FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
                   WHERE attnum <= indnkeyatts AND atttypid >= 16384";
    let keys: Vec<pg_sys::Oid> = spi::column(query, &[])?;
    if keys.into_iter().any(|key| types.leads_to_value(key)) { Err(index()) } else { Ok(()) }
}

/// Statistics of several columns or expressions. Those of a single expression are kept as a column's are, where marks see what
/// they refer to.
fn refuse_statistics(relations: &[pg_sys::Oid], types: &Closure) -> Result<(), Report> {
    let query = c"WITH made AS (SELECT s.* FROM pg_statistic_ext s
                                 WHERE stxkind <> '{e}' AND (stxrelid = ANY ($1)
                                    OR s.oid IN (SELECT objid FROM pg_event_trigger_ddl_commands()
                                                  WHERE classid = 'pg_statistic_ext'::regclass)))
                  SELECT atttypid FROM made JOIN pg_attribute ON attrelid = stxrelid AND attnum = ANY (stxkeys)";
    let columns: Vec<pg_sys::Oid> = spi::column(query, &[relations.to_vec().into()])?;
    let query = c"SELECT stxexprs::text FROM pg_statistic_ext s
                   WHERE stxexprs IS NOT NULL AND stxkind <> '{e}'
                     AND (stxrelid = ANY ($1)
                          OR s.oid IN (SELECT objid FROM pg_event_trigger_ddl_commands()
                                        WHERE classid = 'pg_statistic_ext'::regclass))";
    let expressions: Vec<String> = spi::column(query, &[relations.to_vec().into()])?;
    let mut of = columns;
    for expression in expressions {
        of.extend(expression_types(&expression)?);
    }
    if !of.into_iter().any(|of| types.leads_to_value(of)) {
        return Ok(());
    }
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "extended statistics of values of type rbytea are not supported",
    )
    .set_detail("They keep values of deleted rows, whose payload files the vacuum deletes."))
}

/// The types of a list of expressions as the catalog has it.
fn expression_types(expressions: &str) -> Result<Vec<pg_sys::Oid>, Report> {
    let expressions = CString::new(expressions)
        .map_err(|_| error::internal("an expression of the catalog has a NUL in its text"))?;
    // SAFETY: the catalog's text of a list of expressions, which the server has written itself.
    unsafe {
        let list: *mut pg_sys::List = pg_sys::stringToNode(expressions.as_ptr()).cast();
        let len = if list.is_null() { 0 } else { (*list).length };
        Ok((0..len).map(|n| pg_sys::exprType(pg_sys::list_nth(list, n).cast())).collect())
    }
}
