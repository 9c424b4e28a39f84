//! Which relations can hold a value, and the locks that keep TRUNCATE, DROP and rewrites from taking tuples away:
//! while they are held, only what the removal horizon allows is removed.

use crate::mark::depend::{Search, search};
use crate::pg::error::{self, Report};
use crate::pg::pace::Pace;
use crate::pg::{catalog, spi};
use crate::value::walk::Types;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::HashSet;

/// Catalogs that keep values of columns: pg_attribute the defaults of columns that were added without a rewrite
/// (attmissingval), pg_statistic and pg_statistic_ext_data what ANALYZE found in arrays, composites and expressions.
const CATALOGS: [pg_sys::Oid; 3] =
    [pg_sys::AttributeRelationId, pg_sys::StatisticRelationId, pg_sys::Oid::from_u32(3429)];

/// Whether a relation is one of the catalogs that keep values of other relations.
pub fn is_catalog(relid: pg_sys::Oid) -> bool {
    CATALOGS.contains(&relid)
}

/// Statistics of expressions are rows of pg_statistic in an array.
fn with_statistics(mut types: HashSet<pg_sys::Oid>) -> HashSet<pg_sys::Oid> {
    // SAFETY: lookups in the system caches.
    unsafe {
        let row = pg_sys::get_rel_type_id(pg_sys::StatisticRelationId);
        types.extend([row, pg_sys::get_array_type(row)]);
    }
    types
}

/// The relations to scan, all locked, and the types that lead to a value.
pub struct Relations {
    relids: Vec<pg_sys::Oid>,
    hidden: Vec<pg_sys::Oid>,
    types: HashSet<pg_sys::Oid>,
    rbytea: pg_sys::Oid,
}

impl Relations {
    /// In the order in which they are scanned: ascending.
    pub fn relids(&self) -> &[pg_sys::Oid] {
        &self.relids
    }

    /// Temporary tables of other sessions, which only those can read.
    pub fn hidden(&self) -> &[pg_sys::Oid] {
        &self.hidden
    }

    /// Gives back the lock on one of the relations.
    pub fn unlock(&self, relid: pg_sys::Oid) {
        if !is_catalog(relid) {
            unlock(relid);
        }
    }
}

impl Types for Relations {
    fn rbytea(&self) -> pg_sys::Oid {
        self.rbytea
    }

    /// `anyarray` is what catalogs keep arrays in.
    fn leads_to_value(&self, type_oid: pg_sys::Oid) -> bool {
        self.types.contains(&type_oid) || type_oid == pg_sys::ANYARRAYOID
    }
}

/// Finds the relations and locks them as a SELECT would, until a search under all locks finds nothing new.
///
/// Waiting for one lock while holding the others could deadlock with DDL. So whenever a lock is not available at once,
/// the others are given back before waiting, and everything starts again. A background run does not wait at all.
pub fn lock_all(rbytea: pg_sys::Oid, pace: &Pace) -> Result<Relations, Report> {
    let mut locked: HashSet<pg_sys::Oid> = HashSet::new();
    loop {
        let Search { relations, types, .. } = search(rbytea);
        let new: Vec<_> = relations.difference(&locked).copied().collect();
        if new.is_empty() {
            let (mut relids, mut hidden) = (Vec::new(), Vec::new());
            for relid in locked {
                match storage(relid) {
                    Storage::Tuples => {
                        relids.push(relid);
                        continue;
                    }
                    Storage::Hidden => hidden.push(relid),
                    Storage::None => {}
                }
                // It is not scanned, so other sessions need not wait for its lock.
                unlock(relid);
            }
            if !relids.is_empty() {
                relids.extend(CATALOGS);
            }
            relids.sort_unstable_by_key(|relid| relid.to_u32());
            return Ok(Relations { relids, hidden, types: with_statistics(types), rbytea });
        }
        for relid in new {
            // SAFETY: relation locks can be taken on any OID; they are released at the end of the transaction at the
            // latest. Taking one also brings the relation cache up to date.
            unsafe {
                if pg_sys::ConditionalLockRelationOid(relid, pg_sys::AccessShareLock as i32) {
                    locked.insert(relid);
                    continue;
                }
                if pace.is_background() {
                    return Err(busy(relid));
                }
                locked.drain().for_each(unlock);
                waiting_for(relid);
                pg_sys::LockRelationOid(relid, pg_sys::AccessShareLock as i32);
                locked.insert(relid);
                break;
            }
        }
    }
}

