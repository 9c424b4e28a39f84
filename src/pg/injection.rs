//! Injection points: places at which a run of the vacuum waits while another session holds the point's advisory lock,
//! so that tests can put other sessions' work exactly there. Where `rbytea.injection_points` is off, a point costs one
//! branch.

use crate::pg::settings;
use pgrx::pg_sys;

/// Where a run can be made to wait. The number is the second key of the advisory lock.
#[derive(Clone, Copy)]
pub enum Point {
    /// Between the locking of the relations and the mark.
    BeforeMark = 1,
    /// Between the first relation of the mark, catalogs aside, and the others.
    BetweenRelations = 2,
    /// Between the mark and the second look at the horizon.
    BeforeSecondHorizon = 3,
    /// Between the sweep's plan and its renames.
    BeforeMoves = 4,
    /// Between the choice of the files to delete and their deletion.
    BeforePurge = 5,
}

/// The first key of the advisory locks.
const CLASS: i32 = 0x7262;

/// Waits here while another session holds `pg_advisory_lock(29282, <point>)`.
#[inline]
pub fn at(point: Point) {
    if settings::injection_points() {
        wait(point);
    }
}

#[cold]
fn wait(point: Point) {
    let keys = [Some(pg_sys::Datum::from(CLASS)), Some(pg_sys::Datum::from(point as i32))];
    // SAFETY: both functions take two integers, and return nothing and a boolean.
    unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::pg_advisory_lock_shared_int4, &keys);
        pgrx::direct_function_call_as_datum(pg_sys::pg_advisory_unlock_shared_int4, &keys);
    }
}
