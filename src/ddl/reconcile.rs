//! The row trigger of one table: compares what the table has with what it should have, and creates, replaces or drops
//! the trigger. A second call changes nothing.

use crate::pg::catalog::Extension;
use crate::pg::error::Report;
use crate::pg::relation::{Relation, Unlock};
use crate::value::columns::{Closure, Columns};
use pgrx::pg_sys;
use std::ffi::CStr;

/// The row trigger's name. PostgreSQL appends "_" and the trigger's OID to the name of an internal trigger, so ours is
/// recognised by its function. '~' sorts after letters: the user's own BEFORE triggers fire first.
const TRIGGER_NAME: &CStr = c"~rbytea";
/// The row trigger's function.
const TRIGGER_FUNCTION: &CStr = c"rbytea_externalize";
/// Values of pg_class.relkind and relpersistence.
const RELKIND_TABLE: std::ffi::c_char = b'r' as std::ffi::c_char;
const PERSISTENCE_TEMP: std::ffi::c_char = b't' as std::ffi::c_char;

/// What the row triggers are about.
pub struct Target {
    /// The types of the columns of tables that need one.
    pub types: Closure,
    /// Their function.
    pub function_oid: pg_sys::Oid,
}

impl Target {
    /// As the extension is installed.
    pub fn of(extension: &Extension) -> Result<Self, Report> {
        Ok(Self {
            types: Closure::new(extension.type_oid()?),
            function_oid: extension.function_oid(TRIGGER_FUNCTION)?,
        })
    }
}

/// What a relation has and what it should have.
struct State {
    wanted: bool,
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
        let triggers = all
            .iter()
            .filter(|trigger| trigger.tgfoid == target.function_oid && trigger.tgisinternal)
            .map(|trigger| {
                // SAFETY: the name of a trigger is NUL-terminated.
                let name = unsafe { CStr::from_ptr(trigger.tgname) }.to_bytes();
                let last = name.starts_with(TRIGGER_NAME.to_bytes());
                (trigger.tgoid, last && trigger.tgenabled as u8 == pg_sys::TRIGGER_FIRES_ALWAYS)
            })
            .collect();
        Self { wanted, triggers }
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
pub fn reconcile(relid: pg_sys::Oid, target: &Target) -> Result<bool, Report> {
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
        create_trigger(relid, target.function_oid);
    }
    // SAFETY: makes the new trigger visible to what follows in this command.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(true)
}

/// Of a relation that stays locked to the end of the transaction; None for one that is gone.
fn state_under(relid: pg_sys::Oid, lock: u32, target: &Target) -> Option<State> {
    let relation = Relation::try_open(relid, lock, Unlock::AtEnd)?;
    Some(State::of(&relation, target))
}

/// BEFORE INSERT OR UPDATE FOR EACH ROW, internal (so that no dump contains it), firing also under
/// `session_replication_role = replica`.
fn create_trigger(relid: pg_sys::Oid, function_oid: pg_sys::Oid) {
    // SAFETY: a zeroed CreateTrigStmt is a valid one; its relation and function are given by OID. The name is copied.
    unsafe {
        let mut statement: pg_sys::CreateTrigStmt = std::mem::zeroed();
        statement.type_ = pg_sys::NodeTag::T_CreateTrigStmt;
        statement.trigname = pg_sys::pstrdup(TRIGGER_NAME.as_ptr());
        statement.row = true;
        statement.timing = pg_sys::TRIGGER_TYPE_BEFORE as i16;
        statement.events = (pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE) as i16;
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
