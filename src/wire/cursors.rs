//! FETCH by a client from a cursor that it has not declared itself: a function has opened it, so its query was not presented, and
//! it returns rbytea. The client's FETCH becomes the EXECUTE of a statement that reads the cursor through a function and presents
//! what comes. EXECUTE, because of all utility statements that return rows this alone is described by what it returns.

use super::results::{self, Kind};
use crate::pg::encoding::readable;
use crate::pg::error;
use crate::pg::installed::Installed;
use crate::pg::relation::attributes;
use crate::pg::rows::RawResult;
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::spi;
use pgrx::callconv::FcInfo;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The FETCH that a client has sent, and the cursor's portal; None of other statements, and if there is no such cursor.
///
/// # Safety
/// `query` must be the result of an analysis.
pub unsafe fn fetch<'a>(query: *mut pg_sys::Query) -> Option<(&'a pg_sys::FetchStmt, pg_sys::Portal)> {
    // SAFETY: as promised by the caller; the tag says what the node is.
    unsafe {
        let is_utility = (*query).commandType == pg_sys::CmdType::CMD_UTILITY;
        if !is_utility || (*(*query).utilityStmt).type_ != pg_sys::NodeTag::T_FetchStmt {
            return None;
        }
        let fetch = &*(*query).utilityStmt.cast::<pg_sys::FetchStmt>();
        let portal = pg_sys::GetPortalByName(fetch.portalname);
        (!fetch.ismove && !portal.is_null() && !(*portal).tupDesc.is_null()).then_some((fetch, portal))
    }
}

