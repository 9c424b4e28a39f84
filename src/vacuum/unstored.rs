//! Rows that came into a table while it was without its row trigger: the payloads in them are stored once it has one again. In
//! batches that are committed, beside sessions that use the table; what goes wrong is logged, and tried again at the next visit.

use crate::ddl::reconcile::{self, Target};
use crate::pg::background::transaction;
use crate::pg::catalog::{self, Extension};
use crate::pg::error::{self, Report};
use crate::pg::heap_scan::Slot;
use crate::pg::pace::Pace;
use crate::pg::relation::{Relation, Unlock};
use crate::pg::subtransaction::Caught;
use crate::pg::{progress, spi};
use crate::session::opening::Access;
use crate::session::transaction::with_store;
use crate::value::columns::Columns;
use crate::value::datum::{Peek, Rbytea};
use crate::write::pass::{Passed, Position, Work, pass, refuse_dependent_keys};
use crate::write::row_trigger::{Replaced, is_to_be_stored, store_inline};
use crate::write::update::Constraints;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// Payloads of a batch, and about how many bytes: a batch that is rolled back leaves so many files behind.
const BATCH: u64 = 100;
const BATCH_BYTES: u64 = 64 << 20;
/// A visit to one database does not take longer for this, because others wait for theirs.
const BUDGET: Duration = Duration::from_secs(300);

/// Stores what is to be stored in this database, as far as the time allows.
pub fn store() {
    let began = Instant::now();
    progress::activity("storing payloads that are in their rows");
    let tables = match transaction(tables) {
        Ok(tables) => tables,
        Err(caught) => return error::emit(caught.report, PgLogLevel::LOG),
    };
    for table in tables {
        let mut done = Done::default();
        let ended = store_rows_of(table, began, &mut done);
        log(table, done.payloads);
        match ended {
            Ok(()) => {}
            // Somebody else needs the table or the database.
            Err(caught) if is_temporary(caught.code) => {}
            Err(caught) => refused(table, caught.report),
        }
        if done.gave_way || began.elapsed() >= BUDGET {
            return;
        }
    }
}

/// What has come of the visit to a table so far.
#[derive(Default)]
struct Done {
    payloads: u64,
    /// Others wait for the table or the database.
    gave_way: bool,
}

/// What may succeed at the next visit, and takes no change by anybody.
fn is_temporary(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    matches!(
        code,
        ERRCODE_LOCK_NOT_AVAILABLE
            | ERRCODE_QUERY_CANCELED
            | ERRCODE_T_R_SERIALIZATION_FAILURE
            | ERRCODE_T_R_DEADLOCK_DETECTED
    )
}

/// The tables whose rows may have payloads that are to be stored.
fn tables() -> Result<Vec<pg_sys::Oid>, Report> {
    let Some(extension) = Extension::installed()? else { return Ok(Vec::new()) };
    let tables = reconcile::unstored(&Target::of(&extension)?)?;
    // That another cluster owns the store is the launcher's to report.
    let owned = tables.is_empty() || with_store(Access::Write, |store| Ok(store.check_owner().is_ok()))?;
    Ok(if owned { tables } else { Vec::new() })
}

/// Goes through a table until a pass has found nothing, which is one transaction: meanwhile nobody can rewrite the table. Every
/// row that is older than its trigger is committed, and every later one has come through the trigger.
fn store_rows_of(table: pg_sys::Oid, began: Instant, done: &mut Done) -> Result<(), Caught> {
    let mut position = Position::default();
    let mut any_missed = false;
    loop {
        match transaction(|| one_batch(table, &mut position, done))? {
            Passed::Gone => return Ok(()),
            Passed::Batch(payloads) => done.payloads += payloads,
            Passed::End { replaced, missed } => {
                done.payloads += replaced;
                any_missed |= missed;
                let is_whole_pass = std::mem::take(&mut position).is_start();
                if any_missed || replaced == 0 && is_whole_pass {
                    return Ok(());
                }
            }
        }
        if done.gave_way || began.elapsed() >= BUDGET {
            return Ok(());
        }
    }
}

fn one_batch(table: pg_sys::Oid, position: &mut Position, done: &mut Done) -> Result<Passed, Report> {
    let Some(extension) = Extension::installed()? else { return Ok(Passed::Gone) };
    let relation = Relation::try_open(table, pg_sys::RowExclusiveLock, Unlock::AtEnd);
    let Some(relation) = relation else { return Ok(Passed::Gone) };
    if !relation.is_heap() {
        return Ok(Passed::Gone);
    }
    let target = Target::of(&extension)?;
    let from_start = position.is_start();
    // SAFETY: the relation is open, and locked for writing; the columns are its own.
    let passed = unsafe {
        let columns = Columns::of(relation.descriptor(), &target.types).stored;
        let pace = Pace::of_worker();
        let mut rows = Rows {
            relation: &relation,
            target: &target,
            columns,
            pace,
            payloads: 0,
            bytes: 0,
            checked: false,
            gave_way: false,
        };
        let passed = pass(&relation, &mut rows, BATCH, position)?;
        done.gave_way = rows.gave_way;
        passed
    };
    if from_start && matches!(passed, Passed::End { replaced: 0, missed: false }) {
        *position = Position::default();
        reconcile::all_stored(table, &target)?;
    }
    Ok(passed)
}