/// Gives back a lock that lock_all has taken, for the resource owner that is the current one again.
fn unlock(relid: pg_sys::Oid) {
    // SAFETY: as described.
    unsafe { pg_sys::UnlockRelationOid(relid, pg_sys::AccessShareLock as i32) }
}

/// A fingerprint of the relations that hold values: changes whenever one of them may have lost a reference, if only
/// after cumulative statistics have been flushed.
pub fn fingerprint(rbytea: pg_sys::Oid) -> Result<i64, Report> {
    let Search { relations, nested, .. } = search(rbytea);
    let mut relids: Vec<_> =
        relations.into_iter().chain(CATALOGS.into_iter().skip(1).filter(|_| nested)).collect();
    relids.sort_unstable_by_key(|relid| relid.to_u32());
    // A crash resets the counters, and with them the time of their reset.
    let query = c"SELECT hashtextextended(concat_ws(' ', pg_stat_get_bgwriter_stat_reset_time(), string_agg(concat_ws(' ',
                    c.oid, c.relfilenode, c.reltoastrelid, pg_stat_get_tuples_updated(c.oid),
                    pg_stat_get_tuples_deleted(c.oid), a.columns), ',' ORDER BY c.oid)), 0)
           FROM pg_class c,
        LATERAL (SELECT string_agg(concat(attnum, ':', atttypid), ' ' ORDER BY attnum) AS columns
                   FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a
          WHERE c.oid = ANY ($1)";
    Ok(spi::value(query, &[relids.into()])?.unwrap_or_default())
}

/// A temporary table of another session that can hold values.
pub fn hidden(rbytea: pg_sys::Oid) -> Option<pg_sys::Oid> {
    search(rbytea).relations.into_iter().find(|&relid| matches!(storage(relid), Storage::Hidden))
}

fn busy(relid: pg_sys::Oid) -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
        format!("the vacuum could not lock table {}", name(relid)),
    )
    .set_detail("Another session changes its definition. Nothing was moved.")
}

fn name(relid: pg_sys::Oid) -> String {
    catalog::relation_name(relid).unwrap_or_else(|| "that another transaction is creating".to_string())
}

fn waiting_for(relid: pg_sys::Oid) {
    let report = error::report(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("the vacuum waits for a lock on table {}", name(relid)),
    )
    .set_hint("Another session changes its definition; lock_timeout limits the wait.");
    error::emit(report, pgrx::PgLogLevel::NOTICE);
}

/// Where a relation keeps tuples.
enum Storage {
    Tuples,
    /// In the memory of another session: a temporary table.
    Hidden,
    /// Nowhere: a view, an index, a relation that is gone.
    None,
}

fn storage(relid: pg_sys::Oid) -> Storage {
    // SAFETY: lookups in the system cache; a relation that is gone has kind 0.
    unsafe {
        let kind = pg_sys::get_rel_relkind(relid) as u8;
        if kind != b'r' && kind != b'm' {
            Storage::None
        } else if !pg_sys::isOtherTempNamespace(pg_sys::get_rel_namespace(relid)) {
            Storage::Tuples
        } else if pg_sys::checkTempNamespaceStatus(pg_sys::get_rel_namespace(relid))
            == pg_sys::TempNamespaceStatus::TEMP_NAMESPACE_IDLE
        {
            // Left behind by a crash, without a session that could read it.
            Storage::None
        } else {
            Storage::Hidden
        }
    }
}
