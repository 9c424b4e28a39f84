//! rbytea beside bytea, large objects and plain files: what each writes and reads, and what it costs the server.
//! `make bench` runs it and writes docs/BENCHMARK.md, docs/benchmark.json and charts.
//!
//! Every cell (payload size, rows per commit, clients) has a cluster of its own on disk with PostgreSQL's default durability.
//! In each round every contestant writes and reads once, in another order each time, so that what else the machine does
//! hits all of them; figures are medians over the rounds.
//!
//! Arguments, each optional: `sizes=4K,1M`, `rows=1,100`, `clients=1` (more than one client with the fewest rows only), `rounds=3`, `limit=2G` (most bytes of one commit
//! of all clients; what is beyond is not run), `only=bytea,rbytea`, `to=DIRECTORY`. Charts are drawn where at least two sizes were run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;

mod arguments;
mod cell;
mod contestant;
mod memory;
mod meter;
mod report;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use arguments::Arguments;
use cell::{Cell, Kind};
use common::Retired;
use common::ballast::Ballast;
use common::cluster::Cluster;
use contestant::{Contestant, Payload};
use meter::Meter;
use report::{Figures, Report};

/// Bytes that all clients of a contestant write in one round, if that makes at least one commit of each and at most [`MOST_COMMITS`].
const VOLUME: usize = 64 << 20;
const MOST_COMMITS: usize = 2000;
/// Bytes that are read in one round, if that takes at most [`MOST_PASSES`] over what was written.
const READ_VOLUME: usize = 128 << 20;
const MOST_PASSES: usize = 20;
/// Less is not timed with a checkpoint, which takes its time for nothing, too.
const WORTH_A_CHECKPOINT: usize = 16 << 20;
/// Rows that each client stores first in its turn: they pay for the images of pages in the WAL after the checkpoint, and, in
/// the first turn, for the five executions that PostgreSQL plans each by itself.
const WARM_UP: usize = 6;
/// Bytes of each, or a payload's, if that is less.
const WARM_UP_SIZE: usize = 4 << 10;
/// Commits of more bytes are made in fewer rounds.
const HEAVY: usize = 512 << 20;
const HEAVY_ROUNDS: usize = 2;
/// Where all contestants of a cell together store more, each turn begins with nothing and with new connections: a disk may have
/// no room for all that, and memory none for the buffers of all clients.
const ROOM: usize = 8 << 30;

fn main() {
    let arguments = Arguments::from_environment();
    common::on_disk();
    let mut report = Report::default();
    let (mut ballast, mut retired) = (Ballast::new(), Retired::default());
    report.machine = format!("{}{}", common::machine(), ballast.describe());
    for cell in arguments.cells() {
        eprintln!("{cell}");
        retired.add(run(cell, &arguments, &mut ballast, &mut report));
        report.write(&arguments);
    }
    report.memory = memory::measure(&arguments, &mut retired);
    report.write(&arguments);
    println!("{}", report.text(&arguments));
}

/// PostgreSQL's defaults, a key, and room for the locks of lo_unlink(). Autovacuum is off: its work would slow down whatever is
/// measured at that moment.
fn cluster() -> Cluster {
    let mut cluster = Cluster::stopped_with(&[
        "wal_level = replica",
        "autovacuum = off",
        "max_prepared_transactions = 0",
        // lo_unlink() locks each.
        "max_locks_per_transaction = 1024",
    ]);
    let keys = cluster.dir().join("keys");
    let made = cluster
        .server_command("sh")
        .arg("-c")
        .arg(format!("umask 077 && echo 1 {} > '{}'", "5a".repeat(32), keys.display()))
        .status();
    assert!(made.unwrap().success(), "the key file");
    cluster.set_conf(&format!("rbytea.key_file = '{}'", keys.display()));
    cluster.start();
    cluster.session().run(contestant::SETUP);
    cluster
}

