//! A reference to a payload as text: what a dump by reference has in the place of the payload. Relies on the bytes of a value; promises that
//! [`parse`] accepts exactly what [`print`] writes, and that no output of bytea begins as it does.
//!
//! ```text
//! \rbytea1:<system identifier, decimal>:<OID of the database, decimal>:<the external value, 156 hexadecimal digits>
//! ```

use crate::payload::PayloadRef;
use crate::value::{self, EXTERNAL_LEN, Value, ValueError};

/// What every reference begins with, whatever its version. No text of a bytea does: a backslash there is followed by another one, by `x`
/// at the very beginning, or by digits.
pub const PREFIX: &str = "\\rbytea";
/// The version that [`print`] writes.
const VERSION: &str = "1";

/// A reference, and where its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// System identifier of the cluster.
    pub system_identifier: u64,
    /// OID of the database.
    pub database: u32,
    /// The payload.
    pub payload: PayloadRef,
}

/// Why a text with the prefix is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Of another version, or not of this form.
    #[error("not a reference of version 1")]
    Form,
    /// Its bytes are not a value.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// The reference as text.
pub fn print(reference: &Reference) -> String {
    let Reference { system_identifier, database, payload } = reference;
    let digits: String = value::encode_external(payload).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{VERSION}:{system_identifier}:{database}:{digits}")
}

/// What a text refers to; `None` if it does not have the prefix.
///
/// # Errors
/// Those of the text behind the prefix.
pub fn parse(text: &[u8]) -> Option<Result<Reference, ReferenceError>> {
    let rest = text.strip_prefix(PREFIX.as_bytes())?;
    Some(parse_rest(rest))
}

fn parse_rest(rest: &[u8]) -> Result<Reference, ReferenceError> {
    let text = std::str::from_utf8(rest).map_err(|_| ReferenceError::Form)?;
    let mut parts = text.split(':');
    let mut part = || parts.next().ok_or(ReferenceError::Form);
    if part()? != VERSION {
        return Err(ReferenceError::Form);
    }
    let (identifier, database, digits) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return Err(ReferenceError::Form);
    }
    let reference = Reference {
        system_identifier: number(identifier)?,
        database: u32::try_from(number(database)?).map_err(|_| ReferenceError::Form)?,
        payload: payload(digits)?,
    };
    Ok(reference)
}

/// A decimal number as it is printed: without a sign or leading zeros.
fn number(text: &str) -> Result<u64, ReferenceError> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text).ok_or(ReferenceError::Form)
}

fn payload(digits: &str) -> Result<PayloadRef, ReferenceError> {
    let mut bytes = [0; EXTERNAL_LEN];
    if digits.len() != 2 * EXTERNAL_LEN
        || digits.bytes().any(|digit| !matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(ReferenceError::Form);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| ReferenceError::Form)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| ReferenceError::Form)?;
    }
    match value::decode(&bytes)? {
        Value::External(payload) => Ok(payload),
        Value::Inline(_) => Err(ReferenceError::Form),
    }
}
