//! Payloads that no subscription could take: logical replication sends a row as one message, of less than a gigabyte, and a payload as two
//! hexadecimal digits a byte. Such a row is refused when it is written, for a subscription that met it would stop there for ever.

use crate::pg::error::{self, Report};
use crate::pg::spi;
use crate::session::read;
use crate::value::datum::Rbytea;
use pgrx::datum::DatumWithOid;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;
use std::num::NonZeroUsize;

/// Most bytes of payloads in a row of a published table. What is left of the message is for its other columns.
pub const MOST: u64 = 511 << 20;

/// Refuses a row whose payloads have more bytes than that in columns that a publication has; `value` is what a column has.
///
/// # Safety
/// `relation` must be open, and the columns be its own.
pub unsafe fn check(
    relation: pg_sys::Relation,
    columns: &[NonZeroUsize],
    value: impl Fn(NonZeroUsize) -> Option<Rbytea>,
) -> Result<(), Report> {
    let len = |&column: &NonZeroUsize| value(column).map_or(Ok(0), |value| read::len(&value));
    let mut total = 0u64;
    for column in columns {
        total = total.saturating_add(len(column)?);
    }
    if total <= MOST {
        return Ok(());
    }
    // Numbers of columns fit 16 bits.
    let numbers: Vec<i16> = columns.iter().map(|column| column.get() as i16).collect();
    let lens =
        columns.iter().map(|column| Ok(len(column)?.cast_signed())).collect::<Result<Vec<i64>, Report>>()?;
    let parameters = [
        // SAFETY: as promised by the caller.
        DatumWithOid::from(unsafe { (*relation).rd_id }),
        DatumWithOid::from(numbers),
        DatumWithOid::from(lens),
        DatumWithOid::from(MOST.cast_signed()),
    ];
    spi::value::<String>(PUBLICATION, &parameters)?.map_or(Ok(()), |publication| Err(too_large(&publication)))
}

/// The first publication that has columns of the table, or of a partitioned table that it is a partition of, with more bytes than that.
const PUBLICATION: &CStr = c"
    WITH payloads AS (SELECT a.attname, u.len
                        FROM unnest($2::int2[], $3::int8[]) AS u(attnum, len)
                        JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = u.attnum),
         tables AS (SELECT c.relname, n.nspname
                      FROM (SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_ancestors($1)) AS t(oid)
                      JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace)
    SELECT p.pubname::text
      FROM pg_publication_tables p JOIN tables t ON p.schemaname = t.nspname AND p.tablename = t.relname
     WHERE (SELECT sum(len) FROM payloads WHERE attname = ANY (p.attnames)) > $4
     ORDER BY 1 LIMIT 1";

fn too_large(publication: &str) -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "payload is too large for logical replication",
    )
    .set_detail(format!(
        "Publication \"{publication}\" has the table; a row of it may have {MOST} bytes of payloads."
    ))
    .set_hint("Publish the table without the column, or keep such payloads in a table that is not published.")
}
