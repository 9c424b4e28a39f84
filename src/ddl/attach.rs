//! Which tables store payloads: the event trigger that follows DDL and gives each table with an rbytea column its row
//! trigger, and takes it away with the last such column. Everything is decided by one function, [`reconcile`], from
//! what the table is now; so it can be run at any time and any number of times.

use crate::ddl::inline_rows;
use crate::ddl::reconcile::{self, Rows, Target, reconcile};
use crate::ddl::refusals;
use crate::ddl::upload_view;
use crate::mark;
use crate::pg::catalog::Extension;
use crate::pg::error::{self, Report};
use crate::pg::rows::RawResult;
use crate::pg::spi;
use crate::value::walk::Types;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};

/// The event trigger on ddl_command_end: gives tables their row trigger, stores what the command left inline, and refuses what
/// may not hold values.
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
    // Tables with columns made of rows that have changed.
    let containers: Vec<_> = row_types.iter().copied().flat_map(mark::relations_using_row_type).collect();
    refusals::check(&[relations.as_slice(), &containers].concat(), &target.types)?;
    if !source.is_nothing() || composite {
        refusals::check_results(&row_types, &target.types)?;
    }
    for relid in relations {
        let rows = if source.has_made_all(relid, &target.types) { Rows::Stored } else { Rows::Unknown };
        reconcile(relid, &target, rows)?;
        if inline_rows::store(relid, &source, &target.types)? && source.is_whole_table() {
            reconcile::all_stored(relid, &target)?;
        }
    }
    for container in containers {
        reconcile(container, &target, Rows::Stored)?;
    }
    Ok(RawResult(Some(pg_sys::Datum::null())))
}

/// The event trigger on sql_drop: a table may lose its last rbytea column with a type, a schema or a role's objects,
/// or its row trigger, which is put back.
#[pg_extern]
fn rbytea_sql_drop(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a function in the extension's schema.
    let extension = unsafe {
        ended_statement(fcinfo)?;
        Extension::of_call(fcinfo)
    };
    let query = c"SELECT DISTINCT objid FROM pg_event_trigger_dropped_objects()
                   WHERE classid = 'pg_class'::regclass AND objsubid <> 0
                  UNION
                  SELECT to_regclass(format('%I.%I', address_names[1], address_names[2]))
                    FROM pg_event_trigger_dropped_objects()
                   WHERE classid = 'pg_trigger'::regclass AND address_names[3] LIKE '~rbytea%'";
    let relations: Vec<pg_sys::Oid> = spi::column(query, &[])?;
    if !relations.is_empty() {
        let target = Target::of(&extension)?;
        for relid in relations {
            reconcile(relid, &target, Rows::Unknown)?;
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

/// Puts missing row triggers back, for instance after pg_upgrade, and has the background vacuum try again to store what is in rows.
/// Returns the number of tables that changed.
#[pg_extern]
fn rbytea_attach(fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    // SAFETY: the first two look at the server's state and raise an ERROR where writing is not allowed; fcinfo is the
    // call at hand, of a function in the extension's schema.
    let extension = unsafe {
        pg_sys::PreventCommandDuringRecovery(c"rbytea_attach()".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"rbytea_attach()".as_ptr());
        Extension::of_call(fcinfo)
    };
    let changed = attach(&extension)?;
    reconcile::try_again(&Target::of(&extension)?)?;
    Ok(changed)
}

/// Brings every table's row trigger in order. Returns the number of tables that changed.
pub fn attach(extension: &Extension) -> Result<i64, Report> {
    let target = Target::of(extension)?;
    let mut changed = 0;
    for relid in candidates(&target)? {
        changed += i64::from(reconcile(relid, &target, Rows::Unknown)?);
    }
    changed += i64::from(upload_view::attach(extension)?);
    Ok(changed)
}

/// The relations that the current command created or altered, with everything that inherits from them.
fn changed_relations() -> Result<Vec<pg_sys::Oid>, Report> {
    let query = c"WITH RECURSIVE changed (relid) AS (
                      SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass
                      UNION
                      SELECT inhrelid FROM pg_inherits JOIN changed ON inhparent = relid)
                  SELECT relid FROM changed
                  UNION
                  SELECT tgrelid FROM pg_event_trigger_ddl_commands() JOIN pg_trigger t
                      ON classid = 'pg_trigger'::regclass AND t.oid = objid";
    spi::column(query, &[])
}

/// The relations that describe the composite types that the current command altered.
fn altered_composites() -> Result<Vec<pg_sys::Oid>, Report> {
    let query = c"SELECT t.typrelid FROM pg_event_trigger_ddl_commands() JOIN pg_type t
                      ON classid = 'pg_type'::regclass AND t.oid = objid
                      OR classid = 'pg_class'::regclass AND t.typrelid = objid";
    spi::column(query, &[])
}

/// The tables made of the composite type that the current command altered, with everything that inherits from them.
fn typed_tables() -> Result<Vec<pg_sys::Oid>, Report> {
    let query = c"WITH RECURSIVE command AS (SELECT classid, objid FROM pg_event_trigger_ddl_commands()),
                  altered (oid) AS (
                      SELECT t.oid FROM pg_type t JOIN command
                          ON classid = 'pg_type'::regclass AND t.oid = objid
                          OR classid = 'pg_class'::regclass AND t.typrelid = objid),
                  changed (relid) AS (
                      SELECT c.oid FROM pg_class c JOIN altered ON c.reloftype = altered.oid
                      UNION
                      SELECT inhrelid FROM pg_inherits JOIN changed ON inhparent = relid)
                  SELECT relid FROM changed";
    spi::column(query, &[])
}

/// The tables that should have a row trigger, or have one, but for those that have it as it should be.
fn candidates(target: &Target) -> Result<Vec<pg_sys::Oid>, Report> {
    let query = c"SELECT c.oid FROM pg_class c,
                 LATERAL (SELECT c.oid = ANY ($1) AS wanted, count(*) AS triggers,
                                 bool_and(tgisinternal AND tgenabled = 'A' AND tgname::text LIKE '~rbytea%') AS good
                            FROM pg_trigger WHERE tgrelid = c.oid AND tgfoid = $2) t
                   WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND (t.wanted OR t.triggers > 0)
                     AND NOT (t.wanted AND t.triggers = 1 AND t.good)";
    spi::column(
        query,
        &[mark::relations_using_type(target.types.rbytea()).into(), target.function_oid.into()],
    )
}
