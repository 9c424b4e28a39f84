//! rbytea_reencrypt(): brings the payloads of a table under the newest key, or out of encryption. Files never change, so
//! each payload is written once more and its row refers to the new file; the old one is garbage for the vacuum. The work
//! is committed in batches: it can be stopped at any time, and called again.

mod pass;

use crate::pg::catalog::{self, Extension};
use crate::pg::error::{self, Report};
use crate::pg::progress::Reencryption;
use crate::pg::{compat, settings};
use crate::session::{keys, read, transaction};
use pass::{Position, columns, pass};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, Spi, check_for_interrupts, pg_extern, pg_sys};
use rbytea_store::{KeyRing, PayloadRef};
use std::rc::Rc;

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

/// The table, or the leaf partitions and descendants of it, that have rows.
fn tables(relation: pg_sys::Oid, type_oid: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>, Report> {
    // SAFETY: lookups in the catalogs; a relation that is opened is closed again.
    unsafe {
        let kind = pg_sys::get_rel_relkind(relation) as u8;
        let Some(name) = catalog::relation_name(relation) else {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("relation with OID {relation} does not exist"),
            ));
        };
        if !matches!(kind, b'r' | b'p') || pg_sys::get_rel_persistence(relation) as u8 == b't' {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("cannot re-encrypt the payloads of {name}"),
            )
            .set_detail("It is not a table, or a temporary one."));
        }
        if !compat::owns_relation(relation) {
            let (not_owner, table) =
                (pg_sys::AclResult::ACLCHECK_NOT_OWNER, pg_sys::ObjectType::OBJECT_TABLE);
            pg_sys::aclcheck_error(not_owner, table, pg_sys::get_rel_name(relation));
        }
        let open = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if open.is_null() {
            return Ok(Vec::new());
        }
        let columns = columns(open, type_oid);
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        if columns.is_empty() {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("table {name} has no column of type rbytea"),
            ));
        }
    }
    // Partitions and descendants that have rows of their own.
    let query = "WITH RECURSIVE tree AS (
                     SELECT $1 AS relid
                     UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i, tree WHERE i.inhparent OPERATOR(pg_catalog.=) tree.relid)
                 SELECT c.oid FROM pg_catalog.pg_class c, tree
                  WHERE c.oid OPERATOR(pg_catalog.=) tree.relid AND c.relkind OPERATOR(pg_catalog.=) 'r'
                    AND c.relpersistence OPERATOR(pg_catalog.<>) 't' ORDER BY c.oid";
    let tables = Spi::connect(|client| {
        client
            .select(query, None, &[relation.into()])?
            .map(|row| row.get::<pg_sys::Oid>(1))
            .collect::<Result<Vec<_>, _>>()
    });
    let tables: Vec<_> =
        tables.map_err(|error| error::internal(error.to_string()))?.into_iter().flatten().collect();
    tables.iter().try_for_each(|&table| refuse_dependent_keys(table))?;
    Ok(tables)
}

/// Generated columns may be about the file, and change with it. What checks keys of them are triggers and deferred
/// constraints, which an update below SQL does not fire.
fn refuse_dependent_keys(table: pg_sys::Oid) -> Result<(), Report> {
    let query = "SELECT c.oid FROM pg_catalog.pg_constraint c, pg_catalog.pg_attribute a
                  WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attgenerated OPERATOR(pg_catalog.<>) ''
                    AND (c.contype OPERATOR(pg_catalog.=) 'f' OR c.condeferrable)
                    AND (c.conrelid OPERATOR(pg_catalog.=) a.attrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (c.conkey)
                         OR c.confrelid OPERATOR(pg_catalog.=) a.attrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (c.confkey))
                  LIMIT 1";
    let found = Spi::connect(|client| {
        let rows = client.select(query, Some(1), &[table.into()])?;
        if rows.is_empty() { Ok(None) } else { rows.first().get::<pg_sys::Oid>(1) }
    });
    let Some(constraint) = found.map_err(|error| error::internal(error.to_string()))? else { return Ok(()) };
    let table = catalog::relation_name(table).unwrap_or_default();
    let constraint = catalog::constraint_name(constraint).unwrap_or_default();
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("cannot re-encrypt the payloads of {table}"),
    )
    .set_detail(format!(
        "Its constraint {constraint} has a generated column, which may be about the file, and could not be checked."
    ))
    .set_hint("Drop the constraint, and add it again afterwards."))
}

/// Goes through a table until a whole pass has found nothing to do: rows that others update meanwhile may go where the pass
/// has been. Returns whether there was anything to do.
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
            Passed::Batch => in_this_pass = true,
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

/// What payloads are to be.
struct Target {
    ring: Option<Rc<KeyRing>>,
    /// Those of later births are nobody's concern: a session with other settings that goes on writing must not keep the call
    /// from ending.
    before: u64,
}

impl Target {
    /// As new payloads are now.
    fn current(before: u64) -> Result<Self, Report> {
        Ok(Self { ring: settings::qss_mode().then(keys::ring).transpose()?, before })
    }

    fn is_met_by(&self, payload: &PayloadRef) -> bool {
        payload.id.birth >= self.before || payload.key_id == self.ring.as_ref().map(|ring| ring.newest().id())
    }

    /// Writes the payload of a file once more. It is compared with its digest on the way.
    fn copy(&self, payload: &PayloadRef) -> Result<PayloadRef, Report> {
        let key = self.ring.as_ref().map(|ring| ring.newest());
        transaction::store_payload(key, |store, writer| {
            let reader = read::open(store, payload)?;
            let mut verifier = reader.verifier();
            read::stream(
                payload.len,
                |offset, chunk| Ok(reader.read_at(offset, chunk)?),
                |chunk| {
                    verifier.update(chunk);
                    Ok(writer.write(chunk)?)
                },
            )?;
            Ok(verifier.finish()?)
        })
    }
}

/// How a batch has ended.
enum Passed {
    /// The batch is full.
    Batch,
    /// The table ended.
    End {
        /// Payloads of this batch.
        replaced: u64,
        /// Some row has gone to another partition meanwhile.
        missed: bool,
    },
    /// There is no such table any more.
    Gone,
}

fn one_batch(
    table: pg_sys::Oid,
    type_oid: pg_sys::Oid,
    target: &Target,
    batch: u64,
    position: &mut Position,
    progress: &Reencryption,
) -> Result<Passed, Report> {
    // SAFETY: the relation is closed again below, or by the abort of the transaction. It stays locked to its end.
    unsafe {
        // Each batch is a transaction of its own, and begins as the session's settings say.
        pg_sys::PreventCommandIfReadOnly(c"rbytea_reencrypt()".as_ptr());
        let relation = pg_sys::try_relation_open(table, pg_sys::RowExclusiveLock as i32);
        if relation.is_null() {
            return Ok(Passed::Gone);
        }
        let columns = columns(relation, type_oid);
        let result = if columns.is_empty() {
            Ok(Passed::Gone)
        } else {
            if (*(*relation).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
                let name = catalog::relation_name(table).unwrap_or_default();
                return Err(error::report(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    format!("cannot re-encrypt the payloads of {name}: its access method is not heap"),
                ));
            }
            // A publication without a replica identity refuses.
            pg_sys::CheckCmdReplicaIdentity(relation, pg_sys::CmdType::CMD_UPDATE);
            pass(relation, &columns, target, batch, position, progress)
        };
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        result
    }
}
