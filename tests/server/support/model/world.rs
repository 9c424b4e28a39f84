//! What the sessions of a run share: the time, the numbers that must be unique, and what has been done to them from
//! outside.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, POSTGRES};

/// Statements of each session that a failure shows.
const REMEMBERED: usize = 60;

/// Where the sessions of a run may have references that no vacuum can see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hiding {
    /// Nowhere: no payload may ever leave LIVE while a row refers to it.
    Nowhere,
    /// In variables of procedures. Payloads may come back from TRASH, but none may be purged too early.
    InProcedures,
    /// In temporary tables and cursors, too: the former keep the purge away.
    Everywhere,
}

/// One run.
pub struct World {
    /// What everything random comes from.
    pub seed: u64,
    /// Where references may be.
    pub hiding: Hiding,
    /// How a session reaches the server.
    pub config: tokio_postgres::Config,
    /// The sessions, as seen from outside.
    pub desks: Vec<Desk>,
    begun: Instant,
    end: Instant,
    stopped: AtomicBool,
    upheavals: AtomicU64,
    next_id: AtomicI32,
    next_name: AtomicI32,
    counts: Mutex<BTreeMap<&'static str, (u64, u64)>>,
}

/// One session as the others see it.
#[derive(Default)]
pub struct Desk {
    /// Its backend.
    pub pid: AtomicI32,
    /// How often it was cancelled or terminated.
    pub disturbances: AtomicU64,
    journal: Mutex<VecDeque<String>>,
}

impl World {
    /// A run that begins now.
    pub fn new(cluster: &Cluster, seed: u64, time: Duration, actors: usize, hiding: Hiding) -> Self {
        let begun = Instant::now();
        Self {
            seed,
            hiding,
            config: cluster.config(POSTGRES, POSTGRES),
            desks: (0..actors).map(|_| Desk::default()).collect(),
            begun,
            end: begun + time,
            stopped: AtomicBool::new(false),
            upheavals: AtomicU64::new(0),
            next_id: AtomicI32::new(1),
            next_name: AtomicI32::new(1),
            counts: Mutex::default(),
        }
    }

    /// The first of `count` row ids that no row has had.
    pub fn ids(&self, count: i32) -> i32 {
        self.next_id.fetch_add(count, SeqCst)
    }

    /// A number for a name that no object has had.
    pub fn name(&self) -> i32 {
        self.next_name.fetch_add(1, SeqCst)
    }

    /// Time is up, or a session has failed.
    pub fn is_over(&self) -> bool {
        self.stopped.load(SeqCst) || Instant::now() >= self.end
    }

    /// Ends the run: something is wrong.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    /// Begins or ends a time in which the server may be away; see `upheavals`.
    pub fn turn(&self) {
        self.upheavals.fetch_add(1, SeqCst);
    }

    /// Odd while the server may be away.
    pub fn upheavals(&self) -> u64 {
        self.upheavals.load(SeqCst)
    }

    /// Remembers a line for the case of a failure.
    pub fn note(&self, number: usize, line: &str) {
        let mut journal = lock(&self.desks[number].journal);
        if journal.len() == REMEMBERED {
            journal.pop_front();
        }
        journal.push_back(format!("{:9.3} {line}", self.begun.elapsed().as_secs_f64()));
    }

    /// Counts an operation that was done or refused.
    pub fn count(&self, operation: &'static str, done: bool) {
        let mut counts = lock(&self.counts);
        let (all, refused) = counts.entry(operation).or_default();
        *all += 1;
        *refused += u64::from(!done);
    }

    /// How often each operation was done, and refused for a lock or the like.
    pub fn summary(&self) -> String {
        let kind = match self.hiding {
            Hiding::Nowhere => "strict",
            Hiding::InProcedures => "with references in procedures",
            Hiding::Everywhere => "with hidden references",
        };
        let mut text =
            format!("{kind}, {:.1} s, {} ids", self.begun.elapsed().as_secs_f64(), self.next_id.load(SeqCst));
        for (operation, (all, refused)) in &*lock(&self.counts) {
            let _ = write!(text, "; {operation} {all}");
            if *refused > 0 {
                let _ = write!(text, " (-{refused})");
            }
        }
        text
    }

    /// What each session did last.
    pub fn journals(&self) -> String {
        let mut text = String::new();
        for (number, desk) in self.desks.iter().enumerate() {
            let _ = write!(text, "\n--- session {number}, process {} ---", desk.pid.load(SeqCst));
            for line in &*lock(&desk.journal) {
                let _ = write!(text, "\n{line}");
            }
        }
        text
    }
}

/// Also what a panicking session has left is worth showing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
