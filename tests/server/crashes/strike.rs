//! Which process is killed, when, and whether that has happened.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;

use super::world::World;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::processes::{Log, Process, child, children, hurry, kill_all, signal};

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A client's backend, whatever it does.
    Backend,
    /// A client's backend that does this.
    BackendAt(&'static str),
    /// The backend that makes or drops a database.
    Cloner,
    /// The postmaster and all of its children.
    Postmaster,
    /// The same, and once more while the next one recovers.
    PostmasterTwice,
    /// Another child of the postmaster, whose title begins like this.
    Child(&'static str),
}

const WORKER: &str = "rbytea vacuum worker";

/// The targets of some rounds, in the proportions in which they come.
pub const DECK: &[Target] = &[
    Target::Backend,
    Target::Backend,
    Target::Backend,
    Target::Backend,
    Target::BackendAt("COMMIT"),
    Target::BackendAt("COMMIT"),
    Target::BackendAt("COMMIT"),
    Target::BackendAt("PREPARE TRANSACTION"),
    Target::BackendAt("COMMIT PREPARED"),
    Target::BackendAt("CALL"),
    Target::Cloner,
    Target::Postmaster,
    Target::Postmaster,
    Target::Postmaster,
    Target::PostmasterTwice,
    Target::Child(WORKER),
    Target::Child(WORKER),
    Target::Child(WORKER),
    Target::Child(WORKER),
    Target::Child(WORKER),
    Target::Child("rbytea vacuum launcher"),
    Target::Child("checkpointer"),
    Target::Child("walwriter"),
];

/// Who was killed.
pub enum Struck {
    /// This child, and what it was doing.
    Child(Process, String),
    /// The postmaster with all its children.
    All,
}

/// Kills what the target says, or some backend if there is none of that in time.
pub fn strike(
    cluster: &mut Cluster,
    world: &World,
    rng: &mut StdRng,
    target: Target,
    log: &mut Log,
) -> Struck {
    if matches!(target, Target::Postmaster | Target::PostmasterTwice) {
        assert!(kill_all(cluster), "the postmaster had ended before");
        return Struck::All;
    }
    let deadline = Instant::now() + Duration::from_millis(800);
    loop {
        let late = Instant::now() > deadline;
        if let Some((victim, what)) = find(cluster, world, rng, if late { Target::Backend } else { target }) {
            signal(cluster, &victim, Signal::KILL);
            if log.confirms(&victim) {
                return Struck::Child(victim, what);
            }
        }
    }
}

fn find(cluster: &Cluster, world: &World, rng: &mut StdRng, target: Target) -> Option<(Process, String)> {
    let clients: Vec<i32> = world.desks.iter().map(|desk| desk.load(SeqCst)).collect();
    let at_work = |process: &Process| {
        clients.contains(&process.pid)
            && !process.title.ends_with("idle")
            && !process.title.ends_with("in transaction")
    };
    match target {
        Target::Child(WORKER) => {
            // The launcher's sleep ends early when it gets a SIGHUP.
            hurry(cluster);
            let end = Instant::now() + Duration::from_millis(300);
            while Instant::now() < end {
                if let Some(worker) = child(cluster, WORKER) {
                    thread::sleep(Duration::from_millis(rng.random_range(0..30)));
                    return Some((worker, "vacuum worker".to_owned()));
                }
            }
            None
        }
        Target::Child(title) => child(cluster, title).map(|process| (process, title.to_owned())),
        Target::Cloner => {
            let cloner =
                children(cluster).into_iter().find(|process| process.title.ends_with(" DATABASE"))?;
            thread::sleep(Duration::from_millis(rng.random_range(0..40)));
            let what = activity(&cloner);
            Some((cloner, what))
        }
        Target::BackendAt(activity) => {
            let mut busy = children(cluster).into_iter().filter(at_work);
            let found = busy.find(|process| process.title.ends_with(activity))?;
            Some((found, format!("backend in {activity}")))
        }
        _ => {
            let mut busy: Vec<_> = children(cluster).into_iter().filter(at_work).collect();
            let found = (!busy.is_empty()).then(|| busy.swap_remove(rng.random_range(0..busy.len())))?;
            let what = activity(&found);
            Some((found, what))
        }
    }
}

/// The command in the title of a backend: `postgres postgres [local] INSERT`.
fn activity(backend: &Process) -> String {
    format!("backend in {}", backend.title.splitn(4, ' ').nth(3).unwrap_or("no command"))
}

/// Starts the server and kills it again while it recovers, or has just done so. False if the postmaster ended otherwise.
pub fn crash_in_recovery(cluster: &mut Cluster, rng: &mut StdRng) -> bool {
    let mut log = Log::from_now(cluster);
    cluster.launch();
    wait_until(PATIENCE, || {
        child(cluster, "startup").is_some() || log.text().contains("ready to accept connections")
    });
    thread::sleep(Duration::from_millis(rng.random_range(0..30)));
    kill_all(cluster)
}
