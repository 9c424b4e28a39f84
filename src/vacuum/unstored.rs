//! Rows that came into a table while it was without its row trigger: the payloads in them are stored once it has one again. In
//! batches that are committed, beside sessions that use the table. What goes wrong is logged; it is tried again at the next visit, but
//! not if the table itself is what stands in the way.

use crate::ddl::reconcile::{self, Target};
use crate::pg::background::transaction;
use crate::pg::catalog::{self, Extension};
use crate::pg::error::{self, Report};
use crate::pg::heap_scan::Slot;
use crate::pg::pace::{Pace, database_is_wanted};
use crate::pg::progress;
use crate::pg::relation::{Relation, Unlock};
use crate::pg::subtransaction::Caught;
use crate::session::opening::Access;
use crate::session::transaction::with_store;
use crate::vacuum::user_code;
use crate::value::columns::Columns;
use crate::value::datum::{Peek, Rbytea};
use crate::write::pass::{Passed, Position, Work, pass, refuse_dependent_keys};
use crate::write::row_trigger::{Replaced, is_to_be_stored, store_inline};
use crate::write::update::Constraints;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Payloads of a batch, and about how many bytes: a batch that is rolled back leaves so many files behind.
const BATCH: u64 = 100;
const BATCH_BYTES: u64 = 64 << 20;
/// A visit to one database does not take longer for this, because others wait for theirs.
const BUDGET: Duration = Duration::from_secs(300);

/// Stores what is to be stored in this database, as far as the time allows. It begins with any of the tables: one that takes all the
/// time does so only now and then.
pub fn store() {
    let began = Instant::now();
    progress::activity("storing payloads that are in their rows");
    let mut tables = match transaction(tables) {
        Ok(tables) => tables,
        Err(caught) => return error::emit(caught.report, PgLogLevel::LOG),
    };
    let any = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos() as usize;
    let first = any.checked_rem(tables.len()).unwrap_or_default();
    tables.rotate_left(first);
    for table in tables {
        let mut stored = 0;
        let ended = store_rows_of(table, began, &mut stored);
        log(table, stored);
        if let Err(caught) = ended {
            failed(table, caught);
        }
        if database_is_wanted() || began.elapsed() >= BUDGET {
            return;
        }
    }
}

/// What an error says of the next attempt.
#[derive(PartialEq, Eq)]
enum Failure {
    /// Somebody else needs the table or the database.
    GaveWay,
    /// It may succeed without a change to the table: the store, the server or the machine is not as it should be.
    MayPass,
    /// It will fail again.
    Refused,
}

impl Failure {
    fn of(code: PgSqlErrorCode) -> Self {
        use PgSqlErrorCode::*;
        /// SQLSTATE's first two characters (utils/elog.h).
        fn class(code: PgSqlErrorCode) -> i32 {
            code as i32 & 0xfff
        }
        match code {
            ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_QUERY_CANCELED => Self::GaveWay,
            _ if class(code) == class(ERRCODE_TRANSACTION_ROLLBACK) => Self::GaveWay,
            ERRCODE_INSUFFICIENT_PRIVILEGE => Self::MayPass,
            _ if [
                ERRCODE_INSUFFICIENT_RESOURCES,
                ERRCODE_OPERATOR_INTERVENTION,
                ERRCODE_SYSTEM_ERROR,
                ERRCODE_CONFIG_FILE_ERROR,
            ]
            .map(class)
            .contains(&class(code)) =>
            {
                Self::MayPass
            }
            _ => Self::Refused,
        }
    }
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
fn store_rows_of(table: pg_sys::Oid, began: Instant, stored: &mut u64) -> Result<(), Caught> {
    let mut position = Position::default();
    let mut any_missed = false;
    loop {
        let from_start = position.is_start();
        let batch = transaction(|| one_batch(table, &mut position))?;
        match batch.passed {
            Passed::Gone => return Ok(()),
            Passed::Batch(payloads) => *stored += payloads,
            Passed::End { replaced, missed } => {
                *stored += replaced;
                any_missed |= missed;
                if any_missed || from_start && replaced == 0 {
                    return Ok(());
                }
                position = Position::default();
            }
        }
        if batch.gave_way || began.elapsed() >= BUDGET {
            return Ok(());
        }
    }
}

/// How a batch has ended.
struct Batch {
    passed: Passed,
    /// Others wait for the table or the database.
    gave_way: bool,
}

impl Batch {
    const GONE: Self = Self { passed: Passed::Gone, gave_way: false };
}

fn one_batch(table: pg_sys::Oid, position: &mut Position) -> Result<Batch, Report> {
    let Some(extension) = Extension::installed()? else { return Ok(Batch::GONE) };
    let relation = Relation::try_open(table, pg_sys::RowExclusiveLock, Unlock::AtEnd);
    let Some(relation) = relation.filter(Relation::is_heap) else { return Ok(Batch::GONE) };
    let target = Target::of(&extension)?;
    let from_start = position.is_start();
    // SAFETY: the relation is open, and locked for writing; the columns are its own.
    let batch = unsafe {
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
        Batch { passed, gave_way: rows.gave_way }
    };
    if from_start && matches!(batch.passed, Passed::End { replaced: 0, missed: false }) {
        reconcile::all_stored(table, &target)?;
    }
    Ok(batch)
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
            user_code::refuse(self.relation.oid())?;
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

/// Logs what stood in the way: once, if it will be there again.
fn failed(table: pg_sys::Oid, caught: Caught) {
    let failure = Failure::of(caught.code);
    let Some((database, name)) = names(table).filter(|_| failure != Failure::GaveWay) else { return };
    let hint = if failure == Failure::Refused {
        let noted = transaction(|| match Extension::installed()? {
            Some(extension) => reconcile::refused(table, &Target::of(&extension)?),
            None => Ok(()),
        });
        if let Err(caught) = noted {
            error::emit(caught.report, PgLogLevel::LOG);
        }
        "An UPDATE of the column stores them; rbytea_attach() has the worker try again."
    } else {
        "The worker tries again at its next visit."
    };
    let report = error::report(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("payloads of table {name} of database \"{database}\" stay in their rows"),
    )
    .set_detail(format!("{}.", caught.report.message()))
    .set_hint(format!("They are complete, only large. {hint}"));
    error::emit(report, PgLogLevel::LOG);
}

/// Of the database and of a table; None if that is gone.
fn names(table: pg_sys::Oid) -> Option<(String, String)> {
    transaction(|| Ok(catalog::relation_name(table).map(|name| (catalog::database_name(), name))))
        .ok()
        .flatten()
}
