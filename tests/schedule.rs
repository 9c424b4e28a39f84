//! When the background vacuum is due, against a cluster that is too simple to be wrong: transactions that begin and
//! end in any order, visits that judge what has ended.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use rbytea::vacuum::schedule::{Now, REST, Scope, Stamp, State, Whole, due};

const SECOND: Stamp = 1_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store that was swept as a whole by a run that took a second, and nothing has happened since.
fn rested() -> (State, Now) {
    let whole = Whole {
        started: 0,
        finished: SECOND,
        horizon: 100,
        recently_dead: 0,
        activity: 7,
        oldest_trash: None,
    };
    let state = State {
        frontier: 100,
        transaction: 100,
        moved_at: Some(SECOND / 2),
        whole: Some(whole),
        trashed_since: None,
        trash: None,
    };
    let now = Now {
        time: SECOND + 100 * SECOND,
        upper: 101,
        horizon: 101,
        activity: 7,
        purge_before: None,
        full_interval: DAY,
    };
    (state, now)
}

fn whole(state: &mut State) -> &mut Whole {
    state.whole.as_mut().unwrap()
}

#[test]
fn what_was_never_swept_is_swept_as_a_whole() {
    let (_, now) = rested();
    assert_eq!(due(&State::default(), &now), Some(Scope::Whole));
    let rounds_only = State { frontier: 90, transaction: 90, ..State::default() };
    assert_eq!(due(&rounds_only, &now), Some(Scope::Whole), "the history of the whole sweep was lost");
}

#[test]
fn after_the_row_of_history_alone_there_is_nothing_to_do() {
    let (state, now) = rested();
    assert_eq!(due(&state, &now), None);
    assert_eq!(due(&state, &Now { upper: 102, ..now.clone() }), Some(Scope::Round));
    let running = State { frontier: 99, ..state };
    assert_eq!(due(&running, &now), Some(Scope::Round), "transaction 99 had not ended and has now");
    assert_eq!(due(&running, &Now { upper: 99, ..now }), None, "it still runs");
}

#[test]
fn whatever_may_have_made_garbage_of_old_files_asks_for_everything() {
    let (state, now) = rested();
    assert_eq!(due(&state, &Now { activity: 8, ..now.clone() }), Some(Scope::Whole), "rows may have died");

    let mut recently_dead = state.clone();
    whole(&mut recently_dead).recently_dead = 1;
    assert_eq!(due(&recently_dead, &now), Some(Scope::Whole), "the horizon has passed recently dead rows");
    assert_eq!(
        due(&recently_dead, &Now { horizon: 100, ..now.clone() }),
        None,
        "an old snapshot is still there"
    );

    let mut trash = state.clone();
    whole(&mut trash).oldest_trash = Some(SECOND);
    assert_eq!(due(&trash, &now), None, "the purge may not delete yet");
    assert_eq!(due(&trash, &Now { purge_before: Some(SECOND - 1), ..now.clone() }), None, "it is too young");
    assert_eq!(due(&trash, &Now { purge_before: Some(SECOND), ..now.clone() }), Some(Scope::Whole));

    let rounds = State { trashed_since: Some(SECOND), ..state };
    assert_eq!(due(&rounds, &now), None);
    assert_eq!(due(&rounds, &Now { purge_before: Some(SECOND), ..now }), Some(Scope::Whole));
}

#[test]
fn the_full_interval_and_a_clock_put_back_ask_for_everything() {
    let (state, now) = rested();
    let interval = Stamp::try_from(DAY.as_micros()).unwrap();
    assert_eq!(due(&state, &Now { time: interval - 1, ..now.clone() }), None);
    assert_eq!(due(&state, &Now { time: interval, ..now.clone() }), Some(Scope::Whole));
    assert_eq!(due(&state, &Now { time: -1, ..now.clone() }), Some(Scope::Whole), "before it began");
    assert_eq!(due(&state, &Now { time: Stamp::MIN, ..now }), Some(Scope::Whole));
}

