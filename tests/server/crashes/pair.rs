//! A primary and its standby under load, each with a store of its own on a file system of its own; all payloads are in the WAL. Both are
//! killed in turn: keepers, checkpointer, startup process, backends, all of a server, with or without the power of its store's file
//! system, in recovery once more; and the standby takes over, and the old primary becomes its standby by pg_rewind. Commits wait for the
//! standby, but for those that wait for nothing.
//!
//! After each round every acknowledged commit has to read back by its digest on the primary, and the standby has to have the same rows.
//! Unlike the other campaigns this one shows that what a commit leaves in the page cache is in the WAL, until it is synced.
//!
//! RBYTEA_CRASHES is the number of kills of each server, RBYTEA_PROMOTIONS that of promotions at least.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use super::campaign::server_has_lost_prepared;
use super::client::Client;
use super::clones::{Clones, SOURCE};
use super::judge::{self, Among};
use super::strike::{Struck, Target, crash_in_recovery, strike};
use super::transactions::Transactions;
use super::world::{CLIENTS, Commits, World, setup};
use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::own;
use crate::support::cluster::{Cluster, PATIENCE, POSTGRES, wait_until};
use crate::support::encryption::set_keys;
use crate::support::judge::disk::entries;
use crate::support::judge::{And, Verdict};
use crate::support::keepers::{await_keepers, has_keepers};
use crate::support::processes::{Log, child, kill_all, signal};
use crate::support::runs::{number, text};
use crate::support::session::Session;
use crate::support::shared_store::replayed;
use crate::support::standby::{rewind, standby_in};
use crate::support::volumes::{Kind, Volume};

const SETTINGS: &[&str] = &[
    "rbytea.wal_payload_limit = -1",
    "rbytea.recovery_store = own",
    "rbytea.databases_for_vacuuming = 'postgres, source'",
    "rbytea.vacuum_naptime = 1s",
    "rbytea.trash_retention = 0",
    "rbytea.key_file = 'keys'",
    "checkpoint_timeout = 30s",
    "max_prepared_transactions = 20",
    "shared_buffers = 16MB",
    "wal_log_hints = on",
    "wal_keep_size = 1GB",
    "wal_retrieve_retry_interval = 100ms",
];

/// Kills of each server, unless RBYTEA_CRASHES says how many.
const KILLS: u64 = 8;

/// What happens to the primary in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// This process, or all of them.
    Kill(Target),
    /// All of them, and its store loses what was in memory alone.
    Power,
    /// The same, and once more in recovery.
    PowerTwice,
    /// The power fails, and the standby takes over.
    Promotion,
}

/// The blows of some rounds, in the proportions in which they come.
const BLOWS: &[Blow] = &[
    Blow::Kill(Target::Child("rbytea keeper")),
    Blow::Kill(Target::Child("rbytea keeper")),
    Blow::Kill(Target::Child("checkpointer")),
    Blow::Kill(Target::Child("checkpointer")),
    Blow::Kill(Target::Child("rbytea vacuum worker")),
    Blow::Kill(Target::BackendAt("COMMIT")),
    Blow::Kill(Target::Cloner),
    Blow::Kill(Target::Postmaster),
    Blow::Power,
    Blow::Power,
    Blow::Power,
    Blow::Power,
    Blow::Power,
    Blow::PowerTwice,
    Blow::PowerTwice,
    Blow::Promotion,
];

/// Of the standby, before.
const BLOWS_OF_STANDBY: &[Blow] = &[
    Blow::Kill(Target::Child("startup")),
    Blow::Kill(Target::Child("startup")),
    Blow::Kill(Target::Child("checkpointer")),
    Blow::Kill(Target::Postmaster),
    Blow::Power,
    Blow::Power,
    Blow::Power,
    Blow::PowerTwice,
];

/// A server and the file system of its store, which is unmounted first.
struct Node {
    volume: Volume,
    root: PathBuf,
    cluster: Cluster,
}

