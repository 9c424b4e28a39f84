//! Who keeps garbage from being collected: the sessions, slots and prepared transactions that the horizon waits for.

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

/// Everything in this cluster that has an xmin or a transaction id, the oldest first. The session that asks is told
/// apart: its own snapshot is as old as its transaction.
const HOLDERS: &str = "
    SELECT holder FROM (
        SELECT CASE WHEN pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() THEN 'this session''s own transaction'
                    ELSE pg_catalog.format('process %s (%s, %s)', pid, backend_type, COALESCE(state, 'active')) END AS holder,
               GREATEST(pg_catalog.age(backend_xid), pg_catalog.age(backend_xmin)) AS age,
               pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AS own
          FROM pg_catalog.pg_stat_activity
        UNION ALL
        SELECT pg_catalog.format('replication slot %s', slot_name), pg_catalog.age(xmin), false
          FROM pg_catalog.pg_replication_slots
        UNION ALL
        SELECT pg_catalog.format('prepared transaction %s', pg_catalog.quote_literal(gid)), pg_catalog.age(transaction), false
          FROM pg_catalog.pg_prepared_xacts) AS holders
     WHERE age IS NOT NULL
     ORDER BY own, age DESC
     LIMIT 5";

/// Says in a NOTICE what is held back and by whom; nothing if nothing is held.
pub fn notice(held: &Held) -> Result<(), ErrorReport> {
    if held.references == 0 && held.young == 0 {
        return Ok(());
    }
    let holders = Spi::connect(|client| {
        client.select(HOLDERS, None, &[])?.map(|row| row.get::<String>(1)).collect::<Result<Vec<_>, _>>()
    });
    let holders = holders.map_err(|error| error::internal(error.to_string()))?;
    let holders = holders.into_iter().flatten().collect::<Vec<_>>();
    error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, "some payload files cannot be judged yet")
        .set_detail(format!(
            "{} references are in deleted rows that an old snapshot may still see, and {} files are of transactions \
             that began after the oldest running one. The oldest: {}.",
            held.references,
            held.young,
            holders.join(", ")
        ))
        .set_hint("They can go when these transactions have ended.")
        .report(PgLogLevel::NOTICE);
    Ok(())
}
