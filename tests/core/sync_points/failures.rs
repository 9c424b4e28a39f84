//! Any operation fails, once or from then on; and the process lives on, or does not.

use super::disks;
use super::judge::{Tally, judge};
use super::scenarios::{DATABASES, OWNERS, RESTORES, Scenario, VACUUMS, WRITES};
use super::world::{Session, World};
use crate::evidence::{Promise, proves};
use crate::memfs::{EINTR, EIO, ENOSPC, Fault, MemFs, Op};

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

struct Campaign {
    tally: Tally,
    /// How often an operation has failed.
    failed: u64,
}

impl Campaign {
    fn judge(&mut self, world: &World, fs: &MemFs, how: &dyn Fn() -> String, seed: u64) {
        let view = world.now();
        for disk in disks(fs, seed) {
            self.tally.count(judge(&disk.fs, world, &view, 0), || format!("{}; then {}", how(), disk.how));
        }
    }

    /// False when there is no such operation.
    fn fail(&mut self, scenario: &Scenario, at: u64, fault: Fault, then: Then) -> bool {
        let mut world = World::new((scenario.fs)());
        (scenario.before)(&mut world);
        let mut session = Session::new(&world);
        world.fs.plan(at, fault);
        let mut result = (scenario.act)(&mut world, &mut session);
        let Some(op) = world.fs.met() else { return false };
        let broken = matches!(fault, Fault::Dead | Fault::ReadOnly);
        let how = |what: &str| format!("{}: {op:?} number {at} {fault:?}, {then:?}, {what}", scenario.name);
        if op.lists() && matches!(fault, Fault::Fails(_)) {
            assert!(result.is_err(), "{} (I10)", how("and nobody hears of it"));
        }
        if result.is_err() && then == Then::Commit {
            // also with what has failed to sync
            result = session.commit(&mut world).map(drop);
        }
        self.failed += u64::from(result.is_err());
        if fault == Fault::ReadOnly {
            // nothing of what is pending can reach the disk, whatever is tried until it is mounted again
            session.rollback();
            drop(session);
            self.judge(&world, &world.fs.after_crash(), &|| how("mounted again"), at);
            return true;
        }
        world.fs.heal();
        session.rollback();
        if !broken {
            self.judge(&world, &world.fs, &|| how("and a crash"), at);
        }
        // The process goes on, with what it remembers.
        let again = (scenario.act)(&mut world, &mut session);
        again.unwrap_or_else(|e| panic!("{}: {e}", how("and it does not work any more")));
        self.judge(&world, &world.fs, &|| how("tried again, and a crash"), at);
        true
    }

    /// Every fault at every operation.
    fn fail_everywhere(&mut self, scenario: &Scenario) {
        let before = self.tally.found.cases;
        let mut at = 0;
        loop {
            // which operation that is differs from run to run, because uuids do
            let mut world = World::new((scenario.fs)());
            (scenario.before)(&mut world);
            let mut session = Session::new(&world);
            world.fs.plan(at, Fault::Fails(EIO));
            let _ = (scenario.act)(&mut world, &mut session);
            let Some(op) = world.fs.met() else { break };
            for fault in faults(op) {
                self.fail(scenario, at, fault, Then::RollBack);
            }
            self.fail(scenario, at, Fault::Fails(EIO), Then::Commit);
            at += 1;
        }
        println!("{}: {at} operations, {} disks", scenario.name, self.tally.found.cases - before);
    }
}

fn fail(scenarios: &[Scenario]) {
    let mut campaign = Campaign { tally: Tally::default(), failed: 0 };
    for scenario in scenarios {
        campaign.fail_everywhere(scenario);
    }
    assert!(campaign.failed > 100, "{} failures are too few to prove anything", campaign.failed);
    proves(Promise::ErrorsLoseNothing, campaign.tally.found);
}

#[test]
fn whatever_fails_in_a_transaction_what_is_acknowledged_is_there() {
    fail(&WRITES);
}

#[test]
fn whatever_fails_in_the_vacuum_only_garbage_moves_and_the_next_run_collects_it() {
    fail(&VACUUMS);
}

#[test]
fn whatever_fails_while_a_file_comes_back_it_is_found() {
    fail(&RESTORES);
}

#[test]
fn whatever_fails_while_a_database_is_made_or_dropped_the_next_call_completes_it() {
    fail(&DATABASES);
}

#[test]
fn whatever_fails_while_the_owner_is_written_it_is_one_or_the_other() {
    fail(&OWNERS);
}
