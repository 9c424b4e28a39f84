//! Who keeps garbage from being collected: the sessions, slots and prepared transactions that the horizon waits for.

use crate::pg::catalog::Extension;
use crate::pg::encoding::readable;
use crate::pg::error::{self, Report};
use crate::pg::spi;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What could not be collected in this run.
pub struct Held {
    /// References in deleted tuples that an old snapshot may still see.
    pub references: u64,
    /// Files of transactions at or above the run's upper bound.
    pub young: u64,
}

/// Says in a NOTICE what is held back and by whom; nothing if nothing is held.
pub fn notice(extension: &Extension, held: &Held) -> Result<(), Report> {
    if held.references == 0 && held.young == 0 {
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
            held.references,
            held.young,
            holders.join(", ")
        ))
        .set_hint("They can be collected when these have ended.");
    error::tell(report, PgLogLevel::NOTICE);
    Ok(())
}
