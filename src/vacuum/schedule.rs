//! When the background vacuum has something to do: a pure function of the history's state and of the clock, horizon
//! and statistics of now.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Microseconds since 1970.
pub type Stamp = i64;

/// Whole sweeps take at most one part in this many of the time: on a big store that changes all the time they would
/// follow each other without a pause.
pub const REST: u32 = 10;

/// What the history says of this database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Everything born below has been swept once since its transaction ended.
    pub frontier: u64,
    /// The transaction that wrote the last row.
    pub transaction: u64,
    /// The last date that a file in TRASH was given.
    pub moved_at: Option<Stamp>,
    /// The last whole sweep.
    pub whole: Option<Whole>,
    /// Since then: the first date that a file in TRASH was given.
    pub trashed_since: Option<Stamp>,
    /// Files in TRASH and their bytes, if nothing but runs of the vacuum has moved any.
    pub trash: Option<(u64, u64)>,
}

impl State {
    /// The date of the oldest file in TRASH.
    pub fn oldest_trash(&self) -> Option<Stamp> {
        let left = self.whole.as_ref().and_then(|whole| whole.oldest_trash);
        [left, self.trashed_since].into_iter().flatten().min()
    }
}

/// What the history says of a whole sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whole {
    /// When it began.
    pub started: Stamp,
    /// When it ended.
    pub finished: Stamp,
    /// The removal horizon during its mark.
    pub horizon: u64,
    /// References in recently dead tuples, which only old snapshots could see.
    pub recently_dead: u64,
    /// Fingerprint of the relations in which rows could have died.
    pub activity: i64,
    /// The date of the oldest file that it left in TRASH.
    pub oldest_trash: Option<Stamp>,
}

/// The present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    /// The clock.
    pub time: Stamp,
    /// Every transaction below has ended.
    pub upper: u64,
    /// The removal horizon.
    pub horizon: u64,
    /// The same fingerprint as it is now.
    pub activity: i64,
    /// Files with this date in TRASH, and older ones, may be deleted.
    pub purge_before: Option<Stamp>,
    /// `rbytea.vacuum_full_interval`.
    pub full_interval: Duration,
}

/// How much of the store is to be swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What was born since the last sweep.
    Round,
    /// Everything.
    Whole,
}

/// What a visit of the background vacuum has to do; None if nothing can have changed.
pub fn due(state: &State, now: &Now) -> Option<Scope> {
    if whole_is_due(state, now) {
        return Some(Scope::Whole);
    }
    // The last run's own row takes a transaction. If no other transaction has ended since, there is nothing new.
    let only_the_row = state.transaction == state.frontier && now.upper == state.frontier + 1;
    (now.upper > state.frontier && !only_the_row).then_some(Scope::Round)
}

fn whole_is_due(state: &State, now: &Now) -> bool {
    let Some(whole) = &state.whole else { return true };
    // A clock that was put back must not stop the vacuum.
    let since =
        |then: Stamp| now.time.checked_sub(then).filter(|&passed| passed >= 0).map_or(Duration::MAX, micros);
    if since(whole.started) >= now.full_interval {
        return true;
    }
    let lasted = micros(whole.finished.saturating_sub(whole.started).max(0));
    if since(whole.finished) < lasted.saturating_mul(REST - 1) {
        return false;
    }
    let died = now.activity != whole.activity;
    let horizon_rose = whole.recently_dead > 0 && now.horizon > whole.horizon;
    let purge = state.oldest_trash().zip(now.purge_before).is_some_and(|(oldest, before)| oldest <= before);
    died || horizon_rose || purge
}

fn micros(micros: Stamp) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}
