//! A campaign: rounds of load, a kill, recovery and judgement, and now and then everything has to be collected.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use super::client::Client;
use super::clones::{Clones, SOURCE};
use super::judge::{self, Among};
use super::strike::{DECK, Struck, Target, crash_in_recovery, strike};
use super::transactions::Transactions;
use super::world::{CLIENTS, Commits, World, setup};
use crate::evidence::Found;
use crate::support::cluster::{Cluster, PATIENCE, POSTGRES, wait_until};
use crate::support::encryption::set_keys;
use crate::support::judge::Verdict;
use crate::support::processes::{Log, child, hold, kill_all, signal};
use crate::support::runs::text;
use crate::support::session::Session;

const SETTINGS: &[&str] = &[
    "rbytea.databases_for_vacuuming = 'postgres, source'",
    "rbytea.vacuum_naptime = 1s",
    "rbytea.trash_retention = 0",
    "rbytea.log_min_duration = 0",
    "rbytea.key_file = 'keys'",
    "max_prepared_transactions = 20",
    "shared_buffers = 16MB",
    "wal_level = replica",
    "max_wal_senders = 0",
];

/// Rounds between two collections.
const ROUNDS: u64 = 15;

/// See the module.
pub struct Campaign {
    pub(super) cluster: Cluster,
    pub(super) world: World,
    seed: u64,
    rng: StdRng,
    pub(super) of_clients: Vec<Transactions>,
    clones: Clones,
    pub(super) verdict: Verdict,
    /// Files that rows needed when everything else was collected last.
    needed: u64,
    kills: BTreeMap<String, u64>,
    deck: Vec<Target>,
    /// The server has lost what it had to keep; nothing can be judged any more.
    forsaken: bool,
}

impl Campaign {
    /// A server with clients that have not begun.
    pub fn new(seed: u64, commits: Commits) -> Self {
        let rarely: &[&str] = match commits {
            Commits::Mixed => &[],
            Commits::Asynchronous => {
                &["wal_writer_delay = 10s", "wal_writer_flush_after = 1GB", "wal_buffers = 16MB"]
            }
        };
        let cluster = Cluster::with_extension_and(&[SETTINGS, rarely].concat());
        set_keys(&cluster, &[1]);
        cluster.session().run(&setup());
        Clones::set_up(&cluster);
        let world = World::new(cluster.config(POSTGRES, POSTGRES), seed, commits);
        let of_clients = (0..CLIENTS).map(|_| Transactions::default()).collect();
        Self {
            cluster,
            world,
            seed,
            rng: StdRng::seed_from_u64(seed),
            of_clients,
            clones: Clones::default(),
            verdict: Verdict::default(),
            needed: 0,
            kills: BTreeMap::new(),
            deck: Vec::new(),
            forsaken: false,
        }
    }

