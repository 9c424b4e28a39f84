//! The row trigger of one table: compares what the table has with what it should have, and creates, replaces or drops
//! the trigger. A second call changes nothing.
//!
//! A table that was without its trigger may have rows with payloads that should have been stored. Its new trigger has an
//! argument that says so, until the background vacuum has stored them.

use crate::pg::catalog::{self, Extension};
use crate::pg::error::{self, Report};
use crate::pg::heap_scan::Slot;
use crate::pg::relation::{Relation, Unlock};
use crate::pg::spi;
use crate::value::columns::{Closure, Columns};
use crate::write::pass::blocks;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CStr;

/// The row trigger's name. PostgreSQL appends "_" and the trigger's OID to the name of an internal trigger, so ours is
/// recognised by its function. '~' sorts after letters: the user's own BEFORE triggers fire first.
const TRIGGER_NAME: &CStr = c"~rbytea";
/// The row trigger's function.
const TRIGGER_FUNCTION: &CStr = c"rbytea_externalize";
/// Its argument, while rows that are older may have payloads that should have been stored.
const UNSTORED: &CStr = c"unstored";
/// The same, after an attempt that failed.
const REFUSED: &CStr = c"refused";
/// Values of pg_class.relkind and relpersistence.
const RELKIND_TABLE: std::ffi::c_char = b'r' as std::ffi::c_char;
const PERSISTENCE_TEMP: std::ffi::c_char = b't' as std::ffi::c_char;

/// What the row triggers are about.
pub struct Target {
    /// The types of the columns of tables that need one.
    pub types: Closure,
    /// Their function.
    pub function_oid: pg_sys::Oid,
    /// The transaction that made the type here.
    made_by: Option<pg_sys::TransactionId>,
}

impl Target {
    /// As the extension is installed.
    pub fn of(extension: &Extension) -> Result<Self, Report> {
        let type_oid = extension.type_oid()?;
        Ok(Self {
            types: Closure::new(type_oid),
            function_oid: extension.function_oid(TRIGGER_FUNCTION)?,
            made_by: catalog::made_by(type_oid),
        })
    }

    /// Whether a row may have come without passing the trigger. One that is older than the type in this database came with
    /// pg_upgrade, from a database where its table had the trigger: what is inline in it is so on purpose.
    ///
    /// # Safety
    /// `row` must hold a heap tuple.
    pub unsafe fn may_have_come_past(&self, row: &Slot<'_>) -> bool {
        // SAFETY: as promised by the caller.
        self.made_by.is_none_or(|made_by| unsafe { !pg_sys::TransactionIdPrecedes(row.xmin(), made_by) })
    }
}

/// What is known of the rows that are in a table before it gets its row trigger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The statement that has made them stores their payloads.
    Stored,
    /// They may have come when there should have been a trigger.
    Unknown,
    /// The statement is still to write them, below the trigger.
    ToCome,
}

/// What a relation has and what it should have.
struct State {
    wanted: bool,
    /// It has columns whose payloads are stored, and rows.
    has_rows: bool,
    /// A trigger's argument says that there may be rows whose payloads should have been stored.
    unstored: bool,
    /// Our triggers on it, and whether each has the name that makes it fire last and fires always.
    triggers: Vec<(pg_sys::Oid, bool)>,
}

impl State {
    fn of(relation: &Relation, target: &Target) -> Self {
        let class = relation.class();
        // SAFETY: the relation is open and locked; trigdesc is NULL or describes numtriggers triggers.
        let (columns, all) = unsafe {
            let trigdesc = (*relation.as_ptr()).trigdesc;
            let all = if trigdesc.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts((*trigdesc).triggers, (*trigdesc).numtriggers as usize)
            };
            (Columns::of(relation.descriptor(), &target.types), all)
        };
        let wanted =
            class.relkind == RELKIND_TABLE && class.relpersistence != PERSISTENCE_TEMP && !columns.is_empty();
        let ours =
            || all.iter().filter(|trigger| trigger.tgfoid == target.function_oid && trigger.tgisinternal);
        let triggers = ours()
            .map(|trigger| {
                // SAFETY: the name of a trigger is NUL-terminated.
                let name = unsafe { CStr::from_ptr(trigger.tgname) }.to_bytes();
                let last = name.starts_with(TRIGGER_NAME.to_bytes());
                (trigger.tgoid, last && trigger.tgenabled as u8 == pg_sys::TRIGGER_FIRES_ALWAYS)
            })
            .collect();
        let unstored = ours().any(|trigger| trigger.tgnargs > 0);
        let has_rows = wanted && !columns.stored.is_empty() && blocks(relation) > 0;
        Self { wanted, has_rows, unstored, triggers }
    }

    fn settled(&self) -> bool {
        match self.triggers.as_slice() {
            [] => !self.wanted,
            [(_, good)] => self.wanted && *good,
            _ => false,
        }
    }
}

