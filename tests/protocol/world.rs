//! What a model allows, and the rules of the vacuum that it keeps or leaves out.

use crate::state::{A, B};

/// How long a session remembers a reference that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As long as it holds a snapshot without a gap: every function, every query.
    Snapshot,
    /// To the end of the top-level statement: a procedure or DO block that commits.
    Statement,
    /// Over statements too: a WITH HOLD cursor.
    Session,
}

/// What the scans count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Non-removable tuples.
    NotDead,
    /// Tuples that the run's snapshot sees.
    Visible,
}

/// When a mark is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// Always.
    Always,
    /// If the removal horizon is the same before and after.
    HorizonStands,
    /// If the oldest xmin of this database's own transactions is the same before and after; slots and standbys do not
    /// count.
    LocalStands,
    /// If the horizon at the start is the xmin of the run's own snapshot, which stands while the run holds it.
    HorizonIsOwn,
}

/// The transaction id that stands for the moment of trashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// The run's own, assigned after its moves.
    After,
    /// The run's own, assigned when it starts.
    Before,
    /// The run's upper bound, the xmin of its snapshot.
    Upper,
}

/// Which marks a purge may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeMark {
    /// Full ones.
    Full,
    /// Those of ordinary rounds too, which know a range of births only.
    Any,
    /// None is asked.
    None,
}

/// Which statements of other sessions must have ended before a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// None.
    Ignored,
    /// Those that began before the file was trashed.
    OfTheTrashing,
    /// Those that began before the run took its horizon.
    OfTheMark,
}

/// How everything begins. There is one file F, older than all transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A tuple in one of the tables that exist refers to it.
    Stored,
    /// No tuple does any more, but a session remembers it without a snapshot. (`Stored` leads here.)
    Remembered,
    /// And a run of the vacuum has moved it to TRASH meanwhile.
    Trashed,
}

/// The rules of the vacuum.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub counted: Counted,
    pub valid: Valid,
    /// The run holds its snapshot until its end.
    pub holds_snapshot: bool,
    /// The horizon is taken before the search for relations.
    pub horizon_first: bool,
    /// Every relation is locked before the first is scanned.
    pub locks_first: bool,
    /// Births at or above the run's upper bound are left alone.
    pub spares_young: bool,
    pub stamp: Stamp,
    /// Only what an earlier run trashed is purged.
    pub purges_later: bool,
    /// Only what was trashed before the oldest running transaction and snapshot is purged.
    pub purges_below_horizon: bool,
    pub purge_mark: PurgeMark,
    /// What is purged is looked up when it is purged, not before the sweep.
    pub purge_looks_again: bool,
    pub statements: Statements,
    /// They must have ended before the first scan, not only before the purge.
    pub statements_first: bool,
}

/// All rules that hold without asking for statements.
pub const RULES: Rules = Rules {
    counted: Counted::NotDead,
    valid: Valid::HorizonStands,
    holds_snapshot: true,
    horizon_first: true,
    locks_first: true,
    spares_young: true,
    stamp: Stamp::After,
    purges_later: true,
    purges_below_horizon: true,
    purge_mark: PurgeMark::Full,
    purge_looks_again: true,
    statements: Statements::Ignored,
    statements_first: true,
};

/// What sessions and surroundings may do, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub rules: Rules,
    /// One or two: a third would only do what one of them could have done.
    pub sessions: usize,
    /// Tuples that exist at one time.
    pub tuples: usize,
    /// Runs of the vacuum.
    pub runs: u8,
    pub keep: Keep,
    /// Tables that references are copied into; C must be created first.
    pub tables: u8,
    /// Tables whose trigger checks a copied reference.
    pub checked: u8,
    /// Statements in transaction blocks, which cannot commit within.
    pub blocks: bool,
    /// Sessions take a snapshot while they hold an older one.
    pub nested: bool,
    /// TRUNCATE, or another way to lose tuples under an ACCESS EXCLUSIVE lock.
    pub truncate: bool,
    /// A payload is written meanwhile.
    pub write: bool,
    /// A replication slot, a standby's feedback or a deferred cleanup holds the horizon back at times.
    pub external: bool,
    /// A transaction of another database runs all the time.
    pub foreign: bool,
    /// There are ordinary rounds, which judge new births only.
    pub ordinary: bool,
    /// Runs may fail after their moves and leave no row of history.
    pub failures: bool,
    pub start: Start,
    /// Which references were copied under snapshots only is kept in mind, for the promise about LIVE.
    pub lineage: bool,
    /// Dead tuples are removed at once. Otherwise at some time, or never.
    pub prunes_at_once: bool,
    /// States that differ only in which session is which are one. Traces are easier to read without.
    pub symmetric: bool,
}

impl World {
    /// One run and sessions that keep references under snapshots only.
    pub const MARK: World = World {
        rules: RULES,
        sessions: 2,
        tuples: 2,
        runs: 1,
        keep: Keep::Snapshot,
        tables: A | B,
        checked: 0,
        blocks: false,
        nested: false,
        truncate: false,
        write: false,
        external: false,
        foreign: false,
        ordinary: false,
        failures: false,
        start: Start::Stored,
        lineage: true,
        prunes_at_once: true,
        symmetric: true,
    };

    /// Two runs, sessions that keep references without a snapshot, and table A alone, whose trigger checks them.
    pub const PURGE: World = World {
        runs: 2,
        keep: Keep::Session,
        tables: A,
        checked: A,
        start: Start::Remembered,
        ..World::MARK
    };

    /// Two runs, sessions that keep references to the end of their top-level statements, and table B as well, which
    /// checks nothing.
    pub const STATEMENTS: World = World {
        rules: Rules { statements: Statements::OfTheMark, ..RULES },
        tables: A | B,
        checked: 0,
        keep: Keep::Statement,
        lineage: false,
        ..World::PURGE
    };

    /// The same world with other rules.
    pub const fn with(self, rules: Rules) -> World {
        World { rules, ..self }
    }
}
