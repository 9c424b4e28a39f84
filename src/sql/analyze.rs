//! ANALYZE: the fraction of NULLs and the width, without a payload.

use crate::pg::compat;
use crate::pg::rows::RawResult;
use pgrx::{check_for_interrupts, pg_extern, pg_guard, pg_sys};

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
