//! Payloads of any size: how fast they come in and go out beside large objects, bytea and what is possible; what memory that takes; dumps by
//! reference; migration of large objects. `make bench-streams` runs it and prints the tables, which docs/SPEED.md quotes.
//!
//! Arguments, each optional: `parts=transfer,memory,dump,migration`, `rounds=3`, `size=1073741824` (transfer), `large=8589934592` (memory),
//! `count=100000` (dump, migration), `payload=4096` (dump), `object=16384` (migration). A file `rbytea` beside the server's programs is
//! the tool.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;
mod dump;
mod migration;
mod transfer;
mod wire;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use common::cluster::{Cluster, POSTGRES};
use common::session::{connect, runtime};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_postgres::Client;

/// What is to be measured.
pub struct Arguments {
    pub rounds: usize,
    pub size: u64,
    pub large: u64,
    pub count: u64,
    pub payload: u64,
    pub object: u64,
}

/// Bytes that are sent, or asked for, at once.
pub const CHUNK: usize = 1 << 20;

fn main() {
    common::on_disk();
    let mut parts = "transfer,memory,dump,migration".to_owned();
    let mut arguments = Arguments {
        rounds: 3,
        size: 1 << 30,
        large: 8 << 30,
        count: 100_000,
        payload: 4096,
        object: 16 << 10,
    };
    // cargo bench adds --bench.
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        let number = |text: &str| text.parse().expect("a number");
        match argument.split_once('=') {
            Some(("parts", list)) => parts = list.to_owned(),
            Some(("rounds", text)) => arguments.rounds = number(text) as usize,
            Some(("size", text)) => arguments.size = number(text),
            Some(("large", text)) => arguments.large = number(text),
            Some(("count", text)) => arguments.count = number(text),
            Some(("payload", text)) => arguments.payload = number(text),
            Some(("object", text)) => arguments.object = number(text),
            _ => panic!("no such argument: {argument}"),
        }
    }
    println!("{}\n", common::machine());
    for part in parts.split(',') {
        match part {
            "transfer" => transfer::speed(&arguments),
            "memory" => transfer::memory(&arguments),
            "dump" => dump::run(&arguments),
            "migration" => migration::run(&arguments),
            _ => panic!("no such part: {part}"),
        }
    }
}

/// A cluster with the tables.
pub fn cluster() -> Cluster {
    let cluster = Cluster::with_extension_and(&[
        "max_wal_size = '32GB'",
        "checkpoint_timeout = '1d'",
        "shared_buffers = '256MB'",
    ]);
    cluster.session().run(
        "create table files (id bigint primary key, name text, c rbytea);
         create table plain (id bigint primary key, c bytea); alter table plain alter c set storage external;
         create table objects (id bigint primary key, o oid)",
    );
    cluster
}

/// A client that nobody else uses, and the process ID of its backend.
pub fn client(cluster: &Cluster) -> (Client, i32) {
    runtime().block_on(async {
        let client = connect(&cluster.config(POSTGRES, POSTGRES)).await;
        let pid = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        (client, pid)
    })
}

/// A file of so many random bytes.
pub fn random_file(directory: &Path, len: u64) -> PathBuf {
    let path = directory.join(format!("random-{len}"));
    let mut file = BufWriter::with_capacity(CHUNK, File::create(&path).unwrap());
    let mut random = StdRng::seed_from_u64(len);
    let mut block = vec![0; CHUNK];
    let mut left = len;
    while left > 0 {
        random.fill_bytes(&mut block);
        let take = left.min(CHUNK as u64);
        file.write_all(&block[..take as usize]).unwrap();
        left -= take;
    }
    file.into_inner().unwrap().sync_all().unwrap();
    path
}

/// Seconds that work takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Everything that is dirty is written, so that nobody's work is measured with another's.
pub fn settle(cluster: &Cluster) {
    cluster.session().run("checkpoint");
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::sync() };
}

/// Marks the most private memory of a process from now on.
pub fn mark_memory(pid: i32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// The most since then, in bytes: the high-water mark without the pages of files and of shared memory, which are not given back.
pub fn private_peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
    };
    (field("VmHWM") - field("RssFile") - field("RssShmem")) * 1024
}
