//! Any operation fails, once or from then on; the process goes on, or dies.

use super::crashes::record;
use super::judge::{Tally, judge};
use super::scenarios::{ADOPTION, CLAIM, DATABASES, RESTORES, Scenario, VACUUMS, WRITES};
use super::world::{Session, World};
use super::{Choice, disks, effort};
use rbytea_evidence::{Found, Promise, proves};
use rbytea_memfs::{EINTR, EIO, ENOSPC, Fault, MemFs, Op};

/// What can go wrong at an operation.
fn faults(op: Op) -> Vec<Fault> {
    let mut faults = vec![Fault::Fails(EIO), Fault::Dead, Fault::ReadOnly];
    if op.changes() {
        faults.push(Fault::FailsDone(EIO));
    }
    if op.needs_space() {
        faults.extend([Fault::Fails(ENOSPC), Fault::Full]);
    }
    if op.syncs() {
        // everything else is tried again by the implementation; a sync must not be
        faults.extend([Fault::Fails(EINTR), Fault::Fails(ENOSPC)]);
    }
    if op == Op::Write {
        faults.extend([0, 1, 16, 1000].map(|len| Fault::Cut(len, ENOSPC)));
    }
    faults
}

/// What the client does about an error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    RollBack,
    /// Catches it and commits what was written without an error.
    Commit,
}

struct Campaign<'a> {
    scenario: &'a Scenario,
    /// The world after the setup.
    setup: World,
    tally: Tally,
    /// How often an operation has failed.
    failed: u64,
}

impl Campaign<'_> {
    fn judge(&mut self, world: &World, fs: &MemFs, how: &dyn Fn() -> String, seed: u64) {
        let view = world.now();
        for disk in disks(fs, Choice::One, seed) {
            self.tally.count(judge(&disk.fs, world, &view, 0), || format!("{} and then {}", how(), disk.how));
        }
    }

    /// The operation that has failed; None when the scenario has fewer operations.
    fn fail(&mut self, at: u64, fault: Fault, then: Then) -> Option<Op> {
        let scenario = self.scenario;
        let mut world = self.setup.copy();
        let mut session = Session::new(&world);
        world.fs.plan(at, fault);
        let mut result = (scenario.action)(&mut world, &mut session);
        let op = world.fs.met()?;
        let broken = matches!(fault, Fault::Dead | Fault::ReadOnly);
        let how = |what: &str| format!("{}: {op:?} number {at} {fault:?}, {then:?}, {what}", scenario.name);
        if op.lists() && matches!(fault, Fault::Fails(_)) {
            assert!(result.is_err(), "{} (I10)", how("and the error is not returned"));
        }
        if result.is_err() && then == Then::Commit {
            // also a transaction whose sync has failed
            result = session.commit(&mut world).map(drop);
        }
        self.failed += u64::from(result.is_err());
        if fault == Fault::ReadOnly {
            // no pending change can reach the disk before the file system is mounted again
            session.rollback();
            drop(session);
            self.judge(&world, &world.fs.after_crash(), &|| how("mounted again"), at);
            return Some(op);
        }
        world.fs.heal();
        session.rollback();
        if !broken {
            self.judge(&world, &world.fs, &|| how(""), at);
        }
        // The process goes on, with its cache.
        let again = (scenario.action)(&mut world, &mut session);
        again.unwrap_or_else(|e| panic!("{}: {e}", how("and it does not work any more")));
        self.judge(&world, &world.fs, &|| how("tried again"), at + 1);
        Some(op)
    }

    /// Faults at every operation: all that there are, or in a long scenario EIO and one other, each in its turn.
    fn fail_everywhere(&mut self) {
        let all = record(self.scenario).steps.len() <= LONG || effort() > 1;
        // Which operation comes when differs from run to run, because uuids do.
        let mut at = 0;
        while let Some(op) = self.fail(at, Fault::Fails(EIO), Then::RollBack) {
            let others = &faults(op)[1..];
            let chosen = if all { others } else { &others[at as usize % others.len()..][..1] };
            for &fault in chosen {
                self.fail(at, fault, Then::RollBack);
            }
            if self.scenario.writes {
                self.fail(at, Fault::Fails(EIO), Then::Commit);
            }
            at += 1;
        }
        println!("{}: {at} operations, {} disks", self.scenario.name, self.tally.found.cases);
    }
}

/// Operations of a long scenario.
const LONG: usize = 40;

fn fail(scenarios: &[Scenario]) {
    let mut found = Found::default();
    for scenario in scenarios {
        let mut world = World::new((scenario.fs)());
        (scenario.setup)(&mut world);
        let mut campaign = Campaign { scenario, setup: world, tally: Tally::default(), failed: 0 };
        campaign.fail_everywhere();
        assert!(campaign.failed > 5, "{} failures are too few to prove anything", campaign.failed);
        let Found { cases, lost, dangling, leaked } = campaign.tally.found;
        found.cases += cases;
        found.lost += lost;
        found.dangling += dangling;
        found.leaked += leaked;
    }
    proves(Promise::ErrorsLoseNothing, found);
}

#[test]
fn acknowledged_payloads_survive_any_failure_in_a_transaction() {
    fail(&WRITES);
}

#[test]
fn after_any_failure_in_the_vacuum_only_garbage_has_moved_and_the_next_run_collects_it() {
    fail(&VACUUMS);
}

#[test]
fn a_file_is_found_after_any_failure_of_its_restore() {
    fail(&RESTORES);
}

#[test]
fn after_any_failure_in_creating_or_dropping_a_database_the_next_call_completes_it() {
    fail(&DATABASES);
}

#[test]
fn after_any_failure_in_a_claim_the_owner_is_whole_or_missing() {
    fail(&CLAIM);
}

#[test]
fn after_any_failure_in_an_adoption_the_next_one_is_durable() {
    fail(&ADOPTION);
}
