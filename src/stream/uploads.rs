//! Uploads: payloads that clients send piece by piece, each known by a handle. They belong to the subtransaction that has begun them: its
//! rollback takes them along, its release hands them to the parent, and none outlives the transaction. What is given up is garbage.

use crate::pg::error::{self, Report};
use crate::pg::rows::RawResult;
use crate::pg::settings;
use crate::stream::builder::{self, Builder};
use crate::value::datum::{Bytea, Operand, RbyteaResult};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::trigger_support::{
    called_as_trigger, trigger_fired_by_insert, trigger_fired_for_row, trigger_fired_instead,
};
use pgrx::{PgSqlErrorCode, pg_extern, pg_guard, pg_sys};
use std::cell::RefCell;
use std::ffi::c_void;
use std::num::NonZeroUsize;

/// An upload that has not been finished.
struct Upload {
    handle: i64,
    /// The subtransaction that it ends with.
    owner: pg_sys::SubTransactionId,
    /// The innermost one that has appended to it.
    appended: pg_sys::SubTransactionId,
    /// None if bytes of it are lost.
    builder: Option<Builder>,
}

/// Those of this session.
struct Uploads {
    /// How many have been begun.
    begun: u32,
    open: Vec<Upload>,
}

thread_local! {
    static UPLOADS: RefCell<Uploads> = const { RefCell::new(Uploads { begun: 0, open: Vec::new() }) };
}

/// Registers the callbacks, once per process.
pub fn init() {
    // SAFETY: called from _PG_init; the callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_end_of_subtransaction), std::ptr::null_mut());
    }
}

// --- handles: the session's process ID above the number of the upload, together no more than 53 bits, which every client's numbers have

/// Bits of a handle that number the uploads of a session.
const NUMBER_BITS: u32 = 31;

fn handle(number: u32) -> i64 {
    // SAFETY: a plain read.
    (i64::from(unsafe { pg_sys::MyProcPid }) << NUMBER_BITS) | i64::from(number)
}

/// Why there is no upload of this handle.
fn unknown(wanted: i64, begun: u32) -> Report {
    let report = |message| error::report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message);
    let (process, number) = (wanted >> NUMBER_BITS, wanted & ((1 << NUMBER_BITS) - 1));
    if wanted <= 0
        || number == 0
        || process == 0
        || wanted > handle(begun) && process == handle(0) >> NUMBER_BITS
    {
        return report(format!("upload {wanted} does not exist"))
            .set_hint("rbytea_begin() opens an upload and returns its number.");
    }
    if process != handle(0) >> NUMBER_BITS {
        return report(format!("upload {wanted} belongs to another session"))
            .set_detail(format!("It is of the session with process ID {process}."))
            .set_hint(
                "An upload takes one session, and one transaction, from rbytea_begin() to rbytea_finish().",
            );
    }
    report(format!("upload {wanted} has ended"))
        .set_detail(
            "It has been finished, or the transaction or the savepoint that it was begun in has ended.",
        )
        .set_hint("An upload takes one transaction from rbytea_begin() to rbytea_finish().")
}

fn cut(handle: i64) -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("upload {handle} cannot go on"),
    )
    .set_detail("An error, or a rollback to a savepoint, has taken bytes of it back.")
    .set_hint("Begin another upload.")
}

