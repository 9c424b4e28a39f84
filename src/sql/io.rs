//! Input, output and casts. All of them are pure (I2): they create no file and need no transaction id, and what they
//! take is payload, whatever its bytes look like.

use crate::pg::error::{self, Report, internal};
use crate::pg::rows::RawResult;
use crate::pg::settings::{self, RestoreReferences};
use crate::session::{expanded, read, references};
use crate::value::datum::{Bytea, ByteaResult, Peek, Rbytea, RbyteaResult};
use pgrx::callconv::FcInfo;
use pgrx::datum::Internal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgSqlErrorCode, pg_extern, pg_sys};
use rbytea_store::value::MAX_HEX;
use std::ffi::{CStr, CString, c_int};

/// Text to value, in every format that bytea accepts: bytea's own input function reads it. A reference to a payload, which is none of
/// these, becomes that where it may.
#[pg_extern]
fn rbytea_in(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand with one cstring argument. Whoever asks only whether the text is valid is told that it is not a
    // bytea; not where references are restored, for COPY with ON_ERROR asks so and would leave their rows out.
    let reference = unsafe {
        let text = CStr::from_ptr(FcInfo::from_ptr(fcinfo).raw_args()[0].value.cast_mut_ptr());
        let restored = settings::restore_references() != RestoreReferences::Off;
        if (*fcinfo).context.is_null() || restored { references::input(text.to_bytes()) } else { None }
    };
    if let Some(payload) = reference {
        return Ok(RawResult(Some(RbyteaResult::external(&payload?).into_datum())));
    }
    // SAFETY: fcinfo is the call at hand with one cstring argument; byteain takes the same. The copy carries the
    // context node, through which byteain reports a soft error (PostgreSQL 16 and later) and then returns nothing.
    let bytea = unsafe {
        let mut call: FunctionCall = std::mem::zeroed();
        call.base.context = (*fcinfo).context;
        call.base.nargs = 1;
        let argument = FcInfo::from_ptr(fcinfo).raw_args()[0];
        *call.base.args.as_mut_ptr() = argument;
        pg_sys::byteain(&mut call.base)
    };
    if bytea.is_null() {
        return Ok(RawResult(None));
    }
    // SAFETY: byteain returned a plain bytea in the current memory context.
    let payload = unsafe { pgrx::varlena_to_byte_slice(bytea.cast_mut_ptr()) };
    let value = RbyteaResult::inline(payload)?;
    // SAFETY: the bytea is ours and nothing refers to it any more.
    unsafe { pg_sys::pfree(bytea.cast_mut_ptr()) };
    Ok(RawResult(Some(value.into_datum())))
}

/// A call frame for one argument: FunctionCallInfoBaseData ends in a flexible array.
#[repr(C)]
struct FunctionCall {
    base: pg_sys::FunctionCallInfoBaseData,
    argument: pg_sys::NullableDatum,
}

/// Value to text in the format that bytea_output names, or as a reference where superusers ask for that.
#[pg_extern]
fn rbytea_out(value: Rbytea) -> Result<RawResult, ErrorReport> {
    if settings::dump_references()
        && let Peek::External(payload) = value.peek()?
    {
        return Ok(RawResult(CString::new(references::print(&payload)).ok().into_datum()));
    }
    check_text_len(read::len(&value)?)?;
    let bytea = read::whole(&value)?.into_datum();
    // SAFETY: byteaout takes one bytea, is not interested in anything else of its call and returns a fresh cstring.
    let text = unsafe { pgrx::direct_function_call_as_datum(pg_sys::byteaout, &[Some(bytea)]) };
    // SAFETY: the bytea is ours and nothing refers to it any more.
    unsafe { pg_sys::pfree(bytea.cast_mut_ptr()) };
    Ok(RawResult(text))
}

unsafe extern "C" {
    /// utils/bytea.h: the setting of this name.
    static bytea_output: c_int;
}

/// utils/bytea.h
const BYTEA_OUTPUT_HEX: c_int = 1;

/// An error for a payload whose text would be longer than any: bytea's own error does not say what to do.
fn check_text_len(len: u64) -> Result<(), Report> {
    // SAFETY: a plain read of a setting.
    if unsafe { bytea_output } != BYTEA_OUTPUT_HEX || len <= MAX_HEX {
        return Ok(());
    }
    Err(error::report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "payload is too large for text output")
        .set_detail(format!("The payload has {len} bytes; text output takes at most {MAX_HEX}."))
        .set_hint(
            "Read it in parts with rbytea_read() or rbytea_chunks(). A dump takes \"rbytea.dump_references\", or leaves the table out: \
             rbytea_larger_than() lists such rows.",
        ))
}

/// Binary to value: the message is the payload, as for bytea.
#[pg_extern]
fn rbytea_recv(mut message: Internal) -> Result<RbyteaResult, ErrorReport> {
    // SAFETY: a receive function is called with a StringInfo (declared STRICT, so it is there).
    let message = unsafe { message.get_mut::<pg_sys::StringInfoData>() };
    let Some(message) = message else {
        return Err(internal("rbytea_recv was called without a message").into());
    };
    // SAFETY: data holds len bytes, of which cursor are consumed.
    let payload = unsafe {
        let data = std::slice::from_raw_parts(message.data.cast::<u8>(), message.len as usize);
        &data[message.cursor as usize..]
    };
    let value = RbyteaResult::inline(payload)?;
    message.cursor = message.len;
    Ok(value)
}

/// Value to binary: the payload.
#[pg_extern]
fn rbytea_send(value: Rbytea) -> Result<ByteaResult, ErrorReport> {
    Ok(read::whole(&value)?)
}

/// The cast from bytea.
#[pg_extern]
fn rbytea_from_bytea(payload: Bytea) -> Result<RbyteaResult, ErrorReport> {
    Ok(RbyteaResult::converted(payload)?)
}

/// The same for what a client sends, declared STABLE, so that no plan has a copy of the payload.
#[pg_extern]
fn rbytea_from_client(payload: Bytea) -> Result<RbyteaResult, ErrorReport> {
    Ok(RbyteaResult::converted(payload)?)
}

/// The cast to bytea.
#[pg_extern]
fn rbytea_to_bytea(value: Rbytea) -> Result<ByteaResult, ErrorReport> {
    Ok(expanded::bytea(&value)?)
}

/// The same for what a client is sent, declared VOLATILE, so that the planner computes it after a sort.
#[pg_extern]
fn rbytea_to_client(value: Rbytea) -> Result<ByteaResult, ErrorReport> {
    Ok(expanded::bytea(&value)?)
}