/// Gives a table its row trigger, takes a superfluous one away, replaces one that was disabled (as `pg_restore
/// --disable-triggers` does). Returns whether anything changed.
pub fn reconcile(relid: pg_sys::Oid, target: &Target, rows: Rows) -> Result<bool, Report> {
    // A look costs only the lock that a SELECT takes; CREATE TRIGGER's is taken when there is something to do.
    match state_under(relid, pg_sys::AccessShareLock, target) {
        None => return Ok(false),
        Some(state) if state.settled() => return Ok(false),
        Some(_) => {}
    }
    let Some(state) = state_under(relid, pg_sys::ShareRowExclusiveLock, target) else { return Ok(false) };
    if state.settled() {
        return Ok(false);
    }
    let unstored = state.unstored || rows == Rows::Unknown && state.has_rows || rows == Rows::ToCome;
    for (trigger, _) in state.triggers {
        let trigger =
            pg_sys::ObjectAddress { classId: pg_sys::TriggerRelationId, objectId: trigger, objectSubId: 0 };
        // SAFETY: the trigger exists, as its table is locked; nothing depends on it.
        unsafe {
            pg_sys::performDeletion(
                &trigger,
                pg_sys::DropBehavior::DROP_RESTRICT,
                pg_sys::PERFORM_DELETION_INTERNAL as i32,
            );
        }
    }
    if state.wanted {
        create_trigger(relid, target.function_oid, unstored);
    }
    // SAFETY: makes the new trigger visible to what follows in this command.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(true)
}

/// Says that every row of a table has its payloads stored, without waiting for those who use the table: that a trigger has no
/// argument any more makes no difference to them.
pub fn all_stored(relid: pg_sys::Oid, target: &Target) -> Result<(), Report> {
    set_argument(relid, target, None)
}

/// Says that an attempt to store the payloads has failed and is not to be made again, also of a table that has got a new trigger
/// meanwhile.
pub fn refused(relid: pg_sys::Oid, target: &Target) -> Result<(), Report> {
    set_argument(relid, target, Some(REFUSED))
}

/// Has another attempt made for all tables for which one has failed.
pub fn try_again(target: &Target) -> Result<(), Report> {
    let query = c"SELECT tgrelid FROM pg_trigger WHERE tgfoid = $1 AND tgisinternal AND tgargs = $2";
    let refused: Vec<pg_sys::Oid> =
        spi::column(query, &[target.function_oid.into(), REFUSED.to_bytes_with_nul().into()])?;
    refused.into_iter().try_for_each(|relid| set_argument(relid, target, Some(UNSTORED)))
}

