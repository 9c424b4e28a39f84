//! The row trigger: payloads that arrive inline leave the row here, and references are checked, so that none is stored
//! whose file is gone (I7). One of the few callers of `transaction::store_payload` (I3).

use crate::pg::catalog::Extension;
use crate::pg::error::{self, Report};
use crate::pg::rows::RawResult;
use crate::pg::settings;
use crate::session::keys;
use crate::session::opening::Access;
use crate::session::read;
use crate::session::transaction;
use crate::value::columns::{Closure, Columns};
use crate::value::datum::{Peek, Rbytea, RbyteaResult};
use crate::value::walk::Walker;
use crate::write::published;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::trigger_support::{
    called_as_trigger, trigger_fired_before, trigger_fired_by_insert, trigger_fired_by_update,
    trigger_fired_for_row,
};
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use rbytea_store::{PayloadRef, Restored, value};
use std::collections::HashSet;
use std::num::NonZeroUsize;

/// The function of the trigger "~rbytea_…" on every table that can store payloads.
#[pg_extern]
fn rbytea_externalize(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand; its context is a TriggerData if called_as_trigger says so.
    let data = unsafe {
        if !called_as_trigger(fcinfo) {
            return Err(protocol_violation().into());
        }
        *(*fcinfo).context.cast::<pg_sys::TriggerData>()
    };
    let event = data.tg_event;
    let update = trigger_fired_by_update(event);
    if !(trigger_fired_before(event)
        && trigger_fired_for_row(event)
        && (update || trigger_fired_by_insert(event)))
    {
        return Err(protocol_violation().into());
    }
    let (new, old) = if update {
        (data.tg_newtuple, data.tg_trigtuple)
    } else {
        (data.tg_trigtuple, std::ptr::null_mut())
    };
    // SAFETY: the trigger's relation is open and locked; what is remembered lives in the memory of the statement's
    // FmgrInfo.
    let (tupdesc, table) = unsafe {
        let tupdesc = (*data.tg_relation).rd_att;
        let first_call = (*(*fcinfo).flinfo).fn_extra.is_null();
        let table = if first_call {
            let types = Closure::new(Extension::of_call(fcinfo).type_oid()?);
            Some((Columns::of(tupdesc, &types), types))
        } else {
            None
        };
        (tupdesc, pgrx::fcinfo::pg_func_extra(fcinfo, || table))
    };
    let Some((columns, types)) = &*table else {
        return Err(error::internal("a trigger forgot its columns").into());
    };
    let row = Row { new, old, tupdesc };
    // SAFETY: the trigger's relation is open; the columns are of its descriptor.
    unsafe { published::check(data.tg_relation, columns, types, |column| row.datums(column))? };
    let mut replaced = Replaced::default();
    for &column in &columns.stored {
        // SAFETY: datums of a column of our type.
        let (new, old) = unsafe { row.versions(column) };
        if let Some(new) = new
            && let Some(stored) = externalize(&new, old)?
        {
            replaced.push(column, stored);
        }
    }
    for &(column, type_oid) in &columns.containers {
        // SAFETY: the column was found in the descriptor, with this type.
        unsafe { check_references(&row, column, type_oid, types)? };
    }
    // SAFETY: new is a tuple of tupdesc.
    Ok(RawResult(Some(pg_sys::Datum::from(unsafe { replaced.apply(new, tupdesc) }))))
}

/// A row that is being written, with the old version if it is updated.
struct Row {
    new: pg_sys::HeapTuple,
    /// NULL for an INSERT.
    old: pg_sys::HeapTuple,
    tupdesc: pg_sys::TupleDesc,
}

impl Row {
    /// A column's datums, as they are in both versions.
    ///
    /// # Safety
    /// The column must be of the tuples' descriptor.
    unsafe fn datums(&self, column: NonZeroUsize) -> (Option<pg_sys::Datum>, Option<pg_sys::Datum>) {
        // SAFETY: as promised by the caller.
        unsafe {
            let new = pgrx::htup::heap_getattr_raw(self.new, column, self.tupdesc);
            let old = (!self.old.is_null())
                .then(|| pgrx::htup::heap_getattr_raw(self.old, column, self.tupdesc))
                .flatten();
            (new, old)
        }
    }

    /// The same for a column of our type.
    ///
    /// # Safety
    /// As for [`datums`](Self::datums); the column must be of type rbytea or of a domain over it.
    unsafe fn versions(&self, column: NonZeroUsize) -> (Option<Rbytea>, Option<Rbytea>) {
        // SAFETY: as promised by the caller.
        unsafe {
            let (new, old) = self.datums(column);
            (new.map(|datum| Rbytea::from_raw(datum)), old.map(|datum| Rbytea::from_raw(datum)))
        }
    }
}

/// References in arrays, composites and the like: their files must be there as well.
///
/// # Safety
/// The column must be of this type, which must lead to a value.
unsafe fn check_references(
    row: &Row,
    column: NonZeroUsize,
    type_oid: pg_sys::Oid,
    types: &Closure,
) -> Result<(), Report> {
    // SAFETY: as promised by the caller; all such types are of variable length.
    unsafe {
        let (Some(new), old) = row.datums(column) else { return Ok(()) };
        let bytes = |datum: pg_sys::Datum| {
            let value = datum.cast_mut_ptr::<pg_sys::varlena>();
            std::slice::from_raw_parts(value.cast::<u8>(), pgrx::varsize_any(value))
        };
        // As they are stored: a value that did not change may stay in its TOAST table.
        if old.is_some_and(|old| bytes(old) == bytes(new)) {
            return Ok(());
        }
        ensure_all_live(new, type_oid, types)
    }
}

