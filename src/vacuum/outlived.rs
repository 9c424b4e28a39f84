//! Which runs are older than every snapshot, statement, slot and standby: what they moved to TRASH may be deleted
//! (docs/PROTOCOL.md). Relies on the rows that runs write after their moves.

use crate::pg::error::Report;
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::spi;
use crate::vacuum::history::{OWN, micros, own};
use crate::vacuum::schedule::Stamp;

/// Of the runs of this store ([`OWN`]) those that are older than all of these, given the removal horizon ($3).
///
/// A snapshot or transaction is older than the transaction in which a run wrote its row, or it began after the run's
/// moves; that goes for runs that failed in the middle of their moves too. A procedure may hold a value while it holds
/// no snapshot, so statements count too. A background worker that says nothing of its statements (its state is NULL) is between two
/// of them while it is in no transaction and waits for something to do, as pglogical's manager is all the time. Slots and standbys read old rows by their position in the WAL.
const OLD_ENOUGH: &str = "
           xid < $3::text::xid8
       AND lsn <= COALESCE(LEAST(
           (SELECT min(restart_lsn) FROM pg_replication_slots
             WHERE database IS NULL OR database = current_database()),
           (SELECT min(replay_lsn) FROM pg_stat_replication)),
           'FFFFFFFF/FFFFFFFF')
       AND moved_at < COALESCE(
           (SELECT min(CASE WHEN state IS NOT NULL THEN COALESCE(LEAST(query_start, xact_start), backend_start)
                            WHEN xact_start IS NOT NULL OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL
                                 OR wait_event_type IS NULL
                                 OR wait_event_type NOT IN ('Activity', 'Extension') THEN backend_start END)
              FROM pg_stat_activity
             WHERE datid = $1 AND state IS DISTINCT FROM 'idle'
               AND backend_type NOT IN ('autovacuum worker', 'walsender')),
           'infinity')";

/// The newest date in TRASH that is old enough for every horizon: every session that could hold a reference to such a
/// file outside of a table has ended. None if there is none.
pub fn purge_bound(horizon: u64) -> Result<Option<Stamp>, Report> {
    let query =
        spi::query(&format!("SELECT {}", micros("max(moved_at)", &format!("{OWN} AND {OLD_ENOUGH}"))))?;
    let horizon = horizon.to_string();
    let [database, system] = own();
    let _snapshot = ActiveSnapshot::latest();
    spi::value(&query, &[database, system, horizon.into()])
}

/// The removal horizon of the newest of the same runs, or of one that failed its own id, which is later: what a standby's query has to be younger than to know no row with a payload that
/// may be deleted.
pub fn purge_horizon(horizon: u64) -> Result<u64, Report> {
    let query = spi::query(&format!(
        "SELECT COALESCE(horizon, xid)::text::numeric::bigint FROM {OWN} AND {OLD_ENOUGH}
          ORDER BY moved_at DESC LIMIT 1"
    ))?;
    let horizon = horizon.to_string();
    let [database, system] = own();
    let _snapshot = ActiveSnapshot::latest();
    let found: Option<i64> = spi::value(&query, &[database, system, horizon.into()])?;
    Ok(found.map_or(0, i64::unsigned_abs))
}
