//! The SQL functions about one value. Only rbytea_store() writes.

use crate::pg::error::{self, Report};
use crate::session::{read, transaction};
use crate::value::datum::{ByteaResult, Peek, Rbytea, RbyteaResult};
use md5::Md5;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, Uuid, pg_extern, pg_sys};
use sha2::{Digest, Sha256};

/// The name of the payload's file; NULL while the payload is in the row.
#[pg_extern]
fn rbytea_uuid(value: Rbytea) -> Result<Option<Uuid>, ErrorReport> {
    Ok(match value.peek()? {
        Peek::Inline(_) => None,
        Peek::External(payload) => Some(Uuid::from_bytes(*payload.id.uuid.as_bytes())),
    })
}

/// Bytes of the payload.
#[pg_extern]
fn rbytea_len(value: Rbytea) -> Result<i64, ErrorReport> {
    Ok(read::len(&value)?.cast_signed())
}

/// Bytes of the stored file; NULL while the payload is in the row.
#[pg_extern]
fn rbytea_len_full(value: Rbytea) -> Result<Option<i64>, ErrorReport> {
    Ok(match value.peek()? {
        Peek::Inline(_) => None,
        Peek::External(payload) => Some(payload.len_full().cast_signed()),
    })
}

/// How the stored file is encrypted: 0 not at all, 1 with Kuznyechik.
#[pg_extern]
fn rbytea_qss_mode(value: Rbytea) -> Result<i64, ErrorReport> {
    Ok(match value.peek()? {
        Peek::External(payload) if payload.key_id.is_some() => 1,
        _ => 0,
    })
}

/// length and octet_length.
#[pg_extern]
fn rbytea_length(value: Rbytea) -> Result<i32, ErrorReport> {
    let len = read::len(&value)?;
    Ok(i32::try_from(len).map_err(|_| {
        error::report(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range")
            .set_detail(format!("The payload has {len} bytes."))
            .set_hint("Use len(), which returns a bigint.")
    })?)
}

#[pg_extern]
fn rbytea_substring(value: Rbytea, start: i32) -> Result<ByteaResult, ErrorReport> {
    Ok(read::substring(&value, start, None)?)
}

#[pg_extern]
fn rbytea_substring_length(value: Rbytea, start: i32, length: i32) -> Result<ByteaResult, ErrorReport> {
    Ok(read::substring(&value, start, Some(length))?)
}

/// md5sum and md5: MD5 of the payload as 32 hexadecimal digits.
#[pg_extern]
fn rbytea_md5sum(value: Rbytea) -> Result<String, ErrorReport> {
    Ok(hex(&payload_hash::<Md5>(&value)?))
}

/// sha256sum: SHA-256 of the payload as 64 hexadecimal digits.
#[pg_extern]
fn rbytea_sha256sum(value: Rbytea) -> Result<String, ErrorReport> {
    Ok(hex(&payload_hash::<Sha256>(&value)?))
}

/// MD5 of the stored file; NULL while the payload is in the row.
#[pg_extern]
fn rbytea_md5store(value: Rbytea) -> Result<Option<String>, ErrorReport> {
    Ok(stored_hash::<Md5>(&value)?)
}

/// SHA-256 of the stored file; NULL while the payload is in the row.
#[pg_extern]
fn rbytea_sha256store(value: Rbytea) -> Result<Option<String>, ErrorReport> {
    Ok(stored_hash::<Sha256>(&value)?)
}

/// Stores a payload at once and returns the reference: for ALTER TABLE … TYPE rbytea USING rbytea_store(…).
#[pg_extern]
fn rbytea_store(payload: &[u8]) -> Result<RbyteaResult, ErrorReport> {
    // SAFETY: both look at the transaction's and the server's state and raise an ERROR where writing is not allowed.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(c"rbytea_store()".as_ptr());
        pg_sys::PreventCommandDuringRecovery(c"rbytea_store()".as_ptr());
    }
    Ok(RbyteaResult::external(&transaction::store_bytes(payload)?))
}

fn payload_hash<D: Digest>(value: &Rbytea) -> Result<Vec<u8>, Report> {
    let mut hasher = D::new();
    read::for_each_chunk(value, |chunk| hasher.update(chunk))?;
    Ok(hasher.finalize().to_vec())
}

fn stored_hash<D: Digest>(value: &Rbytea) -> Result<Option<String>, Report> {
    let Peek::External(payload) = value.peek()? else { return Ok(None) };
    let mut hasher = D::new();
    read::for_each_stored_chunk(&payload, |chunk| hasher.update(chunk))?;
    Ok(Some(hex(&hasher.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
