//! What keeps garbage from being collected: the sessions, slots and prepared transactions that hold the removal
//! horizon. A run names them in a NOTICE.

use crate::pg::catalog::Extension;
use crate::pg::encoding::readable;
use crate::pg::error::{self, Report};
use crate::pg::spi;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What a run could not collect.
pub struct Blocked {
    /// References in recently dead tuples: deleted, but an old snapshot may see them.
    pub recently_dead: u64,
    /// Files of transactions at or above the run's upper bound.
    pub not_judged: u64,
}

/// Sends a NOTICE about it, with what holds the horizon; none if there is nothing of the kind.
pub fn notice(extension: &Extension, blocked: &Blocked) -> Result<(), Report> {
    if blocked.recently_dead == 0 && blocked.not_judged == 0 {
        return Ok(());
    }
    let query = extension
        .query("SELECT convert_to(holder, getdatabaseencoding()) FROM @schema@.rbytea_holders() LIMIT 5")?;
    let holders: Vec<Vec<u8>> = spi::column(&query, &[])?;
    let mut holders: Vec<_> = holders.iter().map(|name| readable(name)).collect();
    if holders.is_empty() {
        holders.push("the transaction that runs the vacuum".to_string());
    }
    let report = error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, "some payload files cannot be judged yet")
        .set_detail(format!(
            "References in deleted rows that an old snapshot may still see: {}. Files of transactions that have not \
             ended, or that began after the oldest of those: {}. Held by, the oldest first: {}.",
            blocked.recently_dead,
            blocked.not_judged,
            holders.join(", ")
        ))
        .set_hint("They can be collected when these have ended.");
    error::emit(report, PgLogLevel::NOTICE);
    Ok(())
}
