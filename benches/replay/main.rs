//! How fast a standby replays payloads: rbytea with all of them in the WAL beside bytea. `make bench-replay` runs it and prints the table,
//! which docs/SPEED.md quotes.
//!
//! A cluster is copied while it is stopped, then it stores payloads of one kind; a copy gets the WAL of that and recovers to its end.
//! What is measured is the time that redo takes by the server's own log. Both kinds take turns.
//!
//! Arguments, each optional: `rounds=5`, `sizes=4096,1048576`, `volume=134217728`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::cluster::{Cluster, Shutdown, wait_until};
use common::{Retired, median};

fn main() {
    common::on_disk();
    let (mut rounds, mut sizes, mut volume) = (5, vec![4 << 10, 1 << 20_u64], 128 << 20_u64);
    // cargo bench adds --bench.
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.split_once('=') {
            Some(("rounds", number)) => rounds = number.parse().expect("a number"),
            Some(("volume", number)) => volume = number.parse().expect("a number"),
            Some(("sizes", list)) => {
                sizes = list.split(',').map(|size| size.parse().expect("a number")).collect();
            }
            _ => panic!("no such argument: {argument}"),
        }
    }
    let mut retired = Retired::default();
    println!("{}\n", common::machine());
    println!("| median of {rounds} turns, payloads replayed a second | rbytea | bytea | rbytea to bytea |");
    println!("|---|--:|--:|--:|");
    for size in sizes {
        let rows = volume / size;
        let mut seconds = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (kind, seconds) in ["rbytea", "bytea"].iter().zip(&mut seconds) {
                let taken = replay(kind, size, rows, &mut retired);
                if round > 0 {
                    seconds.push(taken);
                }
            }
        }
        let [own, other] = seconds;
        let ratio = median(own.iter().zip(&other).map(|(own, other)| other / own));
        let [own, other] = [own, other].map(|seconds| rows as f64 / median(seconds));
        println!("| {size} | {own:.0} | {other:.0} | {ratio:.2} |");
    }
}

/// The seconds that redo takes for so many payloads.
fn replay(kind: &str, size: u64, rows: u64, retired: &mut Retired) -> f64 {
    let conf = ["rbytea.wal_payload_limit = -1", "max_wal_size = '16GB'", "checkpoint_timeout = '1d'"];
    let mut cluster = Cluster::with_extension_and(&conf);
    cluster.session().run(&format!(
        "create table t (n int, c {kind}); alter table t alter c set storage external;
         create table noise as select decode(string_agg(md5(n::text), ''), 'hex') b from generate_series(1, {}) n;
         select rbytea_store('makes the store')",
        size / 16
    ));
    cluster.stop(Shutdown::Fast);
    let mut copy = Cluster::stopped_with(&conf);
    fs::remove_dir_all(copy.data()).unwrap();
    copied(&cluster.data(), &copy.data());
    cluster.start();
    // Each has a beginning of its own, so that none is compressed or found to be another one.
    cluster.session().run(&format!(
        "insert into t select n, overlay(b placing int8send(n) from 1) from noise, generate_series(1, {rows}) n"
    ));
    cluster.stop(Shutdown::Immediate);
    fs::remove_dir_all(copy.data().join("pg_wal")).unwrap();
    copied(&cluster.data().join("pg_wal"), &copy.data().join("pg_wal"));
    for line in [
        format!("port = {}", copy.port()),
        format!("unix_socket_directories = '{}'", copy.dir().display()),
        "restore_command = 'false'".to_owned(),
    ] {
        copy.set_conf(&line);
    }
    fs::write(copy.data().join("recovery.signal"), "").unwrap();
    rustix::fs::sync();
    copy.start();
    let db = copy.session();
    wait_until(common::cluster::PATIENCE, || db.text("select pg_is_in_recovery()") == "f");
    assert_eq!(db.text("select count(*) from t where length(c::bytea) > 0"), rows.to_string());
    let log = copy.log();
    let line = log.lines().rfind(|line| line.contains("redo done at")).expect("redo has ended");
    let seconds = line.rsplit("elapsed: ").next().unwrap().trim_end_matches(" s").parse().unwrap();
    drop(db);
    cluster.start();
    retired.add(cluster);
    retired.add(copy);
    seconds
}

fn copied(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}
