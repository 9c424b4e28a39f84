//! The mark: what leaves LIVE.

use crate::model::{LIVE, TRASHED, VOID, breaks, holds};
use crate::state::{B, C};
use crate::world::{Counted, RULES, Rules, Valid, World};

const MARK: World = World::MARK;

#[test]
fn only_garbage_leaves_live() {
    holds("mark", MARK, &[TRASHED, VOID]);
}

#[test]
fn scans_with_a_snapshot_miss_what_an_older_one_still_sees() {
    breaks("MVCC scans", MARK.with(Rules { counted: Counted::Visible, ..RULES }), LIVE);
}

#[test]
fn a_reference_can_be_copied_behind_the_scan_and_its_source_pruned_before_it() {
    breaks("no comparison of horizons", MARK.with(Rules { valid: Valid::Always, ..RULES }), LIVE);
}

#[test]
fn without_the_run_s_snapshot_other_databases_make_the_horizon_go_back() {
    let world = World { foreign: true, ..MARK };
    holds("transaction of another database", world, &[TRASHED]);
    breaks("snapshot not held", world.with(Rules { holds_snapshot: false, ..RULES }), LIVE);
}

#[test]
fn a_table_may_be_created_between_the_search_and_the_horizon() {
    let world = World { tables: B | C, ..MARK };
    breaks("horizon after the search", world.with(Rules { horizon_first: false, ..RULES }), LIVE);
}

#[test]
fn a_table_may_be_truncated_before_its_lock_is_taken() {
    let world = World { truncate: true, ..MARK };
    breaks("locks one by one", world.with(Rules { locks_first: false, ..RULES }), LIVE);
}

#[test]
fn a_file_is_written_before_its_row() {
    let world = World { write: true, ..MARK };
    breaks("young births judged", world.with(Rules { spares_young: false, ..RULES }), LIVE);
}

#[test]
fn a_standby_that_comes_and_goes_hides_that_the_horizon_moved() {
    let world = World { external: true, ..MARK };
    breaks("horizon held from outside", world, LIVE);
}

#[test]
fn the_oldest_snapshot_of_this_database_cannot_be_hidden() {
    let world = World { external: true, tables: B, ..MARK };
    let local = Rules { valid: Valid::LocalStands, ..RULES };
    holds("local xmin stands", world.with(local), &[TRASHED]);
}