/// Whether functions of users would run, which the worker cannot wait for: those in generated columns and in expressions of
/// indexes, and those behind operators, operator classes and domains there. Functions of extensions are as good as PostgreSQL's.
fn refuse_code_of_users(table: pg_sys::Oid) -> Result<(), Report> {
    let query = c"SELECT EXISTS (
        SELECT FROM pg_depend d
         WHERE (classid = 'pg_class'::regclass AND objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = $1)
                OR classid = 'pg_attrdef'::regclass AND objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = $1))
           AND (refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass)
                OR refclassid = 'pg_type'::regclass AND refobjid IN (SELECT oid FROM pg_type WHERE typtype = 'd'))
           AND NOT EXISTS (SELECT FROM pg_depend e
                            WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'))";
    if spi::value(query, &[table.into()])? != Some(true) {
        return Ok(());
    }
    Err(error::report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "its indexes or generated columns call functions of users",
    ))
}

/// Rows of a table.
struct Rows<'a> {
    relation: &'a Relation,
    target: &'a Target,
    /// Its columns of type rbytea.
    columns: Vec<NonZeroUsize>,
    pace: Pace,
    /// Stored in this batch.
    payloads: u64,
    bytes: u64,
    /// Rows of this table can be updated.
    checked: bool,
    gave_way: bool,
}

impl Work for Rows<'_> {
    unsafe fn concerns(&self, row: &Slot<'_>) -> Result<bool, Report> {
        // SAFETY: as promised by the caller.
        if !unsafe { self.target.may_have_come_past(row) } {
            return Ok(false);
        }
        for &column in &self.columns {
            // SAFETY: as promised by the caller; a datum of one of our columns, held by the slot.
            if let Some(value) = unsafe { row.attribute(column).map(|datum| Rbytea::from_raw(datum)) }
                && let Peek::Inline(len) = value.peek()?
                && is_to_be_stored(len)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    unsafe fn replace(&mut self, row: &Slot<'_>) -> Result<(Replaced, u64), Report> {
        if !std::mem::replace(&mut self.checked, true) {
            refuse_code_of_users(self.relation.oid())?;
            refuse_dependent_keys(self.relation.oid(), "store")?;
            // SAFETY: the relation is open. A publication without a replica identity refuses.
            unsafe {
                pg_sys::CheckCmdReplicaIdentity(self.relation.as_ptr(), pg_sys::CmdType::CMD_UPDATE);
            }
        }
        let (mut replaced, mut payloads) = (Replaced::default(), 0);
        for &column in &self.columns {
            // SAFETY: as for concerns().
            if let Some(value) = unsafe { row.attribute(column).map(|datum| Rbytea::from_raw(datum)) }
                && let Peek::Inline(len) = value.peek()?
                && let Some(stored) = store_inline(&value, len)?
            {
                replaced.push(column, stored);
                payloads += 1;
                self.bytes += len;
            }
        }
        Ok((replaced, payloads))
    }

    fn waits(&self) -> bool {
        false
    }

    /// The values do not change, and checking them would run functions of users.
    fn constraints(&self) -> Constraints {
        Constraints::Ignored
    }

    /// What has been stored is committed before the worker gives way.
    fn goes_on(&mut self, _block: u32, payloads: u64) -> bool {
        let stored = std::mem::replace(&mut self.payloads, payloads) != payloads;
        let paced = if stored { self.pace.file() } else { self.pace.step() };
        self.gave_way = paced.is_err();
        !self.gave_way && self.bytes < BATCH_BYTES
    }
}

fn log(table: pg_sys::Oid, stored: u64) {
    if stored > 0
        && let Some((database, name)) = names(table)
    {
        let message = format!(
            "rbytea stored {stored} payloads that were in rows of table {name} of database \"{database}\""
        );
        error::emit(error::report(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message), PgLogLevel::LOG);
    }
}

/// Logs what stood in the way, once.
fn refused(table: pg_sys::Oid, reason: Report) {
    let Some((database, name)) = names(table) else { return };
    let noted = transaction(|| match Extension::installed()? {
        Some(extension) => reconcile::refused(table, &Target::of(&extension)?),
        None => Ok(()),
    });
    let report = error::report(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("payloads of table {name} of database \"{database}\" stay in their rows"),
    )
    .set_detail(format!("{}.", reason.message()))
    .set_hint("They are complete, only large. An UPDATE of the column stores them; rbytea_attach() has the worker try again.");
    error::emit(report, PgLogLevel::LOG);
    if let Err(caught) = noted {
        error::emit(caught.report, PgLogLevel::LOG);
    }
}

/// Of the database and of a table; None if that is gone.
fn names(table: pg_sys::Oid) -> Option<(String, String)> {
    transaction(|| Ok(catalog::relation_name(table).map(|name| (catalog::database_name(), name))))
        .ok()
        .flatten()
}
