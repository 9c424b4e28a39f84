//! The machine, or the process, dies between any two operations.

use super::judge::{Tally, judge};
use super::scenarios::{ADOPTION, CLAIM, DATABASES, RESTORES, Scenario, VACUUMS, WRITES};
use super::world::{Session, World};
use super::{Choice, disks};
use rbytea_evidence::{Promise, proves};
use rbytea_memfs::{Snapshot, Step};

/// What one undisturbed run of a scenario did, and the disk after each of its operations.
pub struct Recorded {
    pub world: World,
    pub steps: Vec<Step>,
    pub snapshots: Vec<Snapshot>,
    /// Events of the database before it.
    known: usize,
}

pub fn record(scenario: &Scenario) -> Recorded {
    let mut world = World::new((scenario.fs)());
    (scenario.before)(&mut world);
    let known = world.events();
    let mut session = Session::new(&world);
    world.fs.record();
    (scenario.act)(&mut world, &mut session).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
    let (steps, snapshots) = world.fs.recorded();
    Recorded { world, steps, snapshots, known }
}

impl Recorded {
    /// Calls `work` with every moment: a snapshot, and the number of events that the database knew of.
    pub fn moments(&self, mut work: impl FnMut(&Snapshot, usize)) {
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            // Until the next operation that changes the disk.
            let next = self.snapshots.get(index + 1).map_or(u64::MAX, |next| next.at);
            let first = self.world.events_before(snapshot.at).max(self.known);
            for events in first..=self.world.events_before(next) {
                work(snapshot, events);
            }
        }
    }

    /// The last operations before a snapshot.
    pub fn last_steps(&self, snapshot: &Snapshot) -> String {
        let done = self.steps.len() - (self.snapshots.last().unwrap().at - snapshot.at) as usize;
        let steps = &self.steps[done.saturating_sub(4)..done];
        steps.iter().map(|step| format!("{:?} {}; ", step.op, step.path)).collect()
    }
}

fn crash(scenarios: &[Scenario], promise: Promise) {
    let mut tally = Tally::default();
    for scenario in scenarios {
        let before = tally.found.cases;
        let recorded = record(scenario);
        recorded.moments(|snapshot, events| {
            let view = recorded.world.view(events);
            for disk in disks(&recorded.world.fs.as_of(snapshot), Choice::Many, snapshot.at) {
                tally.count(judge(&disk.fs, &recorded.world, &view, 0), || {
                    format!(
                        "{} dies at {}, {events} events: {}\n  after {}",
                        scenario.name,
                        snapshot.at,
                        disk.how,
                        recorded.last_steps(snapshot)
                    )
                });
            }
        });
        println!(
            "{}: {} operations, {} disks",
            scenario.name,
            recorded.steps.len(),
            tally.found.cases - before
        );
    }
    proves(promise, tally.found);
}

#[test]
fn whenever_a_transaction_dies_what_was_acknowledged_is_there() {
    crash(&WRITES, Promise::Durable);
}

#[test]
fn whenever_the_vacuum_dies_only_garbage_has_moved_and_the_next_run_collects_it() {
    crash(&VACUUMS, Promise::OnlyGarbage);
}

#[test]
fn whenever_a_file_is_on_its_way_back_from_trash_it_is_found() {
    crash(&RESTORES, Promise::TrashIsReadable);
}

#[test]
fn whenever_a_database_is_made_or_dropped_no_other_loses_anything() {
    crash(&DATABASES, Promise::Databases);
}

#[test]
fn whenever_a_claim_dies_the_owner_is_whole_or_missing() {
    crash(&CLAIM, Promise::OneOwner);
}

#[test]
fn whenever_an_adoption_dies_the_owner_is_the_old_one_or_the_new_one() {
    crash(&ADOPTION, Promise::OneOwner);
}
