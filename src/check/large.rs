//! rbytea_larger_than(): the rows that a dump in text cannot carry, found without reading a payload.

use crate::check::tables;
use crate::pg::catalog::Extension;
use crate::pg::error::{self, Report};
use crate::pg::heap_scan::HeapScan;
use crate::pg::memory::TupleMemory;
use crate::pg::pace::Pace;
use crate::pg::relation::{Relation, Unlock};
use crate::pg::rows::{RawResult, Rows};
use crate::pg::snapshot::ActiveSnapshot;
use crate::session::read;
use crate::value::columns::{Closure, Columns};
use crate::value::datum::Rbytea;
use crate::value::walk::Walker;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgSqlErrorCode, pg_extern, pg_sys};
use rbytea_store::PayloadRef;

/// The rows whose payloads have together more than so many bytes, of a table with its partitions and descendants or of the whole database.
#[pg_extern]
fn rbytea_larger_than(
    bytes: Option<i64>,
    target: Option<pg_sys::Oid>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, of a set-returning function in the extension's schema.
    let (extension, mut rows) = unsafe { (Extension::of_call(fcinfo), Rows::begin(fcinfo)) };
    let Some(bytes) = bytes else {
        return Err(error::report(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "the argument \"bytes\" cannot be null",
        )
        .into());
    };
    let type_oid = extension.type_oid()?;
    let types = Closure::new(type_oid);
    let (mut pace, mut memory) = (Pace::of_statement(), TupleMemory::new());
    let tables = match target {
        Some(target) => tables::tree(target)?,
        None => tables::all(type_oid),
    };
    for table in tables {
        let found = |ctid: pg_sys::ItemPointerData, len: u64| {
            let mut ctid = ctid;
            // The tuple store copies what this points to.
            let ctid = Some(pg_sys::Datum::from(&raw mut ctid));
            rows.put([table.into_datum(), ctid, len.cast_signed().into_datum()]);
        };
        look(table, bytes, &types, &mut pace, &mut memory, found)?;
    }
    Ok(RawResult(None))
}

fn look(
    table: pg_sys::Oid,
    bytes: i64,
    types: &Closure,
    pace: &mut Pace,
    memory: &mut TupleMemory,
    mut found: impl FnMut(pg_sys::ItemPointerData, u64),
) -> Result<(), Report> {
    if !tables::has_rows(table) {
        return Ok(());
    }
    let Some(relation) = Relation::try_open(table, pg_sys::AccessShareLock, Unlock::AtClose) else {
        return Ok(());
    };
    // SAFETY: the descriptor lives as long as the relation is open.
    let columns = unsafe { Columns::of(relation.descriptor(), types) };
    if columns.is_empty() {
        return Ok(());
    }
    let mut walker = Walker::new(types);
    let snapshot = ActiveSnapshot::latest();
    let mut scan = HeapScan::visible(&relation, &snapshot);
    while let Some(slot) = scan.next() {
        pace.step()?;
        memory.with(|| -> Result<(), Report> {
            let mut total = 0u64;
            for &column in &columns.stored {
                // SAFETY: the slot holds a tuple of the relation, whose column is of our type.
                let value = unsafe { slot.attribute(column).map(|datum| Rbytea::from_raw(datum)) };
                total = total.saturating_add(value.map_or(Ok(0), |value| read::len(&value))?);
            }
            for &(column, type_oid) in &columns.containers {
                let mut add = |payload: &PayloadRef| {
                    total = total.saturating_add(payload.len);
                    Ok(())
                };
                // SAFETY: as above; the column has this type.
                unsafe {
                    if let Some(datum) = slot.attribute(column) {
                        walker.walk(datum, type_oid, &mut add)?;
                    }
                }
            }
            if i128::from(total) > i128::from(bytes) {
                found(slot.tid(), total);
            }
            Ok(())
        })?;
    }
    Ok(())
}
