//! A randomised test with a model. Each table with payloads has a twin with plain bytea; several sessions do
//! whatever SQL allows to both, always in the same transaction, while the vacuum runs and the server is restarted
//! and killed. At any moment every visible row has to equal its twin; at the end the store has to hold the files
//! of the visible rows and no other.
//!
//! RBYTEA_MODEL_SECONDS bounds the time (20 by default), RBYTEA_MODEL_SEED repeats a run as far as concurrency
//! allows. A failure shows what each session did last.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::model::actor::Actor;
use crate::support::model::chaos::Chaos;
use crate::support::model::world::{Hiding, World};
use crate::support::model::{pairs, verdict};
use crate::support::runs::{number, text};

/// Sessions at work at the same time.
const ACTORS: usize = 4;

#[test]
fn every_row_keeps_its_bytes_and_every_file_its_row() {
    let seconds = number("RBYTEA_MODEL_SECONDS").unwrap_or(20);
    let seed = number("RBYTEA_MODEL_SEED").unwrap_or_else(rand::random);
    // Not through the test harness, which shows the output of failed tests only.
    let _ = writeln!(std::io::stderr(), "model: RBYTEA_MODEL_SEED={seed} RBYTEA_MODEL_SECONDS={seconds}");

    let mut cluster = Cluster::with_extension();
    cluster.session().run(&pairs::setup());
    let hiding = if seed.is_multiple_of(2) { Hiding::Nowhere } else { Hiding::Everywhere };
    let world = World::new(&cluster, seed, Duration::from_secs(seconds), ACTORS, hiding);
    let mut failures: Vec<String> = thread::scope(|scope| {
        let actors: Vec<_> = (0..ACTORS)
            .map(|number| {
                scope.spawn({
                    let world = &world;
                    move || Actor::new(world, number).live()
                })
            })
            .collect();
        let chaos = Chaos::new(&mut cluster, &world).reign();
        let ends = actors.into_iter().map(|actor| actor.join().unwrap_or_else(|panic| Err(text(&*panic))));
        ends.chain([chaos]).filter_map(Result::err).collect()
    });
    if failures.is_empty() {
        let verdict = catch_unwind(AssertUnwindSafe(|| verdict::reach(&mut cluster, &world)));
        failures.extend(verdict.unwrap_or_else(|panic| Err(text(&*panic))).err());
    }
    let _ = writeln!(std::io::stderr(), "model: {}", world.summary());
    assert!(
        failures.is_empty(),
        "{}\n\nRBYTEA_MODEL_SEED={seed} RBYTEA_MODEL_SECONDS={seconds}: {}",
        world.journals(),
        failures.join("\nand: ")
    );
}
