//! The hook at the creation of relations, for those that are made without a statement, which no event trigger sees: other
//! extensions make tables while rows are inserted (TimescaleDB its chunks). Also what must be refused before it is built, as an
//! index that is made CONCURRENTLY is valid when event triggers hear of it.

use crate::ddl::reconcile::{Rows, Target, reconcile};
use crate::ddl::refusals;
use crate::mark::{columnstore, relations_using_type};
use crate::pg::error::{self, Report};
use crate::pg::installed::{self, Installed};
use crate::pg::relation::attributes;
use crate::pg::statement::{self, Utility};
use crate::value::columns::Closure;
use crate::value::walk::Types;
use pgrx::{pg_guard, pg_sys};
use std::ffi::c_void;
use std::sync::OnceLock;

/// The hook that was installed before ours.
static PREVIOUS: OnceLock<pg_sys::object_access_hook_type> = OnceLock::new();

/// Hooks in; only where every session loads the library at its start.
pub fn init() {
    // SAFETY: called from _PG_init; the hook is a plain variable, and ours lives as long as the library.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: i32,
    argument: *mut c_void,
) {
    // SAFETY: the server calls the hook right after it has made an object, with the structure that goes with that.
    unsafe {
        if let Some(previous) = PREVIOUS.get().copied().flatten() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous(access, class, object, part, argument));
        }
        if access == pg_sys::ObjectAccessType::OAT_POST_CREATE && class == pg_sys::RelationRelationId {
            let is_internal = (*argument.cast::<pg_sys::ObjectAccessPostCreate>()).is_internal;
            let done = compressed(object, part)
                .and_then(|()| if part == 0 { created(object, is_internal) } else { Ok(()) });
            if let Err(report) = done {
                error::raise(report);
            }
        }
    }
}

/// A relation or a column is being made: a table of TimescaleDB's columnstore must not have values.
///
/// # Safety
/// `relid` must be the OID of the relation.
unsafe fn compressed(relid: pg_sys::Oid, column: i32) -> Result<(), Report> {
    let Some(compressed) = columnstore::type_oid() else { return Ok(()) };
    // SAFETY: as promised by the caller. The new rows of the catalogs are complete at this point: for a column, and for a table
    // with constraints, the server itself does this next.
    unsafe {
        if column != 0 {
            pg_sys::CommandCounterIncrement();
        }
        if !Made::of(relid).types.contains(&compressed) {
            return Ok(());
        }
        pg_sys::CommandCounterIncrement();
    }
    let Some(Installed { rbytea, .. }) = installed::installed() else { return Ok(()) };
    let types = Closure::new(rbytea);
    columnstore::refuse(&relations_using_type(rbytea), |of| types.leads_to_value(of))
}

/// A relation is being made. Its rows of the catalogs are not visible yet.
///
/// # Safety
/// `relid` must be the OID of that relation.
unsafe fn created(relid: pg_sys::Oid, is_internal: bool) -> Result<(), Report> {
    // SAFETY: as promised by the caller.
    let made = unsafe { Made::of(relid) };
    // Most tables have columns of PostgreSQL's own types alone.
    if made.types.iter().all(|of| of.to_u32() < pg_sys::FirstNormalObjectId) {
        return Ok(());
    }
    let Some(Installed { extension, rbytea, .. }) = installed::installed() else { return Ok(()) };
    let types = Closure::new(rbytea);
    if !made.types.iter().any(|&of| types.leads_to_value(of)) {
        return Ok(());
    }
    match made.kind {
        b'i' | b'I' if made.key_types(relid).into_iter().any(|key| types.leads_to_value(key)) => {
            Err(refusals::index())
        }
        // Also for a rewrite, whose table takes another's place.
        b'r' | b'm' if !made.is_heap => Err(refusals::access_method(made.access_method)),
        b'r' if !is_internal => {
            // SAFETY: the server itself does this at this point, for tables with constraints.
            unsafe { pg_sys::CommandCounterIncrement() };
            // The event trigger takes it back when it has stored them; EXPLAIN ANALYZE and single-user mode fire none.
            let filled = statement::running() == Some(Utility::CreateTableAs);
            let rows = if filled { Rows::ToCome } else { Rows::Stored };
            reconcile(relid, &Target::of(&extension)?, rows).map(drop)
        }
        _ => Ok(()),
    }
}

/// A relation that is being made, from the relation cache.
struct Made {
    kind: u8,
    access_method: pg_sys::Oid,
    is_heap: bool,
    /// The types of its columns.
    types: Vec<pg_sys::Oid>,
}

impl Made {
    /// # Safety
    /// `relid` must be the OID of a relation that this session is making.
    unsafe fn of(relid: pg_sys::Oid) -> Self {
        // SAFETY: the session has locked the relation, and the relation cache has it before the catalogs show it.
        unsafe {
            let relation = pg_sys::RelationIdGetRelation(relid);
            let class = &*(*relation).rd_rel;
            let made = Self {
                kind: class.relkind as u8,
                access_method: class.relam,
                is_heap: (*relation).rd_tableam == pg_sys::GetHeapamTableAmRoutine(),
                types: attributes((*relation).rd_att).map(|(_, attribute)| attribute.atttypid).collect(),
            };
            pg_sys::RelationClose(relation);
            made
        }
    }

    /// The types of an index's key columns; those that it only includes are read for rows that are there.
    fn key_types(&self, relid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
        // SAFETY: a scan of pg_index by its index over indexrelid, under a snapshot that sees what this command has
        // written; the tuple is read before the scan ends.
        let keys = unsafe {
            let indexes = pg_sys::table_open(pg_sys::IndexRelationId, pg_sys::AccessShareLock as i32);
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                pg_sys::Anum_pg_index_indexrelid as i16,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::F_OIDEQ.into(),
                pg_sys::Datum::from(relid),
            );
            let scan = pg_sys::systable_beginscan(
                indexes,
                pg_sys::IndexRelidIndexId.into(),
                true,
                &raw mut pg_sys::SnapshotSelfData,
                1,
                &mut key,
            );
            let tuple = pg_sys::systable_getnext(scan);
            let keys = if tuple.is_null() {
                self.types.len()
            } else {
                (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_index>()).indnkeyatts as usize
            };
            pg_sys::systable_endscan(scan);
            pg_sys::table_close(indexes, pg_sys::AccessShareLock as i32);
            keys
        };
        self.types.iter().copied().take(keys).collect()
    }
}
