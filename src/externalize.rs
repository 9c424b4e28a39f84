//! The row trigger: payloads that arrive inline leave the row here, and copied references are checked. With
//! rbytea_store it is the only caller of the store's writer (I3).

use crate::catalog::Extension;
use crate::datum::{Peek, RawResult, Rbytea, RbyteaResult};
use crate::xact::Access;
use crate::{compat, error, read, settings, xact};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::trigger_support::{
    called_as_trigger, trigger_fired_before, trigger_fired_by_insert, trigger_fired_by_update,
    trigger_fired_for_row,
};
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use std::num::NonZeroUsize;

use crate::store::{Payload, Restored};

/// The attribute numbers of a relation's columns of type rbytea or of a domain over it, in the order of the columns.
/// Generated columns are left out: they are computed after the BEFORE triggers, from columns that have been stored.
///
/// # Safety
/// `tupdesc` must be valid.
pub unsafe fn rbytea_columns(tupdesc: pg_sys::TupleDesc, type_oid: pg_sys::Oid) -> Vec<NonZeroUsize> {
    // SAFETY: the caller vouches for tupdesc; attributes are numbered from 0 to natts - 1.
    unsafe {
        (0..(*tupdesc).natts)
            .filter(|&index| {
                let attribute = compat::attribute(tupdesc, index as usize);
                !(*attribute).attisdropped
                    && (*attribute).attgenerated == 0
                    && pg_sys::getBaseType((*attribute).atttypid) == type_oid
            })
            .filter_map(|index| NonZeroUsize::new(index as usize + 1))
            .collect()
    }
}

/// The function of the trigger "~rbytea_…" on every table that can store payloads.
#[pg_extern]
fn rbytea_externalize(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand; its context is a TriggerData if called_as_trigger says so.
    let data = unsafe {
        if !called_as_trigger(fcinfo) {
            return Err(protocol_violation());
        }
        *(*fcinfo).context.cast::<pg_sys::TriggerData>()
    };
    let event = data.tg_event;
    let update = trigger_fired_by_update(event);
    if !(trigger_fired_before(event)
        && trigger_fired_for_row(event)
        && (update || trigger_fired_by_insert(event)))
    {
        return Err(protocol_violation());
    }
    let (new, old) = if update {
        (data.tg_newtuple, data.tg_trigtuple)
    } else {
        (data.tg_trigtuple, std::ptr::null_mut())
    };
    // SAFETY: the trigger's relation is open and locked; the list lives in the memory of the statement's FmgrInfo.
    let (tupdesc, columns) = unsafe {
        let tupdesc = (*data.tg_relation).rd_att;
        let first_call = (*(*fcinfo).flinfo).fn_extra.is_null();
        let columns = if first_call {
            rbytea_columns(tupdesc, Extension::of_call(fcinfo).type_oid()?)
        } else {
            Vec::new()
        };
        (tupdesc, pgrx::fcinfo::pg_func_extra(fcinfo, || columns))
    };

    let mut replaced = Replaced::default();
    for &column in columns.iter() {
        // SAFETY: both tuples are of the trigger's relation, and the columns were found in its descriptor.
        let (new_value, old_value) = unsafe {
            let new_value =
                pgrx::htup::heap_getattr_raw(new, column, tupdesc).map(|datum| Rbytea::from_raw(datum));
            let old_value =
                (!old.is_null()).then(|| pgrx::htup::heap_getattr_raw(old, column, tupdesc)).flatten();
            (new_value, old_value.map(|datum| Rbytea::from_raw(datum)))
        };
        if let Some(new_value) = new_value
            && let Some(stored) = externalize(&new_value, old_value)?
        {
            replaced.push(column, stored);
        }
    }
    // SAFETY: new is a tuple of tupdesc.
    Ok(RawResult(Some(pg_sys::Datum::from(unsafe { replaced.apply(new, tupdesc) }))))
}

/// What has to stand in the row instead of `new`, if anything.
fn externalize(new: &Rbytea, old: Option<Rbytea>) -> Result<Option<RbyteaResult>, ErrorReport> {
    match new.peek()? {
        Peek::Inline(len) => store_inline(new, len),
        Peek::External(payload) => {
            if let Some(old) = old
                && matches!(old.peek()?, Peek::External(before) if before == payload)
            {
                return Ok(None);
            }
            ensure_live(&payload)?;
            Ok(None)
        }
    }
}

/// Stores an inline payload of `len` bytes and returns the reference; None if it is small enough to stay.
pub fn store_inline(value: &Rbytea, len: u64) -> Result<Option<RbyteaResult>, ErrorReport> {
    if len < settings::external_threshold() {
        return Ok(None);
    }
    let payload = xact::store_payload(value.detoast().payload()?)?;
    Ok(Some(RbyteaResult::external(&payload)?))
}

/// A reference that was copied, or kept in a variable, may have outlived the row it came from: its file must be in
/// LIVE, and is brought back from TRASH if need be (I7).
pub fn ensure_live(payload: &Payload) -> Result<(), ErrorReport> {
    // SAFETY: reads the transaction state; the transaction's own files cannot have been moved.
    let own = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
    if payload.id.birth == own {
        return Ok(());
    }
    xact::with_store(Access::Read, |store| match store.restore(&payload.id)? {
        Restored::WasLive | Restored::Restored => Ok(()),
        // Opening it says what was looked for and where.
        Restored::Missing => read::open(store, payload).map(drop),
    })
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

fn protocol_violation() -> ErrorReport {
    error::report(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "function \"rbytea_externalize\" was not called as a BEFORE ROW trigger for INSERT or UPDATE",
    )
    .set_hint("The extension creates its triggers by itself; rbytea_attach() puts missing ones back.")
}
