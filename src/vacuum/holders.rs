//! Who keeps garbage from being collected: the sessions, slots and prepared transactions that the horizon waits for.

use crate::catalog::readable;
use crate::error;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, Spi};

/// What could not be collected in this run.
pub struct Held {
    /// References in deleted tuples that an old snapshot may still see.
    pub references: u64,
    /// Files of transactions at or above the run's upper bound.
    pub young: u64,
}

/// The oldest of everything else in this cluster that has an xmin or a transaction id.
const HOLDERS: &str = "
    SELECT pg_catalog.convert_to(holder, pg_catalog.getdatabaseencoding()) FROM (
        SELECT pg_catalog.format('process %s (%s, %s)', pid, backend_type, COALESCE(state, 'active')) AS holder,
               GREATEST(pg_catalog.age(backend_xid), pg_catalog.age(backend_xmin)) AS age
          FROM pg_catalog.pg_stat_activity
         WHERE pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
        UNION ALL
        SELECT pg_catalog.format('replication slot %s', slot_name), pg_catalog.age(xmin)
          FROM pg_catalog.pg_replication_slots
        UNION ALL
        SELECT pg_catalog.format('prepared transaction %s', pg_catalog.quote_literal(gid)), pg_catalog.age(transaction)
          FROM pg_catalog.pg_prepared_xacts) AS holders
     WHERE age IS NOT NULL
     ORDER BY age DESC
     LIMIT 5";

/// Says in a NOTICE what is held back and by whom; nothing if nothing is held.
pub fn notice(held: &Held) -> Result<(), ErrorReport> {
    if held.references == 0 && held.young == 0 {
        return Ok(());
    }
    let holders = Spi::connect(|client| {
        client.select(HOLDERS, None, &[])?.map(|row| row.get::<Vec<u8>>(1)).collect::<Result<Vec<_>, _>>()
    });
    let mut holders: Vec<_> = holders
        .map_err(|error| error::internal(error.to_string()))?
        .into_iter()
        .flatten()
        .map(|name| readable(&name))
        .collect();
    if holders.is_empty() {
        holders.push("the transaction that runs the vacuum".to_string());
    }
    let report = error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, "some payload files cannot be judged yet")
        .set_detail(format!(
            "References in deleted rows that an old snapshot may still see: {}. Files of transactions that have not \
             ended, or that began after the oldest of those: {}. Held by, the oldest first: {}.",
            held.references,
            held.young,
            holders.join(", ")
        ))
        .set_hint("They can be collected when these have ended.");
    error::tell(report, PgLogLevel::NOTICE);
    Ok(())
}
