//! Payloads that no subscription could take: logical replication sends a row as one message, of less than a gigabyte, and a payload as two
//! hexadecimal digits a byte. Such a row is refused when it is written, for a subscription that met it would stop there for ever.

use crate::pg::error::{self, Report};
use crate::pg::spi;
use crate::session::read;
use crate::value::columns::{Closure, Columns};
use crate::value::datum::Rbytea;
use crate::value::walk::Walker;
use pgrx::datum::DatumWithOid;
use pgrx::{PgSqlErrorCode, pg_sys};
use rbytea_store::PayloadRef;
use std::ffi::CStr;
use std::num::NonZeroUsize;

/// Most bytes of payloads in a row of a published table, of the old row and the new one together where both are sent. What is left of the
/// message is for the other columns.
pub const MOST: u64 = 511 << 20;

/// Refuses a row whose payloads have more bytes than that in columns that a publication has. `versions` is what a column has in the new row
/// and, if it is updated, in the old one.
///
/// # Safety
/// `relation` must be open, the columns be its own, and the datums of their types.
pub unsafe fn check(
    relation: pg_sys::Relation,
    columns: &Columns,
    types: &Closure,
    versions: impl Fn(NonZeroUsize) -> (Option<pg_sys::Datum>, Option<pg_sys::Datum>),
) -> Result<(), Report> {
    // SAFETY: as promised by the caller.
    let (relid, sends_old) = unsafe {
        let class = (*relation).rd_rel;
        ((*relation).rd_id, (*class).relreplident == pg_sys::REPLICA_IDENTITY_FULL as std::ffi::c_char)
    };
    let sent = |column| {
        let (new, old) = versions(column);
        new.into_iter().chain(old.filter(|_| sends_old))
    };
    let mut lens = Vec::with_capacity(columns.stored.len());
    for &column in &columns.stored {
        // SAFETY: as promised by the caller.
        let each = sent(column).map(|datum| read::len(&unsafe { Rbytea::from_raw(datum) }));
        lens.push((column, each.sum::<Result<u64, Report>>()?));
    }
    // Their values are looked at twice, so only where it matters.
    if !columns.containers.is_empty() && is_published(relation) {
        let mut walker = Walker::new(types);
        for &(column, type_oid) in &columns.containers {
            let mut len = 0u64;
            for datum in sent(column) {
                let mut add = |payload: &PayloadRef| {
                    len = len.saturating_add(payload.len);
                    Ok(())
                };
                // SAFETY: as promised by the caller.
                unsafe { walker.walk(datum, type_oid, &mut add)? };
            }
            lens.push((column, len));
        }
    }
    // To ask which publication it is takes a while.
    if lens.iter().fold(0u64, |total, (_, len)| total.saturating_add(*len)) <= MOST || !is_published(relation)
    {
        return Ok(());
    }
    let parameters = [
        DatumWithOid::from(relid),
        // Numbers of columns fit 16 bits.
        DatumWithOid::from(lens.iter().map(|(column, _)| column.get() as i16).collect::<Vec<_>>()),
        DatumWithOid::from(lens.iter().map(|(_, len)| len.cast_signed()).collect::<Vec<_>>()),
        DatumWithOid::from(MOST.cast_signed()),
    ];
    spi::value::<String>(PUBLICATION, &parameters)?
        .map_or(Ok(()), |publication| Err(too_large(&publication, sends_old)))
}

/// Whether any publication has the table.
fn is_published(relation: pg_sys::Relation) -> bool {
    let mut description = pg_sys::PublicationDesc::default();
    // SAFETY: the relation is open; what is cached of it is copied.
    unsafe { pg_sys::RelationBuildPublicationDesc(relation, &raw mut description) };
    let pg_sys::PublicationActions { pubinsert, pubupdate, pubdelete, .. } = description.pubactions;
    pubinsert || pubupdate || pubdelete
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

fn too_large(publication: &str, sends_old: bool) -> Report {
    let both =
        if sends_old { ", in its old and its new version together as REPLICA IDENTITY is FULL" } else { "" };
    error::report(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "payload is too large for logical replication",
    )
    .set_detail(format!(
        "Publication \"{publication}\" has the table; a row of it may have {MOST} bytes of payloads{both}."
    ))
    .set_hint("Publish the table without the column, or keep such payloads in a table that is not published.")
}
