//! rbytea_agg(): a payload out of the rows of a query. The state is in the memory of the aggregate as long as it is short, so that
//! PostgreSQL knows of it.

use crate::pg::error::{self, Report};
use crate::pg::rows::RawResult;
use crate::stream::builder::{self, Builder, IN_MEMORY};
use crate::value::datum::{Bytea, Operand, RbyteaResult};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgMemoryContexts, pg_extern, pg_sys};
use rbytea_store::PayloadRef;
use std::ptr::null_mut;

/// What an aggregate has so far.
struct State {
    /// All bytes, while they are few, in the memory of the aggregate.
    start: pg_sys::StringInfo,
    /// Where they are from then on.
    builder: Option<Builder>,
    /// What has become of that: the executor asks a second time when it reads the table of a hash aggregate again.
    stored: Option<PayloadRef>,
}

/// Appends an argument to the state: NULLs are left out.
#[pg_extern]
fn rbytea_agg_append(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand, with the state and the argument as the aggregate declares them.
    unsafe {
        let [state, chunk] = arguments(fcinfo);
        let Some(chunk) = chunk else { return Ok(RawResult(state)) };
        let state = match state {
            Some(state) => state.cast_mut_ptr::<State>(),
            None => begin(fcinfo)?,
        };
        Bytea::from_raw(chunk).with_payload(|bytes| append(&mut *state, bytes))??;
        Ok(RawResult(Some(state.into())))
    }
}

/// The value; NULL where there was nothing but NULLs.
#[pg_extern]
fn rbytea_agg_finish(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: as above. Nothing is appended afterwards: the aggregate says that this function changes the state.
    unsafe {
        let [state] = arguments(fcinfo);
        let Some(state) = state else { return Ok(RawResult(None)) };
        let state = &mut *state.cast_mut_ptr::<State>();
        if let Some(builder) = state.builder.take() {
            state.stored = Some(builder.finish_stored()?);
        }
        let value = match &state.stored {
            Some(payload) => RbyteaResult::external(payload),
            None => RbyteaResult::inline(bytes(state.start))?,
        };
        Ok(RawResult(Some(value.into_datum())))
    }
}

/// # Safety
/// `fcinfo` must be a call with so many arguments.
unsafe fn arguments<const N: usize>(fcinfo: pg_sys::FunctionCallInfo) -> [Option<pg_sys::Datum>; N] {
    // SAFETY: as promised by the caller.
    let arguments = unsafe { (*fcinfo).args.as_slice(N) };
    std::array::from_fn(|index| (!arguments[index].isnull).then_some(arguments[index].value))
}

/// A state in the memory of the aggregate, which is given up with that.
///
/// # Safety
/// `fcinfo` must be the call at hand.
unsafe fn begin(fcinfo: pg_sys::FunctionCallInfo) -> Result<*mut State, Report> {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut context = null_mut();
        if pg_sys::AggCheckCallContext(fcinfo, &mut context) == 0 {
            return Err(error::internal("rbytea_agg_append was called outside of an aggregate"));
        }
        let start = PgMemoryContexts::For(context).switch_to(|_| pg_sys::makeStringInfo());
        Ok(PgMemoryContexts::For(context).leak_and_drop_on_delete(State {
            start,
            builder: None,
            stored: None,
        }))
    }
}

fn append(state: &mut State, chunk: &[u8]) -> Result<(), Report> {
    if let Some(builder) = &mut state.builder {
        return builder.append(chunk);
    }
    // SAFETY: the state's buffer; what is appended is a chunk in memory, no longer than the buffer may become.
    let before = unsafe { bytes(state.start) };
    if before.len() + chunk.len() <= IN_MEMORY {
        // SAFETY: as above.
        unsafe { pg_sys::appendBinaryStringInfo(state.start, chunk.as_ptr().cast(), chunk.len() as i32) };
        return Ok(());
    }
    builder::check_may_write(c"rbytea_agg()");
    let builder = state.builder.insert(Builder::new());
    builder.append(before)?;
    builder.append(chunk)?;
    // SAFETY: nothing refers to its memory any more; the buffer is not used again.
    unsafe {
        pg_sys::pfree((*state.start).data.cast());
        (*state.start).data = null_mut();
        (*state.start).len = 0;
    }
    Ok(())
}

/// # Safety
/// The buffer must be there.
unsafe fn bytes<'a>(buffer: pg_sys::StringInfo) -> &'a [u8] {
    // SAFETY: as promised by the caller.
    unsafe {
        match (*buffer).len {
            0 => &[],
            len => std::slice::from_raw_parts((*buffer).data.cast(), len as usize),
        }
    }
}