impl Node {
    fn stopped() -> Self {
        let cluster = Cluster::stopped_with(SETTINGS);
        let root = cluster.dir().join("store");
        own(&cluster, &root, |root| fs::create_dir(root));
        let volume = Volume::mounted(Kind::Ext4, &root, 1 << 30, None);
        own(&cluster, &root, |_| Ok(()));
        cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", root.display()));
        Self { volume, root, cluster }
    }

    fn primary() -> Self {
        let mut node = Self::stopped();
        set_keys(&node.cluster, &[1]);
        node.cluster.start();
        node.cluster.session().run("create extension rbytea");
        node.cluster.session().run(&setup());
        Clones::set_up(&node.cluster);
        node
    }

    /// Nothing may have been stored yet: all there will be comes with the WAL.
    fn standby_of(primary: &Self) -> Self {
        let Self { volume, root, cluster } = Self::stopped();
        let path = format!("rbytea.filesystem_storage_path = '{}'", root.display());
        Self { volume, root, cluster: standby_in(cluster, &primary.cluster, &[&path]) }
    }

    fn power_fails(&mut self) {
        kill_all(&mut self.cluster);
        self.volume.lose_power();
    }

    /// Kills the whole server, maybe in recovery once more, and brings it back.
    fn kill(&mut self, blow: Blow, rng: &mut StdRng) {
        match blow {
            Blow::Kill(_) => drop(kill_all(&mut self.cluster)),
            _ => self.power_fails(),
        }
        if blow == Blow::PowerTwice {
            crash_in_recovery(&mut self.cluster, rng);
            self.volume.lose_power();
        }
        self.cluster.start();
    }

    /// As a standby.
    fn suffer(&mut self, blow: Blow, rng: &mut StdRng) {
        let Blow::Kill(Target::Child(title)) = blow else { return self.kill(blow, rng) };
        let mut log = Log::from_now(&self.cluster);
        let victim = child(&self.cluster, title).unwrap_or_else(|| panic!("there is no {title}"));
        signal(&self.cluster, &victim, Signal::KILL);
        assert!(log.confirms(&victim), "{title} was not killed");
        if title == "startup" {
            // The postmaster gives up.
            self.kill(Blow::Kill(Target::Postmaster), rng);
        } else {
            assert!(log.has("ready to accept read-only connections", PATIENCE), "{}", log.text());
        }
    }
}