/// The parse tree that takes the place of a FETCH; None if the cursor has no results of the type.
///
/// # Safety
/// The arguments must be a FETCH and its portal, which returns rows.
pub unsafe fn present(
    fetch: &pg_sys::FetchStmt,
    portal: pg_sys::Portal,
    types: &Installed,
) -> Result<Option<*mut pg_sys::Node>, error::Report> {
    // SAFETY: as promised by the caller; the raw parser returns one statement for one.
    unsafe {
        let Some(select) = select((*portal).tupDesc, types) else { return Ok(None) };
        let mut execute = format!("EXECUTE {} (", prepared(&select)?).into_bytes();
        execute.extend(CStr::from_ptr(pg_sys::quote_literal_cstr(fetch.portalname)).to_bytes());
        execute.extend(format!(", {}, {})", fetch.direction, fetch.howMany).as_bytes());
        let execute = text(execute)?;
        let parsed = pg_sys::raw_parser(execute.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        Ok(Some((*pg_sys::list_nth(parsed, 0).cast::<pg_sys::RawStmt>()).stmt))
    }
}

/// The statement that reads and presents rows of this descriptor, in the database's encoding; None if they need not be presented,
/// or cannot be: a function's columns are of types, and a record has none.
///
/// # Safety
/// `columns` must be a descriptor.
unsafe fn select(columns: pg_sys::TupleDesc, types: &Installed) -> Option<Vec<u8>> {
    let (mut results, mut definitions) = (Vec::new(), Vec::new());
    let mut of_type = false;
    // SAFETY: as promised by the caller; lookups of types, whose results are palloc'd strings.
    unsafe {
        for (number, column) in attributes(columns) {
            if pg_sys::get_typtype(column.atttypid) == pg_sys::TYPTYPE_PSEUDO as i8 {
                return None;
            }
            let (before, after) = match results::kind(column.atttypid, types) {
                Some(Kind::Value) => ("pg_catalog.rbytea_to_client(", ")"),
                Some(Kind::Array) => ("", "::pg_catalog.bytea[]"),
                None => ("", ""),
            };
            of_type |= !after.is_empty();
            let flags = (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as u16;
            let of = pg_sys::format_type_extended(column.atttypid, column.atttypmod, flags);
            let name = pg_sys::quote_identifier(column.attname.data.as_ptr());
            let result = format!("{before}c{number}{after} AS ");
            results.push([result.as_bytes(), CStr::from_ptr(name).to_bytes()].concat());
            definitions.push([format!("c{number} ").as_bytes(), CStr::from_ptr(of).to_bytes()].concat());
        }
    }
    let separator = b", ".as_slice();
    let parts: [&[u8]; 5] = [
        b"SELECT ",
        &results.join(separator),
        b" FROM pg_catalog.rbytea_fetch($1, $2, $3) AS (",
        &definitions.join(separator),
        b")",
    ];
    of_type.then(|| parts.concat())
}

/// Prepares a statement, once in a session; returns its name, which tells one from the other.
fn prepared(select: &[u8]) -> Result<String, error::Report> {
    let mut hasher = DefaultHasher::new();
    select.hash(&mut hasher);
    let name = format!("rbytea_fetch_{:016x}", hasher.finish());
    let key = text(name.as_bytes().to_vec())?;
    // SAFETY: looks for a prepared statement of this session, which is there after PREPARE. FETCH is what the client shall hear
    // that has been executed.
    unsafe {
        if pg_sys::FetchPreparedStatement(key.as_ptr(), false).is_null() {
            let prepare = [format!("PREPARE {name} (text, integer, bigint) AS ").as_bytes(), select].concat();
            // FETCH itself is analysed without a snapshot.
            let _snapshot = ActiveSnapshot::latest();
            spi::execute(&text(prepare)?, &[])?;
            let statement = pg_sys::FetchPreparedStatement(key.as_ptr(), true);
            (*(*statement).plansource).commandTag = pg_sys::CommandTag::CMDTAG_FETCH;
        }
    }
    Ok(name)
}

fn text(bytes: Vec<u8>) -> Result<CString, error::Report> {
    CString::new(bytes).map_err(|error| error::internal(error.to_string()))
}

/// The rows that FETCH returns: name of the cursor, direction and count as in its parse tree.
#[pg_extern]
fn rbytea_fetch(fcinfo: pg_sys::FunctionCallInfo) -> Result<RawResult, ErrorReport> {
    unsafe extern "C-unwind" {
        /// executor/tstoreReceiver.h, which pgrx does not have.
        fn SetTuplestoreDestReceiverParams(
            receiver: *mut pg_sys::DestReceiver,
            store: *mut pg_sys::Tuplestorestate,
            context: pg_sys::MemoryContext,
            detoast: bool,
            target: pg_sys::TupleDesc,
            mismatch: *const std::ffi::c_char,
        );
    }
    // SAFETY: fcinfo is the call at hand, of a STRICT function (text, integer, bigint) that returns a set of records. The receiver
    // raises an ERROR if the cursor's columns are not those that the caller expects.
    unsafe {
        let call = FcInfo::from_ptr(fcinfo);
        let [name, direction, count] = call.raw_args() else {
            return Err(error::internal("rbytea_fetch takes three arguments").into());
        };
        let direction = direction.value.value() as u32;
        if direction > pg_sys::FetchDirection::FETCH_RELATIVE {
            let message = format!("FETCH has no direction {}", direction as i32);
            return Err(error::report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).into());
        }
        let name = pg_sys::text_to_cstring(name.value.cast_mut_ptr());
        let portal = pg_sys::GetPortalByName(name);
        // The unnamed one is the protocol's.
        if *name == 0 || portal.is_null() {
            let message = format!("cursor \"{}\" does not exist", readable(CStr::from_ptr(name).to_bytes()));
            return Err(error::report(PgSqlErrorCode::ERRCODE_INVALID_CURSOR_NAME, message).into());
        }
        pg_sys::InitMaterializedSRF(fcinfo, pg_sys::MAT_SRF_USE_EXPECTED_DESC);
        let result = &*(*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
        let context = (*result.econtext).ecxt_per_query_memory;
        let mismatch = c"the cursor has other columns than it had when FETCH was prepared";
        SetTuplestoreDestReceiverParams(
            receiver,
            result.setResult,
            context,
            false,
            result.setDesc,
            mismatch.as_ptr(),
        );
        pg_sys::PortalRunFetch(portal, direction, count.value.value() as i64, receiver);
        if let Some(destroy) = (*receiver).rDestroy {
            pg_sys::ffi::pg_guard_ffi_boundary(|| destroy(receiver));
        }
    }
    Ok(RawResult(None))
}
