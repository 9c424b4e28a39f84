//! Comparison with rbytea and with bytea, and hashes: `=` and `<>` by length and digest, without reading a stored payload; the
//! order is bytea's, for which pieces of both payloads are read from the front.

use crate::ddl::refusals;
use crate::pg::error::Report;
use crate::session::read::{self, Source};
use crate::value::datum::{Bytea, Operand, Peek, Rbytea};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use rbytea_store::value;
use std::cmp::Ordering;

macro_rules! operators {
    ($left:ty, $right:ty: $eq:ident, $ne:ident, $lt:ident, $le:ident, $ge:ident, $gt:ident, $cmp:ident) => {
        #[pg_extern]
        fn $eq(left: $left, right: $right) -> Result<bool, ErrorReport> {
            Ok(equal(&left, &right)?)
        }

        #[pg_extern]
        fn $ne(left: $left, right: $right) -> Result<bool, ErrorReport> {
            Ok(!equal(&left, &right)?)
        }

        #[pg_extern]
        fn $lt(left: $left, right: $right) -> Result<bool, ErrorReport> {
            Ok(compare(&left, &right)?.is_lt())
        }

        #[pg_extern]
        fn $le(left: $left, right: $right) -> Result<bool, ErrorReport> {
            Ok(compare(&left, &right)?.is_le())
        }

        #[pg_extern]
        fn $ge(left: $left, right: $right) -> Result<bool, ErrorReport> {
            Ok(compare(&left, &right)?.is_ge())
        }

        #[pg_extern]
        fn $gt(left: $left, right: $right) -> Result<bool, ErrorReport> {
            Ok(compare(&left, &right)?.is_gt())
        }

        #[pg_extern]
        fn $cmp(left: $left, right: $right) -> Result<i32, ErrorReport> {
            Ok(compare(&left, &right)? as i32)
        }
    };
}

operators!(Rbytea, Rbytea: rbytea_eq, rbytea_ne, rbytea_lt, rbytea_le, rbytea_ge, rbytea_gt, rbytea_cmp);
operators!(Rbytea, Bytea: rbytea_eq_bytea, rbytea_ne_bytea, rbytea_lt_bytea, rbytea_le_bytea, rbytea_ge_bytea,
    rbytea_gt_bytea, rbytea_cmp_bytea);
operators!(Bytea, Rbytea: bytea_eq_rbytea, bytea_ne_rbytea, bytea_lt_rbytea, bytea_le_rbytea, bytea_ge_rbytea,
    bytea_gt_rbytea, bytea_cmp_rbytea);

#[pg_extern]
fn rbytea_hash(value: Rbytea) -> Result<i32, ErrorReport> {
    Ok(value::hash(&digest(&value)?))
}

#[pg_extern]
fn rbytea_hash_extended(value: Rbytea, seed: i64) -> Result<i64, ErrorReport> {
    Ok(value::hash_extended(&digest(&value)?, seed.cast_unsigned()).cast_signed())
}

#[pg_extern]
fn rbytea_hash_bytea(value: Bytea) -> Result<i32, ErrorReport> {
    Ok(value::hash(&digest(&value)?))
}

#[pg_extern]
fn rbytea_hash_bytea_extended(value: Bytea, seed: i64) -> Result<i64, ErrorReport> {
    Ok(value::hash_extended(&digest(&value)?, seed.cast_unsigned()).cast_signed())
}

/// Options of an index column, PostgreSQL's hook into the making of a btree index: there is to be none. The entries of deleted
/// rows would be compared after their files are gone.
#[pg_extern]
fn rbytea_btree_options(_options: pgrx::Internal) -> Result<(), ErrorReport> {
    Err(refusals::index().into())
}

/// Whether the payloads are the same, by length and digest.
fn equal(left: &impl Operand, right: &impl Operand) -> Result<bool, Report> {
    match (left.peek()?, right.peek()?) {
        (Peek::Inline(a), Peek::Inline(b)) => {
            Ok(a == b && left.with_payload(|left| right.with_payload(|right| left == right))??)
        }
        (Peek::External(a), Peek::External(b)) => Ok(a.len == b.len && a.digest == b.digest),
        (Peek::Inline(len), Peek::External(stored)) => {
            Ok(len == stored.len && digest(left)? == stored.digest)
        }
        (Peek::External(stored), Peek::Inline(len)) => {
            Ok(len == stored.len && digest(right)? == stored.digest)
        }
    }
}

/// bytea's order: byte by byte, and what ends first comes first.
fn compare(left: &impl Operand, right: &impl Operand) -> Result<Ordering, Report> {
    let (a, b) = (left.peek()?, right.peek()?);
    if !matches!((a, b), (Peek::Inline(_), Peek::Inline(_))) && equal(left, right)? {
        return Ok(Ordering::Equal);
    }
    with_source(left, a, |left| with_source(right, b, |right| read::compare(left, right)))
}

/// Gives `work` what the payload is read from.
fn with_source<T>(
    operand: &impl Operand,
    peek: Peek,
    work: impl FnOnce(Source<'_>) -> Result<T, Report>,
) -> Result<T, Report> {
    match peek {
        Peek::Inline(_) => operand.with_payload(|payload| work(Source::Bytes(payload)))?,
        Peek::External(payload) => work(Source::Stored(payload)),
    }
}

fn digest(value: &impl Operand) -> Result<[u8; 32], Report> {
    match value.peek()? {
        Peek::External(payload) => Ok(payload.digest),
        Peek::Inline(_) => value.with_payload(value::digest),
    }
}