struct Pair {
    primary: Node,
    standby: Node,
    world: World,
    rng: StdRng,
    of_clients: Vec<Transactions>,
    clones: Clones,
    verdict: Verdict,
    kills: [u64; 2],
    promotions: u64,
    blows: BTreeMap<String, u64>,
    /// A server has lost what it had to keep; nothing can be judged any more.
    forsaken: bool,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let primary = Node::primary();
        let standby = Node::standby_of(&primary);
        for node in [&primary, &standby] {
            node.cluster.set_conf("synchronous_standby_names = '*'");
            node.cluster.reload();
        }
        let world = World::new(primary.cluster.config(POSTGRES, POSTGRES), seed, Commits::Mixed);
        let pair = Self {
            primary,
            standby,
            world,
            rng: StdRng::seed_from_u64(seed),
            of_clients: (0..CLIENTS).map(|_| Transactions::default()).collect(),
            clones: Clones::default(),
            verdict: Verdict::default(),
            kills: [0; 2],
            promotions: 0,
            blows: BTreeMap::new(),
            forsaken: false,
        };
        pair.await_standby();
        await_keepers(&pair.primary.cluster.session());
        pair
    }

    fn await_standby(&self) {
        let db = self.primary.cluster.session();
        let waits =
            "select count(*) = 1 from pg_stat_replication where sync_state = 'sync' and state = 'streaming'";
        wait_until(PATIENCE, || db.one(waits, &[]));
    }

    fn count(&mut self, who: usize, blow: Blow) {
        self.kills[who] += 1;
        let who = ["primary", "standby"][who];
        *self.blows.entry(format!("{who}: {blow:?}")).or_default() += 1;
    }

    /// Load, a blow to the standby, one to the primary, recovery, judgement.
    fn round(&mut self, blow: Blow, of_standby: Option<Blow>) {
        self.world.flushes.store(self.rng.random_bool(0.5), SeqCst);
        let mut log = Log::from_now(&self.primary.cluster);
        let Self { primary, standby, world, rng, of_clients, clones, .. } = self;
        let mut failures = Vec::new();
        let mut ours = Vec::new();
        let watch = primary.cluster.session();
        // They come a while after a start. Where nobody waits for them, commits sync their files themselves.
        if rng.random_bool(0.7) {
            wait_until(PATIENCE, || has_keepers(&watch));
        }
        thread::scope(|scope| {
            let world = &*world;
            let mut threads = vec![scope.spawn(move || clones.work(world))];
            for (number, transactions) in of_clients.iter_mut().enumerate() {
                threads.push(scope.spawn(move || Client::work(world, number, transactions)));
            }
            threads.push(scope.spawn(move || disturb(world)));
            let struck = catch_unwind(AssertUnwindSafe(|| {
                let connected = || world.desks.iter().all(|desk| desk.load(SeqCst) != 0);
                wait_until(PATIENCE, || connected() || threads.iter().any(|thread| thread.is_finished()));
                if let Some(blow) = of_standby {
                    let reader = standby.cluster.session();
                    thread::sleep(Duration::from_millis(rng.random_range(5..150)));
                    let restartpoint = scope.spawn(move || reader.try_run("checkpoint").is_ok());
                    thread::sleep(Duration::from_millis(rng.random_range(0..60)));
                    standby.suffer(blow, rng);
                    let _ = restartpoint.join();
                }
                thread::sleep(Duration::from_millis(rng.random_range(5..150)));
                if has_keepers(&watch) {
                    world.count("kills with keepers");
                }
                match blow {
                    Blow::Kill(target) => strike(&mut primary.cluster, world, rng, target, &mut log),
                    _ => {
                        primary.power_fails();
                        Struck::All
                    }
                }
            }));
            match struck {
                Ok(Struck::Child(process, _)) => ours.push(process.pid),
                Ok(Struck::All) => {}
                Err(panic) => {
                    failures.push(text(&*panic));
                    drop(catch_unwind(AssertUnwindSafe(|| kill_all(&mut primary.cluster))));
                }
            }
            let ends =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| Err(text(&*panic))));
            failures.extend(ends.filter_map(Result::err));
        });
        assert!(failures.is_empty(), "{blow:?}, {of_standby:?}: {}", failures.join("\nand: "));
        match (blow, ours.is_empty()) {
            (_, false) => {
                let again = "database system is ready to accept connections";
                assert!(log.has(again, PATIENCE), "the postmaster has not recovered");
            }
            (Blow::Promotion, _) => self.promote(),
            (Blow::PowerTwice, _) => {
                crash_in_recovery(&mut self.primary.cluster, &mut self.rng);
                self.primary.volume.lose_power();
                self.primary.cluster.start();
            }
            _ => self.primary.cluster.start(),
        }
        if [&self.primary, &self.standby].iter().any(|node| server_has_lost_prepared(&node.cluster)) {
            self.forsaken = true;
            return;
        }
        self.count(0, blow);
        if let Some(blow) = of_standby {
            self.count(1, blow);
        }
        self.await_standby();
        self.judge();
        let alarming = log.alarming(&ours);
        assert!(alarming.is_empty(), "{blow:?}, {of_standby:?}: the log says {alarming:?}");
    }

    /// The primary is dead. The standby takes its place, and the other way round.
    fn promote(&mut self) {
        let db = self.standby.cluster.session();
        db.run("select pg_promote()");
        wait_until(PATIENCE, || db.text("select pg_is_in_recovery()") == "f");
        drop(db);
        std::mem::swap(&mut self.primary, &mut self.standby);
        if self.rng.random_bool(0.5) {
            let blow = if self.rng.random_bool(0.5) { Blow::Power } else { Blow::PowerTwice };
            self.primary.kill(blow, &mut self.rng);
        }
        // Until then pg_rewind does not see the new timeline.
        self.primary.cluster.session().run("checkpoint");
        rewind(&mut self.standby.cluster, &self.primary.cluster);
        self.standby.cluster.start();
        self.world.config = self.primary.cluster.config(POSTGRES, POSTGRES);
        self.promotions += 1;
    }

    fn judge(&mut self) {
        let db = self.primary.cluster.session();
        judge::after_a_crash(&db, &self.world, &mut self.of_clients, &mut self.verdict);
        self.clones.after_a_crash(&self.primary.cluster, &self.world, &mut self.verdict);
        let prepared = self.of_clients.iter().any(|transactions| !transactions.prepared.is_empty());
        if prepared && self.rng.random_bool(0.3) {
            // A standby keeps the locks that a crash of the primary has left until older prepared transactions have ended.
            return;
        }
        let rng = &mut self.rng;
        if judge::end_prepared(&db, &mut self.of_clients, || rng.random_bool(0.5)) > 0 {
            // It logs which transactions are running.
            db.run("checkpoint");
        }
        self.judge_standby(&db);
    }

    /// The standby has what the clients know the primary to have.
    fn judge_standby(&mut self, db: &Session) {
        let reader = self.standby.cluster.session();
        replayed(db, &reader);
        judge::at_rest(&reader, &self.world, &self.of_clients, &mut self.verdict);
        let [here, there] = [&self.primary, &self.standby].map(|node| {
            judge::read_table(&node.cluster.session_in(SOURCE), &self.world, "t", &mut self.verdict)
        });
        if here != there {
            self.verdict.lost([format!("{SOURCE} is another one on the standby")]);
        }
    }

    /// In the end the vacuum collects whatever no row needs, and the check has nothing to say of either server.
    fn end(&mut self) {
        let databases = [self.primary.cluster.session(), self.primary.cluster.session_in(SOURCE)];
        judge::end_prepared(&databases[0], &mut self.of_clients, || true);
        databases[0].run("checkpoint");
        self.clones.drop_all(&databases[0]);
        self.primary.cluster.set_conf("rbytea.vacuum_full_interval = 1s");
        self.primary.cluster.reload();
        outlive_unfinished_owners(&self.primary.root);
        judge::everything_else_goes(&self.primary.root, &databases, &mut self.verdict, Among::All, || {
            for db in &databases {
                // The background vacuum may be at work, which is why a mark can be given up.
                let _ = db.try_run("select rvacuum_purge()");
            }
        });
        self.judge_standby(&databases[0]);
        judge::check_is_silent(&databases, &mut self.verdict);
        // What a server had stored and not sent when the other one took its place is garbage that only a vacuum of its own collects.
        let damage = "select relation, uuid, problem from rbytea_check(digest => true) where problem <> 'unreferenced'";
        for there in [self.standby.cluster.session(), self.standby.cluster.session_in(SOURCE)] {
            self.verdict
                .dangling(there.text(damage).lines().map(|line| format!("the standby's check: {line}")));
        }
    }
}

