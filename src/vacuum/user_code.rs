//! Functions of users that an update of a table's rows would call.

use crate::pg::error::{self, Report};
use crate::pg::spi;
use pgrx::{PgSqlErrorCode, pg_sys};

/// Whether functions of users would run, which the worker cannot wait for: those in generated columns and in expressions of
/// indexes, those behind operators, operator classes and ranges there, and domains. What a superuser owns is as good as
/// PostgreSQL's own.
pub fn refuse(table: pg_sys::Oid) -> Result<(), Report> {
    let query = c"WITH RECURSIVE needs AS (
            SELECT refclassid AS class, refobjid AS oid FROM pg_depend
             WHERE classid = 'pg_class'::regclass AND objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = $1)
                OR classid = 'pg_attrdef'::regclass AND objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = $1)
                OR classid = 'pg_constraint'::regclass
                   AND objid IN (SELECT oid FROM pg_constraint WHERE conrelid = $1 AND contype IN ('x', 'p', 'u'))),
        key_types AS (
            SELECT atttypid AS oid FROM pg_index
              JOIN pg_attribute ON attrelid = indexrelid OR attrelid = indrelid AND attnum = ANY (indkey)
             WHERE indrelid = $1
            UNION
            SELECT part FROM key_types JOIN pg_type t ON t.oid = key_types.oid
             CROSS JOIN LATERAL (SELECT typbasetype UNION ALL SELECT typelem
                                 UNION ALL SELECT atttypid FROM pg_attribute
                                            WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped
                                 UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
                                 UNION ALL SELECT rngtypid FROM pg_range WHERE rngmultitypid = t.oid) p (part)
             WHERE part <> 0),
        operators AS (
            SELECT oid FROM needs WHERE class = 'pg_operator'::regclass
            UNION ALL
            SELECT amopopr FROM needs JOIN pg_opclass c ON class = 'pg_opclass'::regclass AND c.oid = needs.oid
              JOIN pg_amop ON amopfamily = opcfamily),
        functions AS (
            SELECT oid FROM needs WHERE class = 'pg_proc'::regclass
            UNION ALL
            SELECT oprcode FROM operators JOIN pg_operator o ON o.oid = operators.oid
            UNION ALL
            SELECT amproc FROM needs JOIN pg_opclass c ON class = 'pg_opclass'::regclass AND c.oid = needs.oid
              JOIN pg_amproc ON amprocfamily = opcfamily
            UNION ALL
            SELECT function FROM key_types JOIN pg_range ON rngtypid = key_types.oid
             CROSS JOIN LATERAL (VALUES (rngsubdiff), (rngcanonical)) f (function))
        SELECT EXISTS (SELECT FROM functions JOIN pg_proc p ON p.oid = functions.oid
                         JOIN pg_authid a ON a.oid = proowner AND NOT rolsuper)
            OR EXISTS (SELECT FROM needs JOIN pg_type t ON class = 'pg_type'::regclass AND t.oid = needs.oid AND typtype = 'd')";
    if spi::value(query, &[table.into()])? != Some(true) {
        return Ok(());
    }
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "its indexes or generated columns call functions of users",
    ))
}
