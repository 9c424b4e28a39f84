//! References that are remembered without a snapshot and stored where no trigger checks them: which statements a purge has
//! to wait for.

use crate::model::{NOTHING_LOST, PURGED, TRASHED, breaks, holds};
use crate::state::B;
use crate::world::{Keep, Rules, Start, Statements, World};

/// A run has trashed F while a procedure, between two of its transactions, remembered it. Another run comes.
const TRASHED_BEFORE: World =
    World { runs: 1, start: Start::Trashed, sessions: 1, tables: B, ..World::STATEMENTS };

const RULES: Rules = World::STATEMENTS.rules;

#[test]
fn a_purge_that_waits_for_the_statements_older_than_its_mark_loses_nothing() {
    let world = World { sessions: 2, tuples: 1, ..TRASHED_BEFORE };
    holds("statements of the mark", world, &[TRASHED, PURGED]);
}

/// The rule suffices without the purge's other rules, even without TRASH.
#[test]
fn waiting_for_the_statements_older_than_the_mark_is_enough() {
    let rules = Rules { purges_later: false, purges_below_horizon: false, ..RULES };
    let world = World { runs: 2, start: Start::Remembered, ..TRASHED_BEFORE };
    holds("statements of the mark alone", world.with(rules), &[TRASHED, PURGED]);
}

#[test]
fn a_procedure_that_commits_can_store_what_has_been_purged() {
    let rules = Rules { statements: Statements::Ignored, ..RULES };
    breaks("statements not asked", TRASHED_BEFORE.with(rules), NOTHING_LOST);
}

/// It stores F in a row, a younger statement reads the row and deletes it, and remembers F in its turn.
#[test]
fn waiting_for_the_statements_older_than_the_trashing_is_not_enough() {
    let rules = Rules { statements: Statements::OfTheTrashing, ..RULES };
    breaks("statements of the trashing", TRASHED_BEFORE.with(rules), NOTHING_LOST);
}

/// One that ends between the scan and the question has stored what the scan did not find.
#[test]
fn the_statements_must_have_ended_before_the_scan() {
    for statements in [Statements::OfTheTrashing, Statements::OfTheMark] {
        let rules = Rules { statements, statements_first: false, ..RULES };
        breaks(&format!("{statements:?} asked after the scan"), TRASHED_BEFORE.with(rules), NOTHING_LOST);
    }
}

#[test]
fn no_statement_tells_of_a_cursor_with_hold() {
    breaks("WITH HOLD", World { keep: Keep::Session, ..TRASHED_BEFORE }, NOTHING_LOST);
}