/// Makes OWNERs that were being written when a server was killed in recovery, which adopts its store, older than the day for which the
/// vacuum leaves them alone.
fn outlive_unfinished_owners(root: &Path) {
    let unfinished = |path: &PathBuf| path.to_string_lossy().contains("/OWNER.");
    for path in entries(root).iter().filter(|path| unfinished(path)) {
        File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
    }
}

/// Ends keepers as an administrator can, and makes checkpoints, until the server is killed.
fn disturb(world: &World) -> Result<(), String> {
    let Ok(db) = Session::try_connect(&world.config) else { return Ok(()) };
    let mut rng = world.rng();
    let keepers = "from pg_stat_activity where backend_type = 'rbytea keeper'";
    loop {
        let sql = match rng.random_range(0..60) {
            0 => format!("select pg_terminate_backend(pid) {keepers}"),
            1 => format!("select pg_terminate_backend(pid) {keepers} order by random() limit 1"),
            2..8 => "checkpoint".to_owned(),
            _ => "select".to_owned(),
        };
        if db.try_run(&sql).is_err() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(rng.random_range(1..30)));
    }
}

/// Blows in a new order, again and again.
fn next(deck: &mut Vec<Blow>, blows: &[Blow], rng: &mut StdRng) -> Blow {
    if deck.is_empty() {
        deck.extend(blows);
        deck.shuffle(rng);
    }
    deck.pop().unwrap_or(Blow::Power)
}

