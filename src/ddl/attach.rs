//! Which tables store payloads: the event trigger that follows DDL and gives each table with an rbytea column its row
//! trigger, and takes it away with the last such column. Everything is decided by one function, [`reconcile`], from
//! what the table is now; so it can be run at any time and any number of times.

use crate::ddl::inline_rows;
use crate::mark;
use crate::pg::catalog::Extension;
use crate::pg::error::{self, Report};
use crate::pg::rows::RawResult;
use crate::value::columns::{Closure, Columns};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, Spi, pg_extern, pg_sys};
use std::ffi::CStr;

/// The row trigger's name. PostgreSQL appends "_" and the trigger's OID to the name of an internal trigger, so ours is
/// recognised by its function. '~' sorts after letters: the user's own BEFORE triggers fire first.
const TRIGGER_NAME: &CStr = c"~rbytea";
/// The row trigger's function.
const TRIGGER_FUNCTION: &CStr = c"rbytea_externalize";
/// Values of pg_class.relkind and relpersistence.
const RELKIND_TABLE: std::ffi::c_char = b'r' as std::ffi::c_char;
const PERSISTENCE_TEMP: std::ffi::c_char = b't' as std::ffi::c_char;

/// The event trigger on ddl_command_end: gives tables their row trigger, stores what the command left inline.
#[pg_extern]
fn rbytea_ddl_command_end(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a function in the extension's schema.
    let (extension, statement) = unsafe { (Extension::of_call(fcinfo), ended_statement(fcinfo)?) };
    // SAFETY: the parse tree of the command that has just ended.
    let (source, composite) = unsafe {
        (inline_rows::Source::of_statement(statement), inline_rows::is_alter_of_composite_type(statement))
    };
    let (relations, row_types) = if composite {
        (typed_tables()?, altered_composites()?)
    } else {
        let changed = changed_relations()?;
        (changed.clone(), changed)
    };
    let target = Target::of(&extension)?;
    for relid in relations {
        reconcile(relid, &target)?;
        inline_rows::store(relid, &source, &extension)?;
    }
    // Tables with columns made of rows that have changed.
    for container in row_types.into_iter().flat_map(mark::made_of_rows_of) {
        reconcile(container, &target)?;
    }
    Ok(RawResult(Some(pg_sys::Datum::null())))
}

/// The event trigger on sql_drop: a table may lose its last rbytea column with a type, a schema or a role's objects, or its
/// row trigger, which is put back.
#[pg_extern]
fn rbytea_sql_drop(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a function in the extension's schema.
    let extension = unsafe {
        ended_statement(fcinfo)?;
        Extension::of_call(fcinfo)
    };
    let relations = relations(
        "SELECT DISTINCT objid FROM pg_catalog.pg_event_trigger_dropped_objects()
          WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
            AND objsubid OPERATOR(pg_catalog.<>) 0
         UNION
         SELECT pg_catalog.to_regclass(pg_catalog.format('%I.%I', address_names[1], address_names[2]))
           FROM pg_catalog.pg_event_trigger_dropped_objects()
          WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass
            AND address_names[3] OPERATOR(pg_catalog.~~) '~rbytea%'",
        &[],
    )?;
    if !relations.is_empty() {
        let target = Target::of(&extension)?;
        for relid in relations {
            reconcile(relid, &target)?;
        }
    }
    Ok(RawResult(Some(pg_sys::Datum::null())))
}

/// The parse tree of the command that an event trigger is called for.
///
/// # Safety
/// `fcinfo` must be a call that the server makes.
unsafe fn ended_statement(fcinfo: pg_sys::FunctionCallInfo) -> Result<*mut pg_sys::Node, Report> {
    // SAFETY: the context is checked for being an EventTriggerData, which always has a parse tree.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED,
                "function was not called as an event trigger",
            ));
        }
        Ok((*context.cast::<pg_sys::EventTriggerData>()).parsetree)
    }
}

/// Puts missing row triggers back, for instance after pg_upgrade. Returns the number of tables that changed.
#[pg_extern]
fn rbytea_attach(fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    // SAFETY: the first two look at the server's state and raise an ERROR where writing is not allowed; fcinfo is the call at
    // hand, of a function in the extension's schema.
    let extension = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_attach()".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"rbytea_attach()".as_ptr());
        Extension::of_call(fcinfo)
    };
    Ok(attach(&extension)?)
}

/// Brings every table's row trigger in order. Returns the number of tables that changed.
pub fn attach(extension: &Extension) -> Result<i64, Report> {
    let target = Target::of(extension)?;
    let mut changed = 0;
    for relid in candidates(extension)? {
        changed += i64::from(reconcile(relid, &target)?);
    }
    Ok(changed)
}

/// The relations that the current command created or altered, with everything that inherits from them.
fn changed_relations() -> Result<Vec<pg_sys::Oid>, Report> {
    relations(
        "WITH RECURSIVE changed (relid) AS (
             SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands()
              WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
             UNION
             SELECT inhrelid FROM pg_catalog.pg_inherits JOIN changed ON inhparent OPERATOR(pg_catalog.=) relid)
         SELECT relid FROM changed
         UNION
         SELECT tgrelid FROM pg_catalog.pg_event_trigger_ddl_commands() JOIN pg_catalog.pg_trigger t
             ON classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass
                AND t.oid OPERATOR(pg_catalog.=) objid",
        &[],
    )
}

