//! `=`, `<>`, the hash operator class and ANALYZE. Stored payloads are compared by length and digest, without I/O.

use crate::pg::compat;
use crate::pg::error::Report;
use crate::pg::rows::RawResult;
use crate::value::datum::{Peek, Rbytea};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{check_for_interrupts, pg_extern, pg_guard, pg_sys};
use rbytea_store::value;

#[pg_extern]
fn rbytea_eq(left: Rbytea, right: Rbytea) -> Result<bool, ErrorReport> {
    Ok(equal(&left, &right)?)
}

#[pg_extern]
fn rbytea_ne(left: Rbytea, right: Rbytea) -> Result<bool, ErrorReport> {
    Ok(!equal(&left, &right)?)
}

#[pg_extern]
fn rbytea_hash(value: Rbytea) -> Result<i32, ErrorReport> {
    Ok(value::hash(&digest(&value)?))
}

#[pg_extern]
fn rbytea_hash_extended(value: Rbytea, seed: i64) -> Result<i64, ErrorReport> {
    Ok(value::hash_extended(&digest(&value)?, seed.cast_unsigned()).cast_signed())
}

fn equal(left: &Rbytea, right: &Rbytea) -> Result<bool, Report> {
    match (left.peek()?, right.peek()?) {
        (Peek::Inline(a), Peek::Inline(b)) => {
            Ok(a == b && left.detoast().payload()? == right.detoast().payload()?)
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

fn digest(value: &Rbytea) -> Result<[u8; 32], Report> {
    match value.peek()? {
        Peek::External(payload) => Ok(payload.digest),
        Peek::Inline(_) => Ok(value::digest(value.detoast().payload()?)),
    }
}

/// ANALYZE of a column: the fraction of NULLs and the width of a value in the row, and nothing that shows, or refers
/// to, a payload. (The standard function would keep common values in pg_statistic, where pg_stats reads them long
/// after their files are gone.)
#[pg_extern]
fn rbytea_typanalyze(fcinfo: pg_sys::FunctionCallInfo) -> RawResult {
    // SAFETY: ANALYZE calls a typanalyze function with one argument, a VacAttrStats that it owns.
    unsafe {
        let argument = (*fcinfo).args.as_slice(1)[0];
        let stats: *mut pg_sys::VacAttrStats = argument.value.cast_mut_ptr();
        let target = compat::statistics_target(stats);
        (*stats).compute_stats = Some(compute_stats);
        // As std_typanalyze; a fraction needs far fewer rows, but the other columns decide the sample anyway.
        (*stats).minrows = 300 * target;
    }
    RawResult(Some(pg_sys::Datum::from(true)))
}

#[pg_guard]
unsafe extern "C-unwind" fn compute_stats(
    stats: pg_sys::VacAttrStatsP,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
    sample_rows: i32,
    _total_rows: f64,
) {
    let Some(fetch) = fetch else { return };
    let (mut nulls, mut width) = (0u64, 0u64);
    for row in 0..sample_rows {
        let mut is_null = false;
        check_for_interrupts!();
        // SAFETY: ANALYZE passes its own fetch function, valid for rows below sample_rows; a value that is not null
        // is a varlena, and VARSIZE_ANY of a toasted one is what the row holds.
        unsafe {
            let datum = fetch(stats, row, &mut is_null);
            if is_null {
                nulls += 1;
            } else {
                width += pgrx::varsize_any(datum.cast_mut_ptr()) as u64;
            }
        }
    }
    if sample_rows > 0 {
        let rows = sample_rows as u64;
        // SAFETY: stats is ANALYZE's structure for this column.
        unsafe {
            (*stats).stats_valid = true;
            (*stats).stanullfrac = nulls as f32 / rows as f32;
            (*stats).stawidth = if nulls < rows { (width / (rows - nulls)) as i32 } else { 0 };
            (*stats).stadistinct = 0.0;
        }
    }
}
