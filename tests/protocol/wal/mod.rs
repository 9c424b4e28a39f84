//! Payloads in the WAL (docs/PROTOCOL.md): writers that do not sync what they have logged, keepers that checkpoints wait for,
//! the checkpointer, and what a crash leaves on the server and on a standby.

mod state;
mod steps;

use state::{Checkpoint, State};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// The rules; without any one of them some promise is broken.
#[derive(Clone, Copy)]
pub struct Rules {
    /// There are two keepers, and never both let go.
    two: bool,
    /// A keeper reads the redo pointer before its syncfs begins.
    reads_first: bool,
    /// It looks again before it lets go.
    looks_again: bool,
    /// It lets go again and again behind the same redo pointer: a checkpoint may collect it late.
    lets_go_again: bool,
    /// It knows to be durable what was counted before its syncfs began.
    counts_before_syncing: bool,
    /// A keeper that ends says so first.
    says_so_first: bool,
    /// It syncs before it lets go.
    syncs_at_the_end: bool,
    /// A transaction counts its payload before it logs it.
    counts_before_logging: bool,
    /// A standby syncs before it replays a checkpoint.
    standby_syncs: bool,
}

const RULES: Rules = Rules {
    two: true,
    reads_first: true,
    looks_again: true,
    lets_go_again: true,
    counts_before_syncing: true,
    says_so_first: true,
    syncs_at_the_end: true,
    counts_before_logging: true,
    standby_syncs: true,
};

/// A world of these rules.
#[derive(Clone, Copy)]
struct World {
    rules: Rules,
    /// Payloads, checkpoints at most, and ends of keepers.
    writers: usize,
    checkpoints: u8,
    ends: u8,
}

const WORLD: World = World { rules: RULES, writers: 1, checkpoints: 3, ends: 0 };

const SERVER: &str = "a crash loses no committed payload";
const STANDBY: &str = "a crash of the standby loses none either";
const RELIED: &str = "a payload is committed that is in the WAL alone";
const COMPLETED: &str = "every checkpoint completes";

impl Model for World {
    type State = State;
    type Action = steps::Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<steps::Action>) {
        steps::possible(self, state, actions);
    }

    fn next_state(&self, state: &State, action: steps::Action) -> Option<State> {
        let mut next = state.clone();
        steps::take(self, &mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SERVER, |_, state: &State| state.survives_a_crash()),
            Property::always(STANDBY, |world: &World, state: &State| {
                state.standby_survives_a_crash(world.rules.standby_syncs)
            }),
            Property::sometimes(RELIED, |_, state: &State| state.relies_on_the_wal()),
            Property::eventually(COMPLETED, |world: &World, state: &State| {
                state.checkpoints == world.checkpoints && state.checkpoint == Checkpoint::None
            }),
        ]
    }
}

#[track_caller]
fn holds(name: &str, world: World) {
    let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{name}: {} states", checker.unique_state_count());
    for promise in [SERVER, STANDBY, COMPLETED] {
        if let Some(path) = checker.discovery(promise) {
            panic!("{name}: \"{promise}\" is broken by\n{}", shown(path.into_actions()));
        }
    }
    assert!(checker.discovery(RELIED).is_some(), "{name}: it never comes to pass that {RELIED}");
}

#[track_caller]
fn breaks(name: &str, world: World, promise: &'static str) {
    let wanted = HasDiscoveries::AllOf([promise].into());
    let checker = world.checker().finish_when(wanted).spawn_bfs().join();
    let Some(path) = checker.discovery(promise) else {
        panic!("{name}: nothing breaks \"{promise}\" in {} states", checker.unique_state_count());
    };
    println!("{name}: \"{promise}\" is broken, {} states", checker.unique_state_count());
    println!("{}", shown(path.into_actions()));
}

fn shown(actions: Vec<steps::Action>) -> String {
    actions.iter().map(|action| format!("    {action:?}\n")).collect()
}

const ENDING: World = World { checkpoints: 1, ends: 2, ..WORLD };

#[test]
fn with_all_rules_nothing_is_lost() {
    holds("keepers", WORLD);
    holds("keepers, two payloads", World { writers: 2, checkpoints: 2, ..WORLD });
    holds("keepers that end", ENDING);
}

#[test]
#[ignore = "takes minutes"]
fn with_all_rules_nothing_is_lost_in_larger_worlds() {
    holds("two payloads, three checkpoints", World { writers: 2, ..WORLD });
    holds("two payloads, two ends", World { writers: 2, ..ENDING });
    holds("two ends, two checkpoints", World { checkpoints: 2, ..ENDING });
    holds("three ends", World { ends: 3, ..ENDING });
}

#[test]
fn without_any_rule_of_the_keepers_something_is_lost() {
    let without = |rules: Rules| World { rules, ..WORLD };
    breaks("one keeper", without(Rules { two: false, ..RULES }), SERVER);
    breaks("no second look", without(Rules { looks_again: false, ..RULES }), SERVER);
    breaks("lets go once", without(Rules { lets_go_again: false, ..RULES }), COMPLETED);
    breaks("counted behind its PUT", without(Rules { counts_before_logging: false, ..RULES }), SERVER);
    breaks("the standby does not sync", without(Rules { standby_syncs: false, ..RULES }), STANDBY);
    // One payload that keepers sync while another one comes.
    let without = |rules: Rules| World { rules, writers: 2, checkpoints: 2, ..WORLD };
    breaks("pointer read after the syncfs", without(Rules { reads_first: false, ..RULES }), SERVER);
    breaks("counted behind the syncfs", without(Rules { counts_before_syncing: false, ..RULES }), SERVER);
}

#[test]
fn without_any_rule_of_an_end_something_is_lost() {
    let without = |rules: Rules| World { rules, ..ENDING };
    breaks("syncs, then says so", without(Rules { says_so_first: false, ..RULES }), SERVER);
    breaks("no sync at the end", without(Rules { syncs_at_the_end: false, ..RULES }), SERVER);
}
