//! Where payloads are checked, by rbytea_check(): everything that is wrong between the rows of a database and its part of
//! the store. Changes nothing, takes no lock but those of a SELECT, and works on a standby. Memory does not grow with the
//! database or the store.
//! Uses `pg`, `value`, `session`, `write`, `mark` and `ddl`; nothing uses it.

mod files;
mod findings;
mod large;
mod payloads;
mod tables;

use crate::ddl::reconcile::Target;
use crate::mark::horizon::RunSnapshot;
use crate::pg::catalog::Extension;
use crate::pg::error;
use crate::pg::pace::Pace;
use crate::pg::progress::Progress;
use crate::pg::rows::{RawResult, Rows};
use findings::Findings;
use payloads::Examiner;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};

/// Checks a table with its partitions and descendants, or the whole database with its part of the store if there is
/// none. With `digest`, every payload that a row refers to is read.
#[pg_extern]
fn rbytea_check(
    target: Option<pg_sys::Oid>,
    digest: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema.
    let (extension, rows) = unsafe { (Extension::of_call(fcinfo), Rows::begin(fcinfo)) };
    let Some(digest) = digest else {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the argument \"digest\" cannot be null",
        )
        .into());
    };
    let mut findings = Findings::new(rows);
    let mut pace = Pace::of_statement();
    // Held to the end: what it sees keeps its files.
    let snapshot = RunSnapshot::take();
    let mut examiner = Examiner::open(digest, target.is_some())?;
    let objects = extension.objects()?;
    let tables = match target {
        Some(target) => tables::tree(target)?,
        None => tables::all(objects.type_oid),
    };
    let triggers = Target::of(&extension)?;
    for table in tables {
        tables::check(&triggers, table, &snapshot, &mut examiner, &mut pace, &mut findings)?;
    }
    if target.is_none()
        && let Some(store) = examiner.store()
    {
        let _progress = Progress::begin();
        files::check(&objects, store, &snapshot, &mut pace, &mut findings)?;
    }
    Ok(RawResult(None))
}
