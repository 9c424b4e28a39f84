//! Which runs everybody has outlived: what they moved to TRASH may be deleted (docs/PROTOCOL.md).

use crate::pg::catalog::Extension;
use crate::pg::error::Report;
use crate::vacuum::history::{micros, my_database, with_latest_snapshot};
use crate::vacuum::schedule::Stamp;
use pgrx::Spi;

/// The runs of this database ($1) that everybody has outlived, given the removal horizon ($2).
///
/// Snapshots and transactions are older than the transaction in which a run wrote its row, or they began after its moves;
/// that goes for runs that failed in the middle of their moves too.
/// A procedure may hold a value while it holds no snapshot, so statements count too. Slots and standbys read old rows by
/// their position in the WAL.
const OLD_ENOUGH: &str = "
    @schema@.rbytea_vacuum_history
     WHERE database OPERATOR(pg_catalog.=) $1
       AND xid OPERATOR(pg_catalog.<) $2::pg_catalog.text::pg_catalog.xid8
       AND lsn OPERATOR(pg_catalog.<=) COALESCE(LEAST(
           (SELECT pg_catalog.min(restart_lsn) FROM pg_catalog.pg_replication_slots
             WHERE database IS NULL OR database OPERATOR(pg_catalog.=) pg_catalog.current_database()),
           (SELECT pg_catalog.min(replay_lsn) FROM pg_catalog.pg_stat_replication)),
           'FFFFFFFF/FFFFFFFF')
       AND moved_at OPERATOR(pg_catalog.<) COALESCE(
           (SELECT pg_catalog.min(COALESCE(LEAST(query_start, xact_start), backend_start))
              FROM pg_catalog.pg_stat_activity
             WHERE datid OPERATOR(pg_catalog.=) $1 AND state IS DISTINCT FROM 'idle'
               AND backend_type NOT IN ('autovacuum worker', 'walsender')),
           'infinity')";

/// The newest date in TRASH that is old enough for every horizon: whoever could still have a reference to such a file in
/// hand, without its being in a table, has ended. None if there is none.
pub fn purge_bound(extension: &Extension, horizon: u64) -> Result<Option<Stamp>, Report> {
    let query = format!("SELECT {}", micros("pg_catalog.max(moved_at)", OLD_ENOUGH));
    let query = extension.query(&query)?;
    let horizon = horizon.to_string();
    with_latest_snapshot(|| {
        Spi::connect(|client| {
            client.select(query.as_c_str(), Some(1), &[my_database(), horizon.into()])?.first().get(1)
        })
    })
}
