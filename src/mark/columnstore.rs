//! TimescaleDB's columnstore: a table of its own keeps the values of a chunk in columns of its type `compressed_data`, under the
//! names that they have in the chunk. References in there are seen by no mark, so nothing may be moved while there is such a
//! table, and none is to come into being.

use crate::pg::error::{self, Report};
use crate::pg::{catalog, spi};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The type, where TimescaleDB is installed.
pub fn type_oid() -> Option<pg_sys::Oid> {
    // SAFETY: lookups in the system cache by name, and by name and namespace.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"_timescaledb_internal".as_ptr(), true);
        let oid = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as i16,
            pg_sys::Datum::from(c"compressed_data".as_ptr()),
            pg_sys::Datum::from(namespace),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        );
        (oid != pg_sys::InvalidOid).then_some(oid)
    }
}

/// Refuses if one of these relations has values in the columnstore, going by names: it is a hypertable or a chunk, all of its columns
/// are in another table of its owner, and one of those that lead to a value is compressed there.
pub fn refuse(relations: &[pg_sys::Oid], leads_to_value: impl Fn(pg_sys::Oid) -> bool) -> Result<(), Report> {
    let Some(compressed) = type_oid() else { return Ok(()) };
    let query = c"SELECT DISTINCT atttypid FROM pg_attribute WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped";
    let types: Vec<pg_sys::Oid> = spi::column(query, &[relations.to_vec().into()])?;
    let types: Vec<pg_sys::Oid> = types.into_iter().filter(|&of| leads_to_value(of)).collect();
    let query = c"SELECT ARRAY[v.attrelid, c.attrelid]
                    FROM pg_attribute c JOIN pg_attribute v USING (attname)
                    JOIN pg_class t ON t.oid = c.attrelid JOIN pg_class o ON o.oid = v.attrelid AND o.relowner = t.relowner
                   WHERE c.atttypid = $1 AND NOT c.attisdropped
                     AND EXISTS (SELECT FROM pg_inherits WHERE v.attrelid IN (inhrelid, inhparent))
                     AND v.atttypid = ANY ($2) AND v.attrelid = ANY ($3) AND NOT v.attisdropped
                     AND NOT EXISTS (SELECT FROM pg_attribute a
                                      WHERE a.attrelid = v.attrelid AND a.attnum > 0 AND NOT a.attisdropped
                                        AND NOT EXISTS (SELECT FROM pg_attribute b
                                                         WHERE b.attrelid = c.attrelid AND b.attname = a.attname
                                                           AND NOT b.attisdropped))
                   LIMIT 1";
    match spi::value(query, &[compressed.into(), types.into(), relations.to_vec().into()])? {
        Some(tables) => Err(refusal(tables)),
        None => Ok(()),
    }
}

/// Of the table and the one of the columnstore.
fn refusal(tables: Vec<pg_sys::Oid>) -> Report {
    let names: Vec<_> = tables.into_iter().filter_map(catalog::relation_name).collect();
    let which = names.join(" in ");
    error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("values of type rbytea in the columnstore are not supported: {which}"),
    )
    .set_detail("The vacuum does not see references in compressed chunks, and would take their payload files for garbage.")
    .set_hint(
        "Decompress its chunks and set timescaledb.enable_columnstore to false for it; create such hypertables WITH \
         (timescaledb.columnstore = false).",
    )
}
