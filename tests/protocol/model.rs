//! The model as the checker takes it, the promises, and how a check is run.

use crate::action::Action;
use crate::state::{A, B, File, Phase, State, Tuple};
use crate::world::{Start, World};
use crate::{sessions, vacuum};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Instant;

/// No tuple that a snapshot sees, or that may still be committed, refers to a file that is gone.
pub const NOTHING_LOST: &str = "no tuple refers to a purged file";
/// Copied from tuple to tuple, a reference always points into LIVE.
pub const LIVE: &str = "what was copied under snapshots is in LIVE";
/// What a snapshot has read stays readable while it is held.
pub const READABLE: &str = "a reader's file is there";

/// Things that must be possible, or a check would show nothing.
pub const TRASHED: &str = "a file is trashed";
pub const PURGED: &str = "a file is purged";
pub const VOID: &str = "a mark is void";
pub const REFERRED: &str = "a tuple refers to a file in TRASH";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let tables = [A, B].into_iter().filter(|table| self.tables & table != 0);
        match self.start {
            Start::Stored => tables.map(|table| State::stored(self, table)).collect(),
            Start::Remembered => vec![State::remembered(self, false)],
            Start::Trashed => vec![State::remembered(self, true)],
        }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if can_be_referred_to(self, state) {
            sessions::actions(self, state, actions);
        }
        vacuum::actions(self, state, actions);
        if !self.prunes_at_once {
            let horizon = state.horizon(self);
            let dead = state.tuples().filter(|tuple| state.is_dead(tuple, horizon));
            actions.extend(dead.map(|tuple| Action::Prune(*tuple)));
        }
        // Before the run it makes no difference.
        if self.external && state.run.phase != Phase::Idle {
            actions.push(Action::External(!state.external));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Session(index, step) => sessions::step(self, &mut next, index.into(), step),
            Action::Vacuum(step) => vacuum::step(self, &mut next, step),
            Action::Prune(tuple) => next.remove_tuples(|other| *other == tuple),
            Action::External(holds) => next.external = holds,
        }
        next.normalise(self);
        Some(next)
    }

    /// After the last run only what is purged can still do harm.
    fn within_boundary(&self, state: &State) -> bool {
        state.runs < self.runs || state.run.phase != Phase::Idle || state.files.contains(&File::Purged)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_LOST, |world: &World, state: &State| {
                let mut tuples = undead(world, state);
                tuples.all(|tuple| state.files[tuple.payload as usize] != File::Purged)
            }),
            Property::always(LIVE, |world: &World, state: &State| {
                let is_live = |payload: u8| state.files[payload as usize] == File::Live;
                let mut memories = state.sessions.iter().filter_map(|session| session.memory);
                undead(world, state).all(|tuple| !tuple.clean || is_live(tuple.payload))
                    && memories.all(|memory| !memory.clean || is_live(memory.payload))
            }),
            Property::always(READABLE, |_, state: &State| {
                let mut memories = state.sessions.iter().filter_map(|session| session.memory);
                memories.all(|memory| !memory.held || state.files[memory.payload as usize] != File::Purged)
            }),
            Property::sometimes(TRASHED, |_, state: &State| {
                state.files.iter().any(|file| matches!(file, File::Trash(_)))
            }),
            Property::sometimes(PURGED, |_, state: &State| state.files.contains(&File::Purged)),
            Property::sometimes(VOID, |world: &World, state: &State| {
                matches!(state.run.phase, Phase::ScannedA | Phase::ScannedB)
                    && state.run.horizon != Some(state.horizon(world))
            }),
            Property::sometimes(REFERRED, |_, state: &State| {
                state.tuples().any(|tuple| matches!(state.files[tuple.payload as usize], File::Trash(_)))
            }),
        ]
    }
}

/// A payload that no tuple refers to and no session remembers stays unreachable for ever; what sessions do then is nothing
/// to it.
fn can_be_referred_to(world: &World, state: &State) -> bool {
    world.write && state.files[1] == File::Absent
        || state.tuples().next().is_some()
        || state.sessions.iter().any(|session| session.memory.is_some())
}

/// The tuples that a snapshot sees or that may still be committed.
fn undead<'a>(world: &World, state: &'a State) -> impl Iterator<Item = &'a Tuple> {
    let horizon = state.local_horizon(world);
    state.tuples().filter(move |tuple| !state.is_dead(tuple, horizon))
}

/// The promises are kept in every state that the world can come to, and `possible` things do happen.
#[track_caller]
pub fn holds(name: &str, world: World, possible: &[&'static str]) {
    let start = Instant::now();
    let checker =
        world.checker().threads(threads()).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{name}: {} states, {:.1?}", checker.unique_state_count(), start.elapsed());
    for promise in [NOTHING_LOST, LIVE, READABLE] {
        if let Some(path) = checker.discovery(promise) {
            panic!("{name}: \"{promise}\" is broken by\n{}", shown(path.into_actions()));
        }
    }
    for thing in possible {
        assert!(checker.discovery(thing).is_some(), "{name}: it never comes to pass that {thing}");
    }
}

/// The promise is broken; prints the shortest way.
#[track_caller]
pub fn breaks(name: &str, world: World, promise: &'static str) {
    let start = Instant::now();
    let wanted = HasDiscoveries::AllOf([promise].into());
    let world = World { symmetric: false, ..world };
    let checker = world.checker().finish_when(wanted).spawn_bfs().join();
    let Some(path) = checker.discovery(promise) else {
        panic!("{name}: nothing breaks \"{promise}\" in {} states", checker.unique_state_count());
    };
    let count = checker.unique_state_count();
    println!("{name}: \"{promise}\" is broken, {count} states, {:.1?}", start.elapsed());
    println!("{}", shown(path.into_actions()));
}

fn shown(actions: Vec<Action>) -> String {
    actions.iter().map(|action| format!("    {action:?}\n")).collect()
}

/// Checkers of one test; the tests run beside each other already.
fn threads() -> usize {
    std::env::var("RBYTEA_PROTOCOL_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1)
}
