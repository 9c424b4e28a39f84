//! What befalls the sessions from outside: cancelled and terminated, the server restarted and killed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::world::World;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::runs::text;
use crate::support::session::Session;

/// The pace; an act every second or so.
const TICK: Duration = Duration::from_millis(100);

/// Disturbs a run.
pub struct Chaos<'w> {
    cluster: &'w mut Cluster,
    world: &'w World,
    rng: StdRng,
}

impl<'w> Chaos<'w> {
    /// For this cluster. It has to be used by the thread that has started the server.
    pub fn new(cluster: &'w mut Cluster, world: &'w World) -> Self {
        let rng = StdRng::seed_from_u64(world.seed.wrapping_sub(1));
        Self { cluster, world, rng }
    }

    /// Disturbs until the run is over.
    pub fn reign(mut self) -> Result<(), String> {
        while !self.world.is_over() {
            thread::sleep(TICK);
            let act = catch_unwind(AssertUnwindSafe(|| self.act()));
            if let Err(panic) = act {
                self.world.stop();
                return Err(format!("chaos: {}", text(&*panic)));
            }
        }
        Ok(())
    }

    fn act(&mut self) {
        match self.rng.random_range(0..1000) {
            0..40 => self.disturb("pg_cancel_backend"),
            40..60 => self.disturb("pg_terminate_backend"),
            60..66 => self.upheaval("restart", |cluster| cluster.restart()),
            66..72 => self.upheaval("kill9", |cluster| {
                cluster.kill9();
                cluster.start();
            }),
            72..75 => self.upheaval("kill9 of a backend", crash_backend),
            75..85 => {
                self.cluster.session().run("checkpoint");
                self.world.count("checkpoint", true);
            }
            _ => {}
        }
    }

    fn disturb(&mut self, function: &'static str) {
        let desk = &self.world.desks[self.rng.random_range(0..self.world.desks.len())];
        let pid = desk.pid.load(SeqCst);
        if pid != 0 {
            desk.disturbances.fetch_add(1, SeqCst);
            self.cluster.session().rows(&format!("select {function}($1)"), &[&pid]);
            self.world.count(function, true);
        }
    }

    fn upheaval(&mut self, name: &'static str, work: impl FnOnce(&mut Cluster)) {
        self.world.turn();
        work(self.cluster);
        self.world.turn();
        self.world.count(name, true);
    }
}

/// The postmaster ends all sessions and recovers, without having been restarted itself.
fn crash_backend(cluster: &mut Cluster) {
    let again = "all server processes terminated; reinitializing";
    let before = cluster.log().matches(again).count();
    cluster.kill9_backend(cluster.session().pid());
    wait_until(PATIENCE, || cluster.log().matches(again).count() > before);
    let config = cluster.config(crate::support::cluster::POSTGRES, crate::support::cluster::POSTGRES);
    wait_until(PATIENCE, || Session::try_connect(&config).is_ok());
}