#[test]
fn whole_sweeps_leave_most_of_the_time_to_others() {
    let (state, now) = rested();
    let busy = |time| due(&state, &Now { activity: 8, upper: 102, time, ..now.clone() });
    let pause = SECOND * Stamp::from(REST - 1);
    assert_eq!(busy(SECOND + pause - 1), Some(Scope::Round), "what is new is not kept waiting");
    assert_eq!(busy(SECOND + pause), Some(Scope::Whole));
    let overdue = Now { time: SECOND + 1, full_interval: Duration::from_secs(1), ..now.clone() };
    assert_eq!(due(&state, &overdue), Some(Scope::Whole), "the full interval is a promise");
}

/// What may happen in the cluster between two visits.
#[derive(Debug, Clone)]
enum Event {
    /// A transaction begins and writes a file.
    Begin,
    /// The `n`-th of those that run ends without having stored it: the file is garbage.
    Abort(usize),
    /// The background vacuum looks.
    Visit,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![Just(Event::Begin), any::<usize>().prop_map(Event::Abort), Just(Event::Visit)]
}

/// A cluster in which every transaction writes a file and aborts.
struct Cluster {
    next: u64,
    running: Vec<u64>,
    /// Births of files in LIVE whose transactions have ended.
    garbage: Vec<u64>,
    state: State,
    runs: usize,
}

impl Cluster {
    fn new() -> Self {
        let (state, _) = rested();
        Self { next: 101, running: Vec::new(), garbage: Vec::new(), state, runs: 0 }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Begin => {
                self.running.push(self.next);
                self.next += 1;
            }
            Event::Abort(which) if !self.running.is_empty() => {
                let which = which % self.running.len();
                self.garbage.push(self.running.swap_remove(which));
            }
            Event::Abort(_) => {}
            Event::Visit => self.visit(),
        }
    }

    fn visit(&mut self) {
        let upper = self.running.iter().copied().min().unwrap_or(self.next);
        let (_, now) = rested();
        let now = Now { upper, horizon: upper, ..now };
        match due(&self.state, &now) {
            None => {}
            Some(Scope::Whole) => panic!("nothing has died in a table"),
            Some(Scope::Round) => {
                self.runs += 1;
                let births = self.state.frontier..upper;
                self.garbage.retain(|birth| !births.contains(birth));
                self.state.frontier = upper;
                self.state.transaction = self.next;
                self.next += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 2048, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_garbage_is_forgotten_and_an_idle_cluster_is_left_alone(events in vec(any_event(), 0..60)) {
        let mut cluster = Cluster::new();
        for event in &events {
            cluster.happen(event);
        }
        while !cluster.running.is_empty() {
            cluster.happen(&Event::Abort(0));
        }
        cluster.visit();
        prop_assert_eq!(cluster.garbage.len(), 0, "files of transactions that have ended stay for ever");
        // The row of the last round may be news to the next visit, which leaves none itself.
        cluster.visit();
        let runs = cluster.runs;
        cluster.visit();
        prop_assert_eq!(cluster.runs, runs, "an idle cluster is not left alone");
    }

    #[test]
    fn any_state_and_any_clock_have_an_answer(
        times in vec(any::<i64>(), 8), xids in vec(any::<u64>(), 4), recently_dead in any::<u64>(), seconds in any::<u64>(),
    ) {
        let option = |time: i64| (time % 3 != 0).then_some(time);
        let state = State {
            frontier: xids[0],
            transaction: xids[1],
            moved_at: option(times[0]),
            whole: Some(Whole {
                started: times[1], finished: times[2], horizon: xids[2], recently_dead, activity: times[3], oldest_trash: option(times[4]),
            }),
            trashed_since: option(times[5]),
            trash: None,
        };
        let now = Now {
            time: times[6], upper: xids[3], horizon: xids[0], activity: times[3], purge_before: option(times[7]),
            full_interval: Duration::from_secs(seconds),
        };
        // An overflow would be a panic, and the end of every visit to this database.
        let _ = due(&state, &now);
    }
}