fn null(what: &str) -> Report {
    error::report(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{what} must not be null"))
}

fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads the state of the transaction that we are in.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Takes the payload out of its upload, which is cut until it comes back.
fn take(wanted: i64) -> Result<Builder, Report> {
    UPLOADS.with_borrow_mut(|uploads| {
        let begun = uploads.begun;
        let upload = uploads.open.iter_mut().find(|upload| upload.handle == wanted);
        let upload = upload.ok_or_else(|| unknown(wanted, begun))?;
        let builder = upload.builder.take().ok_or_else(|| cut(wanted))?;
        upload.appended = current_subtransaction();
        Ok(builder)
    })
}

fn append(wanted: i64, chunk: &Bytea) -> Result<i64, Report> {
    let mut builder = take(wanted)?;
    chunk.with_payload(|bytes| builder.append(bytes))??;
    let len = builder.len();
    UPLOADS.with_borrow_mut(|uploads| {
        if let Some(upload) = uploads.open.iter_mut().find(|upload| upload.handle == wanted) {
            upload.builder = Some(builder);
        }
    });
    Ok(len.cast_signed())
}

/// Opens an upload, and returns its handle.
#[pg_extern]
fn rbytea_begin() -> Result<i64, ErrorReport> {
    builder::check_may_write(c"rbytea_begin()");
    let most = settings::max_uploads();
    let begun = UPLOADS.with_borrow_mut(|uploads| {
        if uploads.open.len() as i64 >= i64::from(most) {
            return Err(builder::too_many(most));
        }
        if uploads.begun >= (1 << NUMBER_BITS) - 1 {
            return Err(error::report(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                "this session cannot begin more uploads",
            )
            .set_hint("Begin a new session."));
        }
        uploads.begun += 1;
        let (handle, owner) = (handle(uploads.begun), current_subtransaction());
        uploads.open.push(Upload { handle, owner, appended: owner, builder: Some(Builder::new()) });
        Ok(handle)
    });
    Ok(begun?)
}

/// Appends bytes to an upload, and returns its length.
#[pg_extern]
fn rbytea_append(upload: Option<i64>, chunk: Option<Bytea>) -> Result<i64, ErrorReport> {
    let upload = upload.ok_or_else(|| null("upload"))?;
    let chunk = chunk.ok_or_else(|| null("chunk"))?;
    Ok(append(upload, &chunk)?)
}

/// Ends an upload, and returns the value.
#[pg_extern]
fn rbytea_finish(upload: Option<i64>) -> Result<RbyteaResult, ErrorReport> {
    let upload = upload.ok_or_else(|| null("upload"))?;
    let builder = take(upload)?;
    UPLOADS.with_borrow_mut(|uploads| uploads.open.retain(|open| open.handle != upload));
    Ok(builder.finish()?)
}

/// The trigger of the view rbytea_upload: appends a row's chunk to its upload.
#[pg_extern]
fn rbytea_upload_row(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    // SAFETY: fcinfo is the call at hand; its context is a TriggerData if called_as_trigger says so.
    let data = unsafe {
        if !called_as_trigger(fcinfo) {
            return Err(protocol_violation().into());
        }
        *(*fcinfo).context.cast::<pg_sys::TriggerData>()
    };
    let event = data.tg_event;
    if !(trigger_fired_instead(event) && trigger_fired_for_row(event) && trigger_fired_by_insert(event)) {
        return Err(protocol_violation().into());
    }
    // SAFETY: the columns are a bigint and a bytea, which is looked at first; the rows live for the call.
    let (upload, chunk) = unsafe {
        let tupdesc = (*data.tg_relation).rd_att;
        let is_of = |column, of| pg_sys::SPI_gettypeid(tupdesc, column) == of;
        if (*tupdesc).natts != 2 || !is_of(1, pg_sys::INT8OID) || !is_of(2, pg_sys::BYTEAOID) {
            return Err(protocol_violation().into());
        }
        let column = |number| pgrx::htup::heap_getattr_raw(data.tg_trigtuple, number, tupdesc);
        let upload = column(UPLOAD_COLUMN).map(|datum| datum.value() as i64);
        (upload, column(CHUNK_COLUMN).map(|datum| Bytea::from_raw(datum)))
    };
    let upload = upload.ok_or_else(|| null("upload"))?;
    append(upload, &chunk.ok_or_else(|| null("chunk"))?)?;
    // The row without its chunk, so that it counts: the server keeps a row that is returned as it came until the statement ends.
    let (mut column, mut value, mut is_null) = (CHUNK_COLUMN.get() as i32, pg_sys::Datum::null(), true);
    // SAFETY: the tuple is of the descriptor, which has the column.
    let row = unsafe {
        let tupdesc = (*data.tg_relation).rd_att;
        pg_sys::heap_modify_tuple_by_cols(
            data.tg_trigtuple,
            tupdesc,
            1,
            &mut column,
            &mut value,
            &mut is_null,
        )
    };
    Ok(RawResult(Some(pg_sys::Datum::from(row))))
}

const UPLOAD_COLUMN: NonZeroUsize = NonZeroUsize::MIN;
const CHUNK_COLUMN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

fn protocol_violation() -> Report {
    error::report(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "function \"rbytea_upload_row\" was not called as an INSTEAD OF INSERT trigger of rbytea_upload",
    )
}

// --- the ends of transactions, which raise nothing

#[pg_guard]
extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    // Before a commit, too: no statement of the transaction comes after that.
    if event != pg_sys::XactEvent::XACT_EVENT_PARALLEL_PRE_COMMIT {
        drop(UPLOADS.with_borrow_mut(|uploads| std::mem::take(&mut uploads.open)));
    }
}

#[pg_guard]
extern "C-unwind" fn at_end_of_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    ended: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    let given_up: Vec<_> = UPLOADS.with_borrow_mut(|uploads| match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            for upload in &mut uploads.open {
                for subtransaction in [&mut upload.owner, &mut upload.appended] {
                    if *subtransaction == ended {
                        *subtransaction = parent;
                    }
                }
            }
            Vec::new()
        }
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            let cut = uploads.open.iter_mut().filter(|upload| upload.appended == ended);
            let given_up = cut.filter_map(|upload| upload.builder.take()).collect();
            uploads.open.retain(|upload| upload.owner != ended);
            given_up
        }
        _ => Vec::new(),
    });
    drop(given_up);
}