/// All rounds of a cell, on the cluster that is returned.
fn run(cell: Cell, arguments: &Arguments, ballast: &mut Ballast, report: &mut Report) -> Cluster {
    let cluster = cluster();
    let admin = cluster.session();
    report.version = admin.text("select version()");
    report.file_system = common::file_system(cluster.dir());
    report.settings = common::settings(&admin);
    let kinds: Vec<Kind> = Kind::of(cell).into_iter().filter(|kind| arguments.wants(*kind)).collect();
    let commits = (VOLUME / cell.bytes()).clamp(1, MOST_COMMITS);
    let rounds = if cell.bytes() > HEAVY { arguments.rounds.min(HEAVY_ROUNDS) } else { arguments.rounds };
    let bytes = commits * cell.bytes();
    let anew = bytes * kinds.len() * (rounds + 1) > ROOM;
    let mut teams: Vec<Option<Vec<Contestant>>> = kinds.iter().map(|_| None).collect();
    let mut figures: Vec<Figures> = kinds.iter().map(|_| Figures::default()).collect();
    let payloads =
        |size| (0..cell.clients).map(move |client| Payload::new(Cell { size, ..cell }, client)).collect();
    let (mut payloads, mut small): (Vec<_>, Vec<_>) =
        (payloads(cell.size), payloads(cell.size.min(WARM_UP_SIZE)));
    // The first round is for caches, plans, directories and files of WAL that are there to be used again.
    for round in 0..=rounds {
        for which in shuffled(0..kinds.len(), (cell.bytes() + round) as u64) {
            let kind = kinds[which];
            let new = |client| Contestant::new(kind, client, cell, &cluster);
            let mut team = teams[which].take().unwrap_or_else(|| (0..cell.clients).map(new).collect());
            admin.run("checkpoint");
            rustix::fs::sync();
            ballast.fill();
            together(&mut team, &mut small, |contestant, payload| {
                (0..WARM_UP).for_each(|_| drop(contestant.commit(1, payload)));
            });
            let table = kind.table_bytes(&admin);
            let meter = Meter::start(&cluster, &admin, kind);
            let (ids, seconds) = together(&mut team, &mut payloads, |contestant, payload| {
                (0..commits).flat_map(|_| contestant.commit(cell.rows, payload)).collect::<Vec<i64>>()
            });
            let written = meter.stop(&admin, bytes, seconds);
            let table = kind.table_bytes(&admin).zip(table).map(|(after, before)| after - before);
            let settled = (kind.settles() && bytes >= WORTH_A_CHECKPOINT).then(|| {
                let checkpoint = Instant::now();
                if !kind.is_raw() {
                    admin.run("checkpoint");
                }
                bytes as f64 / (seconds + checkpoint.elapsed().as_secs_f64())
            });
            let passes = if kind.is_step() { 0 } else { (READ_VOLUME / bytes).clamp(1, MOST_PASSES) };
            let meter = Meter::start(&cluster, &admin, kind);
            let (_, seconds) = together(&mut team, &mut payloads, |contestant, payload| {
                for pass in 0..passes {
                    for id in shuffled(ids[contestant.client()].iter().copied(), pass as u64) {
                        contestant.read(id, payload);
                    }
                }
            });
            let read = meter.stop(&admin, bytes * passes, seconds);
            let read = (passes > 0).then_some(read);
            if round > 0 {
                figures[which].add(written, table, settled, read);
            }
            if anew {
                drop(team);
                kind.clear(cell, &cluster, &admin);
            } else {
                teams[which] = Some(team);
            }
        }
    }
    report.add(cell, commits, kinds.into_iter().zip(figures).collect());
    cluster
}

/// Lets all clients of a team do the same at the same time; what each of them returned, and the seconds from the start of
/// the first to the end of the last.
fn together<T: Send>(
    team: &mut [Contestant],
    payloads: &mut [Payload],
    work: impl Fn(&mut Contestant, &mut Payload) -> T + Sync,
) -> (Vec<T>, f64) {
    let (work, start) = (&work, &Barrier::new(team.len()));
    let done: Vec<(T, Instant, Instant)> = thread::scope(|scope| {
        let clients: Vec<_> = team
            .iter_mut()
            .zip(payloads)
            .map(|(contestant, payload)| {
                scope.spawn(move || {
                    start.wait();
                    let began = Instant::now();
                    (work(contestant, payload), began, Instant::now())
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let began = done.iter().map(|(_, began, _)| *began).min().unwrap();
    let ended = done.iter().map(|(.., ended)| *ended).max().unwrap();
    (done.into_iter().map(|(result, ..)| result).collect(), (ended - began).as_secs_f64())
}

/// The same numbers in another order, the same one for each seed.
fn shuffled<T>(numbers: impl IntoIterator<Item = T>, seed: u64) -> Vec<T> {
    use rand::seq::SliceRandom;
    let mut numbers: Vec<T> = numbers.into_iter().collect();
    numbers.shuffle(&mut <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed));
    numbers
}
