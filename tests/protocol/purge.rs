//! The purge: what is unlinked for good. Sessions remember references without a snapshot; every store is checked by the
//! trigger.

use crate::model::{NOTHING_LOST, PURGED, REFERRED, TRASHED, breaks, holds};
use crate::world::{PurgeMark, RULES, Rules, Stamp, World};

/// One session is enough to lose a file.
const PURGE: World = World { sessions: 1, ..World::PURGE };

#[test]
fn what_is_stored_through_the_trigger_is_never_purged() {
    let world = World { sessions: 2, tuples: 1, lineage: false, ..PURGE };
    holds("purge", world, &[TRASHED, PURGED, REFERRED]);
}

#[test]
fn what_a_run_has_trashed_is_not_for_the_same_run_to_purge() {
    let rules = Rules { purges_later: false, purges_below_horizon: false, ..RULES };
    breaks("purge in the same run", PURGE.with(rules), NOTHING_LOST);
}

#[test]
fn a_transaction_older_than_the_trashing_may_have_passed_the_check() {
    breaks("no X < H0", PURGE.with(Rules { purges_below_horizon: false, ..RULES }), NOTHING_LOST);
}

#[test]
fn a_purge_needs_a_mark() {
    breaks("purge without a mark", PURGE.with(Rules { purge_mark: PurgeMark::None, ..RULES }), NOTHING_LOST);
}

#[test]
fn a_purge_needs_a_full_mark() {
    let world = World { ordinary: true, ..PURGE };
    let rules = Rules { purge_mark: PurgeMark::Any, ..RULES };
    holds("ordinary rounds", world, &[TRASHED, PURGED]);
    breaks("purge after an ordinary round's mark", world.with(rules), NOTHING_LOST);
}

#[test]
fn a_file_may_be_brought_back_and_trashed_again_while_a_run_has_it_on_its_list() {
    breaks(
        "list made before the sweep",
        PURGE.with(Rules { purge_looks_again: false, ..RULES }),
        NOTHING_LOST,
    );
}

#[test]
fn the_moment_of_trashing_is_not_the_snapshot_of_its_run() {
    breaks("X is the upper bound", PURGE.with(Rules { stamp: Stamp::Upper, ..RULES }), NOTHING_LOST);
}

/// What matters is that it is running during the moves, or not assigned yet.
#[test]
fn the_run_s_own_transaction_id_may_be_assigned_at_any_time() {
    holds("X before the moves", PURGE.with(Rules { stamp: Stamp::Before, ..RULES }), &[TRASHED, PURGED]);
}

#[test]
fn runs_that_fail_after_their_moves_lose_nothing() {
    holds("failing runs", World { failures: true, runs: 3, ..PURGE }, &[TRASHED, PURGED, REFERRED]);
}