    /// Kills at least so often; what was found. Only processes that died by our signal count.
    pub fn run(mut self, kills: u64) -> Found {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut rounds = 0;
            while self.cases() < kills && self.verdict.is_good() && !self.forsaken {
                self.round();
                rounds += 1;
                if rounds % ROUNDS == 0 {
                    self.collect_by_hand();
                }
            }
            if self.verdict.is_good() && !self.forsaken {
                self.collect_in_the_background();
            }
        }));
        let seconds = begun.elapsed().as_secs_f64();

        let report = format!(
            "crashes: RBYTEA_CRASHES_SEED={} {:?} {seconds:.1} s, {}",
            self.seed,
            self.world.commits,
            self.figures()
        );
        // Not through the test harness, which shows the output of failed tests only.
        let _ = writeln!(std::io::stderr(), "{report}");
        if let Err(panic) = outcome {
            panic!("{}\n{report}", text(&*panic));
        }
        assert!(self.verdict.is_good(), "{}\n{report}", self.verdict.text());
        Found { cases: self.cases(), ..self.verdict.found() }
    }

    /// Kills whose consequences were judged.
    fn cases(&self) -> u64 {
        self.kills.values().sum::<u64>() - u64::from(self.forsaken)
    }

    fn figures(&self) -> String {
        let mut text = format!("{} kills:", self.cases());
        for (what, count) in &self.kills {
            let _ = write!(text, " {what} {count},");
        }
        let Found { lost, dangling, leaked, .. } = self.verdict.found();
        let needed = self.needed;
        let _ = writeln!(
            text,
            " lost {lost}, dangling {dangling}, leaked {leaked}, {needed} files left and needed"
        );
        text + &self.world.summary()
    }

    fn killed(&mut self, what: &str) {
        *self.kills.entry(what.to_owned()).or_default() += 1;
    }

    /// Load, a kill, recovery, judgement.
    pub(super) fn round(&mut self) {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            self.deck.shuffle(&mut self.rng);
        }
        let Some(target) = self.deck.pop() else { return };
        self.world.flushes.store(self.rng.random_bool(0.5), SeqCst);
        let mut log = Log::from_now(&self.cluster);
        let Self { world, of_clients, clones, cluster, rng, .. } = self;
        let (mut victim, mut failures) = (None, Vec::new());
        thread::scope(|scope| {
            let world = &*world;
            let mut threads = vec![scope.spawn(move || clones.work(world))];
            for (number, transactions) in of_clients.iter_mut().enumerate() {
                threads.push(scope.spawn(move || Client::work(world, number, transactions)));
            }
            let struck = catch_unwind(AssertUnwindSafe(|| {
                let connected = || world.desks.iter().all(|desk| desk.load(SeqCst) != 0);
                wait_until(PATIENCE, || connected() || threads.iter().any(|thread| thread.is_finished()));
                // Otherwise it has each page of the WAL that is full on its way at once.
                let writer = child(cluster, "walwriter")
                    .filter(|_| world.commits == Commits::Asynchronous && !world.flushes.load(SeqCst));
                writer.iter().for_each(|writer| hold(cluster, writer));
                thread::sleep(Duration::from_millis(rng.random_range(5..150)));
                let struck = strike(cluster, world, rng, target, &mut log);
                writer.iter().for_each(|writer| signal(cluster, writer, Signal::CONT));
                struck
            }));
            match struck {
                Ok(struck) => victim = Some(struck),
                Err(panic) => {
                    failures.push(text(&*panic));
                    kill_all(cluster);
                }
            }
            let ends =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| Err(text(&*panic))));
            failures.extend(ends.filter_map(Result::err));
        });
        assert!(failures.is_empty(), "{target:?}: {}", failures.join("\nand: "));
        let mut ours = Vec::new();
        match victim {
            Some(Struck::Child(process, what)) => {
                ours.push(process.pid);
                self.killed(&what);
                let again = "database system is ready to accept connections";
                assert!(log.has(again, PATIENCE), "the postmaster has not recovered");
            }
            _ => {
                self.killed("postmaster");
                if target == Target::PostmasterTwice && crash_in_recovery(&mut self.cluster, &mut self.rng) {
                    self.killed("postmaster while it recovers");
                }
                self.cluster.start();
            }
        }
        if server_has_lost_prepared(&self.cluster) {
            self.forsaken = true;
            return;
        }
        self.judge();
        let alarming = log.alarming(&ours);
        assert!(alarming.is_empty(), "{target:?}: the log says {alarming:?}");
    }

    fn judge(&mut self) {
        let db = self.session();
        judge::after_a_crash(&db, &self.world, &mut self.of_clients, &mut self.verdict);
        self.clones.after_a_crash(&self.cluster, &self.world, &mut self.verdict);
        if self.verdict.is_good() && self.rng.random_bool(0.7) {
            let rng = &mut self.rng;
            let ended = judge::end_prepared(&db, &mut self.of_clients, || rng.random_bool(0.5));
            if ended > 0 {
                judge::at_rest(&db, &self.world, &self.of_clients, &mut self.verdict);
            }
            (0..ended).for_each(|_| self.world.count("second phase after a crash"));
        }
    }

    /// A session as soon as the server takes one.
    pub(super) fn session(&self) -> Session {
        let mut session = None;
        wait_until(PATIENCE, || {
            session = Session::try_connect(&self.world.config).ok();
            session.is_some()
        });
        session.unwrap()
    }

    pub(super) fn end_everything(&mut self) -> Vec<Session> {
        let db = self.session();
        let rng = &mut self.rng;
        judge::end_prepared(&db, &mut self.of_clients, || rng.random_bool(0.5));
        self.clones.drop_all(&db);
        vec![db, self.cluster.session_in(SOURCE)]
    }

    fn collect_by_hand(&mut self) {
        let databases = self.end_everything();
        self.needed = judge::everything_else_goes(
            &self.cluster.store(),
            &databases,
            &mut self.verdict,
            Among::All,
            || {
                for db in &databases {
                    // The background vacuum may be at work, which is why a mark can be given up.
                    let _ = db.try_run("select rvacuum_purge()");
                }
            },
        );
        judge::at_rest(&databases[0], &self.world, &self.of_clients, &mut self.verdict);
        judge::check_is_silent(&databases, &mut self.verdict);
        self.world.count("collected by hand");
    }

    fn collect_in_the_background(&mut self) {
        let databases = self.end_everything();
        judge::everything_else_goes(
            &self.cluster.store(),
            &databases,
            &mut self.verdict,
            Among::Databases,
            || (),
        );
        // Dropped databases wait for a sweep of the whole store, which need not come before such a time.
        self.cluster.set_conf("rbytea.vacuum_full_interval = 1s");
        self.cluster.reload();
        self.needed = judge::everything_else_goes(
            &self.cluster.store(),
            &databases,
            &mut self.verdict,
            Among::All,
            || (),
        );
        judge::at_rest(&databases[0], &self.world, &self.of_clients, &mut self.verdict);
        judge::check_is_silent(&databases, &mut self.verdict);
        self.world.count("collected in the background");
    }
}

/// PostgreSQL since 17 (seen with 18.4): a crash between the writing of two-phase state files and the end of the checkpoint. Recovery wants to
/// remove them, because they are newer than the last checkpoint, under the names of an epoch before the first; it then finds them, and
/// does not restore the prepared transactions from the WAL.
pub fn server_has_lost_prepared(cluster: &Cluster) -> bool {
    cluster.installation().major >= 17
        && cluster.log().contains("could not remove file \"pg_twophase/FFFFFFFF")
}