/// The relations that describe the composite types that the current command altered.
fn altered_composites() -> Result<Vec<pg_sys::Oid>, Report> {
    relations(
        "SELECT t.typrelid FROM pg_catalog.pg_event_trigger_ddl_commands() JOIN pg_catalog.pg_type t
             ON classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
                AND t.oid OPERATOR(pg_catalog.=) objid
             OR classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                AND t.typrelid OPERATOR(pg_catalog.=) objid",
        &[],
    )
}

/// The tables made of the composite type that the current command altered, with everything that inherits from them.
fn typed_tables() -> Result<Vec<pg_sys::Oid>, Report> {
    relations(
        "WITH RECURSIVE command AS (SELECT classid, objid FROM pg_catalog.pg_event_trigger_ddl_commands()),
         altered (oid) AS (
             SELECT t.oid FROM pg_catalog.pg_type t JOIN command
                 ON classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
                    AND t.oid OPERATOR(pg_catalog.=) objid
                 OR classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND t.typrelid OPERATOR(pg_catalog.=) objid),
         changed (relid) AS (
             SELECT c.oid FROM pg_catalog.pg_class c JOIN altered ON c.reloftype OPERATOR(pg_catalog.=) altered.oid
             UNION
             SELECT inhrelid FROM pg_catalog.pg_inherits JOIN changed ON inhparent OPERATOR(pg_catalog.=) relid)
         SELECT relid FROM changed",
        &[],
    )
}

/// The tables that should have a row trigger, or have one, but for those that have it as it should be.
fn candidates(extension: &Extension) -> Result<Vec<pg_sys::Oid>, Report> {
    let function_oid = extension.function_oid(TRIGGER_FUNCTION)?;
    relations(
        "SELECT c.oid FROM pg_catalog.pg_class c,
        LATERAL (SELECT c.oid OPERATOR(pg_catalog.=) ANY ($1) AS wanted, pg_catalog.count(*) AS triggers,
                        pg_catalog.bool_and(tgisinternal AND tgenabled OPERATOR(pg_catalog.=) 'A'
                                            AND tgname::pg_catalog.text OPERATOR(pg_catalog.~~) '~rbytea%') AS good
                   FROM pg_catalog.pg_trigger
                  WHERE tgrelid OPERATOR(pg_catalog.=) c.oid AND tgfoid OPERATOR(pg_catalog.=) $2) t
          WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
            AND (t.wanted OR t.triggers OPERATOR(pg_catalog.>) 0)
            AND NOT (t.wanted AND t.triggers OPERATOR(pg_catalog.=) 1 AND t.good)",
        &[mark::holding(extension.type_oid()?).into(), function_oid.into()],
    )
}

fn relations(query: &str, parameters: &[DatumWithOid<'_>]) -> Result<Vec<pg_sys::Oid>, Report> {
    let relations = Spi::connect(|client| {
        client
            .select(query, None, parameters)?
            .map(|row| row.get::<pg_sys::Oid>(1))
            .collect::<Result<Vec<_>, _>>()
    });
    Ok(relations.map_err(|error| error::internal(error.to_string()))?.into_iter().flatten().collect())
}

/// What the row triggers are about.
struct Target {
    types: Closure,
    function_oid: pg_sys::Oid,
}

impl Target {
    fn of(extension: &Extension) -> Result<Self, Report> {
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
    /// Of an open relation.
    ///
    /// # Safety
    /// `relation` must be open and locked.
    unsafe fn of(relation: pg_sys::Relation, target: &Target) -> Self {
        // SAFETY: as promised by the caller; trigdesc is NULL or describes numtriggers triggers.
        unsafe {
            let class = (*relation).rd_rel;
            let wanted = (*class).relkind == RELKIND_TABLE
                && (*class).relpersistence != PERSISTENCE_TEMP
                && !Columns::of((*relation).rd_att, &target.types).is_empty();
            let trigdesc = (*relation).trigdesc;
            let all = if trigdesc.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts((*trigdesc).triggers, (*trigdesc).numtriggers as usize)
            };
            let triggers = all
                .iter()
                .filter(|trigger| trigger.tgfoid == target.function_oid && trigger.tgisinternal)
                .map(|trigger| {
                    let name = CStr::from_ptr(trigger.tgname).to_bytes();
                    let last = name.starts_with(TRIGGER_NAME.to_bytes());
                    (trigger.tgoid, last && trigger.tgenabled as u8 == pg_sys::TRIGGER_FIRES_ALWAYS)
                })
                .collect();
            Self { wanted, triggers }
        }
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
fn reconcile(relid: pg_sys::Oid, target: &Target) -> Result<bool, Report> {
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

fn state_under(relid: pg_sys::Oid, lock: u32, target: &Target) -> Option<State> {
    // SAFETY: the relation is closed again, its lock kept to the end of the transaction; try_relation_open returns NULL
    // for one that is gone.
    unsafe {
        let relation = pg_sys::try_relation_open(relid, lock as i32);
        if relation.is_null() {
            return None;
        }
        let state = State::of(relation, target);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        Some(state)
    }
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