/// Below SQL: the user who fills a table may not change the catalogs.
fn set_argument(relid: pg_sys::Oid, target: &Target, argument: Option<&CStr>) -> Result<(), Report> {
    // Against CREATE, ALTER and DROP TRIGGER.
    let relation = Relation::try_open(relid, pg_sys::ShareUpdateExclusiveLock, Unlock::AtEnd);
    if relation.is_none() {
        return Ok(());
    }
    let bytes = argument.map_or(&[][..], CStr::to_bytes_with_nul).into_datum();
    let bytes = bytes.ok_or_else(|| error::internal("bytes are NULL"))?;
    let mut columns = [pg_sys::Anum_pg_trigger_tgnargs as i32, pg_sys::Anum_pg_trigger_tgargs as i32];
    let mut values = [pg_sys::Datum::from(i16::from(argument.is_some())), bytes];
    let mut nulls = [false; 2];
    // SAFETY: a scan of pg_trigger by its index over tgrelid; its tuples are of that catalog, and both columns of these types.
    unsafe {
        let triggers = pg_sys::table_open(pg_sys::TriggerRelationId, pg_sys::RowExclusiveLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_trigger_tgrelid as i16,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::F_OIDEQ.into(),
            pg_sys::Datum::from(relid),
        );
        let index = pg_sys::TriggerRelidNameIndexId.into();
        let scan = pg_sys::systable_beginscan(triggers, index, true, std::ptr::null_mut(), 1, &mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>();
            let is_ours = form.tgfoid == target.function_oid && form.tgisinternal;
            if is_ours && (form.tgnargs > 0 || argument.is_some()) {
                let new = pg_sys::heap_modify_tuple_by_cols(
                    tuple,
                    (*triggers).rd_att,
                    2,
                    columns.as_mut_ptr(),
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
                pg_sys::CatalogTupleUpdate(triggers, &raw mut (*tuple).t_self, new);
                // Other sessions hear of it when the transaction commits.
                pg_sys::CacheInvalidateRelcacheByRelid(relid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(triggers, pg_sys::RowExclusiveLock as i32);
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

/// Whether the table is without its row trigger, or the trigger says that there may be rows whose payloads should have been
/// stored.
pub fn may_have_unstored_rows(relation: &Relation, target: &Target) -> bool {
    let state = State::of(relation, target);
    state.has_rows && (state.unstored || !state.settled())
}

/// The tables whose row trigger says so, without those for which an attempt has failed.
pub fn unstored(target: &Target) -> Result<Vec<pg_sys::Oid>, Report> {
    let query =
        c"SELECT tgrelid FROM pg_trigger WHERE tgfoid = $1 AND tgisinternal AND tgargs = $2 ORDER BY tgrelid";
    spi::column(query, &[target.function_oid.into(), UNSTORED.to_bytes_with_nul().into()])
}

/// Of a relation that stays locked to the end of the transaction; None for one that is gone.
fn state_under(relid: pg_sys::Oid, lock: u32, target: &Target) -> Option<State> {
    let relation = Relation::try_open(relid, lock, Unlock::AtEnd)?;
    Some(State::of(&relation, target))
}

/// BEFORE INSERT OR UPDATE FOR EACH ROW, internal (so that no dump contains it), firing also under
/// `session_replication_role = replica`.
fn create_trigger(relid: pg_sys::Oid, function_oid: pg_sys::Oid, unstored: bool) {
    let (timing, events) =
        (pg_sys::TRIGGER_TYPE_BEFORE, pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE);
    create_internal_trigger(
        relid,
        TRIGGER_NAME,
        function_oid,
        (timing, events),
        unstored.then_some(UNSTORED),
    );
}

/// A trigger FOR EACH ROW of the same kind, with this timing and these events.
pub fn create_internal_trigger(
    relid: pg_sys::Oid,
    name: &CStr,
    function_oid: pg_sys::Oid,
    (timing, events): (u32, u32),
    argument: Option<&CStr>,
) {
    // SAFETY: a zeroed CreateTrigStmt is a valid one; its relation and function are given by OID. The name is copied.
    unsafe {
        let mut statement: pg_sys::CreateTrigStmt = std::mem::zeroed();
        statement.type_ = pg_sys::NodeTag::T_CreateTrigStmt;
        statement.trigname = pg_sys::pstrdup(name.as_ptr());
        if let Some(argument) = argument {
            let argument = pg_sys::makeString(pg_sys::pstrdup(argument.as_ptr()));
            statement.args = pg_sys::lappend(std::ptr::null_mut(), argument.cast());
        }
        statement.row = true;
        statement.timing = timing as i16;
        statement.events = events as i16;
        pg_sys::CreateTriggerFiringOn(
            &mut statement,
            std::ptr::null(),
            relid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            function_oid,
            pg_sys::InvalidOid,
            std::ptr::null_mut(),
            true,
            false,
            pg_sys::TRIGGER_FIRES_ALWAYS as std::ffi::c_char,
        );
    }
}