/// A pair that is struck until both have been killed so often, and so many standbys have taken over, or a server has lost what it had to
/// keep. How often that was.
fn campaign(seed: u64, kills: [u64; 2], promotions: u64) -> ([u64; 2], u64, Found) {
    let mut pair = Pair::new(seed);
    let (mut blows, mut of_standby) = (Vec::new(), Vec::new());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let is_done = |pair: &Pair| {
            pair.kills[0] >= kills[0] && pair.kills[1] >= kills[1] && pair.promotions >= promotions
        };
        while pair.verdict.is_good() && !pair.forsaken && !is_done(&pair) {
            let few = pair.kills[0] >= kills[0];
            let blow = if few { Blow::Promotion } else { next(&mut blows, BLOWS, &mut pair.rng) };
            let standby = next(&mut of_standby, BLOWS_OF_STANDBY, &mut pair.rng);
            let standby = (pair.kills[1] < kills[1]).then_some(standby);
            pair.round(blow, standby);
        }
        if pair.verdict.is_good() && !pair.forsaken {
            pair.end();
        }
    }));
    let found = pair.verdict.found();
    let report = format!(
        "pair: RBYTEA_CRASHES_SEED={seed} {} kills of the primary, {} of the standby, {} promotions, lost {}, dangling {}, leaked {}; {:?}; {}",
        pair.kills[0],
        pair.kills[1],
        pair.promotions,
        found.lost,
        found.dangling,
        found.leaked,
        pair.blows,
        pair.world.summary()
    );
    let _ = writeln!(std::io::stderr(), "{report}");
    if let Err(panic) = outcome {
        panic!("{}\n{report}", text(&*panic));
    }
    if !pair.verdict.is_good() {
        // Such a commit is acknowledged, and a promotion may take it back.
        let cancelled = [&pair.primary, &pair.standby].map(|node| node.cluster.log());
        let cancelled: Vec<&str> = cancelled
            .iter()
            .flat_map(|log| log.lines())
            .filter(|line| line.contains("wait for synchronous"))
            .collect();
        panic!("{}\n{}\n{report}", pair.verdict.text(), cancelled.join("\n"));
    }
    (pair.kills, pair.promotions, found)
}

#[test]
fn whichever_server_is_killed_no_commit_is_lost_on_the_primary_or_its_standby() {
    let kills = number("RBYTEA_CRASHES").unwrap_or(KILLS);
    let seed = number("RBYTEA_CRASHES_SEED").unwrap_or_else(rand::random);
    let (mut left, mut promotions) = ([kills; 2], number("RBYTEA_PROMOTIONS").unwrap_or(1));
    let mut sum = Found::default();
    // One pair, unless one of its servers has lost what it had to keep.
    for campaign_number in 0.. {
        let (done, promoted, found) = campaign(seed.wrapping_add(campaign_number), left, promotions);
        sum = sum.and(Found { cases: done.iter().sum(), ..found });
        left = [0, 1].map(|who| left[who].saturating_sub(done[who]));
        promotions = promotions.saturating_sub(promoted);
        if left == [0, 0] && promotions == 0 {
            break;
        }
    }
    for promise in [Promise::Durable, Promise::Replication, Promise::Collected] {
        proves(promise, sum);
    }
}