/// Does what [`ensure_live`] does for every reference in a value.
///
/// # Safety
/// `datum` must be of this type, which must lead to a value.
pub unsafe fn ensure_all_live(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    types: &Closure,
) -> Result<(), Report> {
    // The same payload many times is one look at its file, within bounded memory.
    let mut seen = HashSet::new();
    let mut check = |payload: &PayloadRef| {
        if seen.len() == SEEN {
            seen.clear();
        }
        if seen.insert(payload.id) { ensure_live(payload) } else { Ok(()) }
    };
    // SAFETY: as promised by the caller.
    unsafe { Walker::new(types).walk(datum, type_oid, &mut check) }
}

/// Payloads that are remembered as checked.
const SEEN: usize = 1024;

/// What has to stand in the row instead of `new`, if anything.
fn externalize(new: &Rbytea, old: Option<Rbytea>) -> Result<Option<RbyteaResult>, Report> {
    let before = match old.map(|old| old.peek()).transpose()? {
        Some(Peek::External(before)) => Some(before),
        _ => None,
    };
    match (new.peek()?, before) {
        (Peek::Inline(len), Some(before)) if is_same(new, len, &before)? => {
            Ok(Some(RbyteaResult::external(&before)))
        }
        (Peek::Inline(len), _) => store_inline(new, len),
        (Peek::External(payload), Some(before)) if payload == before => Ok(None),
        (Peek::External(payload), _) => {
            ensure_live(&payload)?;
            Ok(None)
        }
    }
}

/// Whether an inline payload of `len` bytes is what is stored already: applications save all columns of a row when one has changed.
/// A file that is missing, damaged or unreadable is written anew, which is how payloads are repaired; so is one that has not
/// the newest key while rbytea.qss_mode is on.
fn is_same(new: &Rbytea, len: u64, stored: &PayloadRef) -> Result<bool, Report> {
    if len != stored.len || settings::qss_mode() && stored.key_id != Some(keys::ring()?.newest().id()) {
        return Ok(false);
    }
    let new = new.detoast();
    let payload = new.payload()?;
    Ok(value::digest(payload) == stored.digest
        && value::checksum(payload) == stored.checksum
        && is_live(stored)?
        && read::verify(stored).is_ok())
}

/// Whether an inline payload of so many bytes leaves its row.
pub fn is_to_be_stored(len: u64) -> bool {
    len >= settings::external_threshold()
}

/// Stores an inline payload of `len` bytes and returns the reference; None if it is small enough to stay.
pub fn store_inline(value: &Rbytea, len: u64) -> Result<Option<RbyteaResult>, Report> {
    if !is_to_be_stored(len) {
        return Ok(None);
    }
    let payload = transaction::store_bytes(value.detoast().payload()?)?;
    Ok(Some(RbyteaResult::external(&payload)))
}

/// A reference that was copied, or kept in a variable, may have outlived the row it came from: its file must be in
/// LIVE, and is brought back from TRASH if need be (I7).
pub fn ensure_live(payload: &PayloadRef) -> Result<(), Report> {
    if is_live(payload)? {
        return Ok(());
    }
    // Opening it says what was looked for and where.
    transaction::with_store(Access::Read, |store| read::open_file(store, payload).map(drop))
}

/// Whether the file is in LIVE, where it may have been brought back to from TRASH.
fn is_live(payload: &PayloadRef) -> Result<bool, Report> {
    // SAFETY: reads the transaction state; the transaction's own files cannot have been moved.
    let own = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
    if payload.id.birth == own {
        return Ok(true);
    }
    transaction::with_store(Access::Read, |store| Ok(store.restore(&payload.id)? != Restored::Missing))
}

/// The columns of a tuple that get another value.
#[derive(Default)]
pub struct Replaced {
    columns: Vec<i32>,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Replaced {
    /// Whether every column keeps its value.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Gives a column another value.
    pub fn push(&mut self, column: NonZeroUsize, value: RbyteaResult) {
        self.columns.push(column.get() as i32);
        self.values.push(value.into_datum());
        self.nulls.push(false);
    }

    /// The tuple with the replaced columns, or `tuple` itself if there are none.
    ///
    /// # Safety
    /// `tuple` must be a tuple of `tupdesc`, and the columns be of it.
    pub unsafe fn apply(mut self, tuple: pg_sys::HeapTuple, tupdesc: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        if self.is_empty() {
            return tuple;
        }
        // SAFETY: as promised by the caller; the three arrays have the same length.
        unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                tuple,
                tupdesc,
                self.columns.len() as i32,
                self.columns.as_mut_ptr(),
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            )
        }
    }
}

fn protocol_violation() -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "function \"rbytea_externalize\" was not called as a BEFORE ROW trigger for INSERT or UPDATE",
    )
    .set_hint("The extension creates its triggers by itself; rbytea_attach() puts missing ones back.")
}
