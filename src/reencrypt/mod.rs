//! rbytea_reencrypt(): brings the payloads of a table under the newest key, or out of encryption. Files never change,
//! so each payload is written once more and its row refers to the new file; the old one is garbage for the vacuum. The
//! work is committed in batches: it can be stopped at any time, and called again. Uses `pg`, `value`, `session` and
//! `write`; nothing uses it.

mod rows;
mod tables;
mod target;

use crate::pg::catalog::{self, Extension};
use crate::pg::error::{self, Report};
use crate::pg::progress::Reencryption;
use crate::pg::relation::{Relation, Unlock};
use crate::write::pass::{Passed, Position, blocks, pass};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, check_for_interrupts, pg_extern, pg_sys};
use rows::Rows;
use tables::{columns, tables};
use target::Target;

/// The procedure; its arguments are the table and the number of payloads in a batch.
#[pg_extern]
fn rbytea_reencrypt(
    relation: Option<pg_sys::Oid>,
    batch: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    // SAFETY: fcinfo is the call at hand; the check looks at the server's state and raises an ERROR in recovery.
    let extension = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_reencrypt()".as_ptr());
        if is_atomic(fcinfo) {
            return Err(in_transaction().into());
        }
        Extension::of_call(fcinfo)
    };
    let (Some(relation), Some(batch)) = (relation, batch) else {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "neither the table nor the size of a batch can be null",
        )
        .into());
    };
    let batch = u64::try_from(batch).ok().filter(|batch| *batch > 0).ok_or_else(|| {
        error::report(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "a batch must have at least one payload",
        )
    })?;
    let type_oid = extension.type_oid()?;
    let tables = tables(relation, type_oid)?;
    // SAFETY: closed below. An ERROR that passes through aborts the transaction, which closes it too.
    unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
    let progress = Reencryption::begin();
    // SAFETY: reads shared memory.
    let before = unsafe { pg_sys::ReadNextFullTransactionId() }.value;
    let mut again = true;
    // Rows may move between partitions meanwhile, to one where the work is done.
    while std::mem::take(&mut again) {
        for &table in &tables {
            again |= reencrypt(table, type_oid, before, batch, &progress)? && tables.len() > 1;
        }
    }
    drop(progress);
    // SAFETY: connected above.
    unsafe { pg_sys::SPI_finish() };
    Ok(())
}

/// Whether the call may not end the transaction.
///
/// # Safety
/// `fcinfo` must be the call at hand.
unsafe fn is_atomic(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: as promised by the caller; the node's tag says which structure it is.
    unsafe {
        let context = (*fcinfo).context;
        let call = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_CallContext;
        !call || (*context.cast::<pg_sys::CallContext>()).atomic
    }
}

fn in_transaction() -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION,
        "rbytea_reencrypt() cannot run inside of a transaction block",
    )
    .set_detail("It commits after each batch.")
    .set_hint("CALL it as a statement of its own.")
}

/// Goes through a table until a whole pass has found nothing to do: rows that others update meanwhile may go where the
/// pass has been. Returns whether there was anything to do.
fn reencrypt(
    table: pg_sys::Oid,
    type_oid: pg_sys::Oid,
    before: u64,
    batch: u64,
    progress: &Reencryption,
) -> Result<bool, Report> {
    let mut position = Position::default();
    let (mut any, mut in_this_pass) = (false, false);
    loop {
        let target = Target::current(before)?;
        match one_batch(table, type_oid, &target, batch, &mut position, progress)? {
            Passed::Gone => return Ok(any),
            Passed::Batch(_) => in_this_pass = true,
            Passed::End { replaced, missed } => {
                if !in_this_pass && replaced == 0 && !missed {
                    return Ok(any);
                }
                (position, in_this_pass) = (Position::default(), false);
            }
        }
        any = true;
        // SAFETY: SPI is connected and may end the transaction; it begins the next one.
        unsafe { pg_sys::SPI_commit() };
        check_for_interrupts!();
    }
}

fn one_batch(
    table: pg_sys::Oid,
    type_oid: pg_sys::Oid,
    target: &Target,
    batch: u64,
    position: &mut Position,
    progress: &Reencryption,
) -> Result<Passed, Report> {
    // SAFETY: looks at the transaction's state, and raises an ERROR if it may not write: each batch is a transaction
    // of its own, and begins as the session's settings say.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"rbytea_reencrypt()".as_ptr()) };
    let relation = Relation::try_open(table, pg_sys::RowExclusiveLock, Unlock::AtEnd);
    let Some(relation) = relation else { return Ok(Passed::Gone) };
    let columns = columns(&relation, type_oid);
    if columns.is_empty() {
        return Ok(Passed::Gone);
    }
    if !relation.is_heap() {
        let name = catalog::relation_name(table).unwrap_or_default();
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("cannot re-encrypt the payloads of {name}: its access method is not heap"),
        ));
    }
    // SAFETY: the relation is open, and locked for writing; the columns are its own.
    unsafe {
        // A publication without a replica identity refuses.
        pg_sys::CheckCmdReplicaIdentity(relation.as_ptr(), pg_sys::CmdType::CMD_UPDATE);
        progress.table(table, blocks(&relation));
        let passed = pass(&relation, &mut Rows { columns: &columns, target, progress }, batch, position)?;
        if let Passed::Batch(replaced) | Passed::End { replaced, .. } = passed {
            progress.batch(replaced);
        }
        Ok(passed)
    }
}
