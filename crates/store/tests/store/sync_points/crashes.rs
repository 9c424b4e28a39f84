//! The machine crashes, or the process is killed, between any two operations.

use super::judge::{Tally, judge};
use super::scenarios::{ADOPTION, CLAIM, DATABASES, RESTORES, Scenario, VACUUMS, WRITES};
use super::world::{Session, World};
use super::{Choice, disks};
use rbytea_evidence::{Promise, proves};
use rbytea_memfs::{Snapshot, Step};

/// The operations of one run of a scenario without faults, and the disk after each of them.
pub struct Recorded {
    pub world: World,
    pub steps: Vec<Step>,
    pub snapshots: Vec<Snapshot>,
    /// Events of the database before it.
    known: usize,
}

pub fn record(scenario: &Scenario) -> Recorded {
    let mut world = World::new((scenario.fs)());
    (scenario.setup)(&mut world);
    let known = world.events();
    let mut session = Session::new(&world);
    world.fs.record();
    (scenario.action)(&mut world, &mut session).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
    let (steps, snapshots) = world.fs.recorded();
    Recorded { world, steps, snapshots, known }
}

impl Recorded {
    /// Calls `work` with every moment: a snapshot, and the number of PostgreSQL's events until then.
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
fn acknowledged_payloads_survive_a_crash_at_any_operation_of_a_transaction() {
    crash(&WRITES, Promise::Durable);
}

#[test]
fn after_a_crash_of_the_vacuum_only_garbage_has_moved_and_the_next_run_collects_it() {
    crash(&VACUUMS, Promise::OnlyGarbage);
}

#[test]
fn a_file_is_found_after_a_crash_at_any_operation_of_its_restore() {
    crash(&RESTORES, Promise::TrashIsReadable);
}

#[test]
fn after_a_crash_in_creating_or_dropping_a_database_no_other_database_has_lost_a_payload() {
    crash(&DATABASES, Promise::Databases);
}

#[test]
fn after_a_crash_of_a_claim_the_owner_is_whole_or_missing() {
    crash(&CLAIM, Promise::OneOwner);
}

#[test]
fn after_a_crash_of_an_adoption_the_owner_is_the_old_or_the_new_one() {
    crash(&ADOPTION, Promise::OneOwner);
}
