//! A second crash during the recovery from the first one, which is a run of the vacuum.

use super::crashes::record;
use super::judge::{Case, Tally, judge};
use super::scenarios::{DATABASES, RESTORES, Scenario, VACUUMS, WRITES};
use super::{Choice, disks, effort};
use crate::support::US;
use rbytea_evidence::{Promise, proves};

/// Disks judged for each scenario, at every effort.
const DISKS: u64 = 800;

fn die_twice(scenario: &Scenario, tally: &mut Tally) {
    let recorded = record(scenario);
    let mut firsts = Vec::new();
    recorded.moments(|snapshot, events| {
        for disk in disks(&recorded.world.fs.as_of(snapshot), Choice::Few, snapshot.at) {
            firsts.push((snapshot.at, events, disk));
        }
    });
    // Of the moments of each recovery every n-th, beginning with another one each time.
    let mut seconds = 0;
    let each = (DISKS * effort()).div_ceil(firsts.len() as u64).max(2);
    for (number, (at, events, first)) in firsts.into_iter().enumerate() {
        let view = recorded.world.view(events);
        first.fs.record();
        let case = Case { world: &recorded.world, view: &view, owner: US, round: 0 };
        case.recover(&first.fs).unwrap();
        let (_, snapshots) = first.fs.recorded();
        let stride = snapshots.len().div_ceil(each as usize / 2).max(1);
        for snapshot in snapshots.iter().skip(number % stride).step_by(stride) {
            let mut second = disks(&first.fs.as_of(snapshot), Choice::Few, snapshot.at);
            // a kill or nothing, and what was left at random
            second.swap_remove(number % 2);
            for disk in second.into_iter().rev().take(2) {
                seconds += 1;
                tally.count(judge(&disk.fs, &recorded.world, &view, 1), || {
                    let how = (&first.how, snapshot.at, &disk.how);
                    format!("{} dies at {at}, {events} events, and again: {how:?}", scenario.name)
                });
            }
        }
    }
    println!("{}: {seconds} disks", scenario.name);
}

const CHOSEN: [&str; 10] = [
    "the first insert, without syncfs",
    "prepared transactions",
    "vacuum",
    "vacuum of many directories without syncfs",
    "purge",
    "vacuum of a file with two links",
    "a value from TRASH is stored",
    "the sweep brings marked files back",
    "the files of a template, later",
    "drop database",
];

#[test]
fn a_second_crash_during_the_recovery_loses_nothing() {
    let mut tally = Tally::default();
    let all = || [&WRITES[..], &VACUUMS, &RESTORES, &DATABASES].into_iter().flatten();
    for name in CHOSEN {
        die_twice(all().find(|scenario| scenario.name == name).unwrap(), &mut tally);
    }
    proves(Promise::OnlyGarbage, tally.found);
}
