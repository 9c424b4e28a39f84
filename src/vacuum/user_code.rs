//! Functions of users that an update of a table's rows would call.

use crate::pg::error::{self, Report};
use crate::pg::spi;
use pgrx::{PgSqlErrorCode, pg_sys};

/// Refuses if functions of users would run, which the worker cannot wait for: those in generated columns and in indexes, and those
/// behind operators and operator classes, also of elements; domains in expressions. Composite types and ranges that are not
/// PostgreSQL's own are refused altogether, as much of what they call is not on record here. What a superuser owns is as good as
/// PostgreSQL's own.
pub fn refuse(table: pg_sys::Oid) -> Result<(), Report> {
    let query = c"WITH RECURSIVE needs AS (
            SELECT refclassid AS class, refobjid AS oid, refobjsubid AS part FROM pg_depend
             WHERE classid = 'pg_class'::regclass AND objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = $1)
                OR classid = 'pg_attrdef'::regclass AND objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = $1)
                OR classid = 'pg_constraint'::regclass
                   AND objid IN (SELECT oid FROM pg_constraint WHERE conrelid = $1 AND contype IN ('x', 'p', 'u'))),
        used AS (
            SELECT atttypid AS oid FROM pg_index JOIN pg_attribute ON attrelid = indexrelid WHERE indrelid = $1
            UNION
            SELECT atttypid FROM needs JOIN pg_attribute ON attrelid = needs.oid AND attnum = needs.part
             WHERE class = 'pg_class'::regclass
            UNION
            SELECT oid FROM needs WHERE class = 'pg_type'::regclass),
        parts AS (
            SELECT oid FROM used
            UNION
            SELECT part FROM parts JOIN pg_type t ON t.oid = parts.oid
             CROSS JOIN LATERAL (VALUES (typbasetype), (typelem)) p (part)
             WHERE part <> 0),
        classes AS (
            SELECT oid FROM needs WHERE class = 'pg_opclass'::regclass
            UNION
            SELECT c.oid FROM parts JOIN pg_opclass c ON opcintype = parts.oid),
        operators AS (
            SELECT oid FROM needs WHERE class = 'pg_operator'::regclass
            UNION ALL
            SELECT amopopr FROM classes JOIN pg_opclass c ON c.oid = classes.oid JOIN pg_amop ON amopfamily = opcfamily),
        functions AS (
            SELECT oid FROM needs WHERE class = 'pg_proc'::regclass
            UNION ALL
            SELECT oprcode FROM operators JOIN pg_operator o ON o.oid = operators.oid
            UNION ALL
            SELECT amproc FROM classes JOIN pg_opclass c ON c.oid = classes.oid JOIN pg_amproc ON amprocfamily = opcfamily)
        SELECT EXISTS (SELECT FROM functions JOIN pg_proc p ON p.oid = functions.oid
                         JOIN pg_authid a ON a.oid = proowner AND NOT rolsuper)
            OR EXISTS (SELECT FROM needs JOIN pg_type t ON class = 'pg_type'::regclass AND t.oid = needs.oid AND typtype = 'd')
            OR EXISTS (SELECT FROM parts JOIN pg_type t USING (oid)
                        WHERE typtype = 'p' OR typtype IN ('c', 'r', 'm') AND oid >= 16384)";
    if spi::value(query, &[table.into()])? != Some(true) {
        return Ok(());
    }
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "its indexes or generated columns call functions of users",
    ))
}
