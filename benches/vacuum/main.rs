//! The vacuum beside vacuumlo, over the number of payloads: the same ones as files of rbytea and as large objects; a part
//! of each is deleted, then `rvacuum()` and `vacuumlo` run in turn, and rounds of the background worker. `make bench-vacuum`
//! runs it and writes docs/BENCHMARK-VACUUM.md, docs/benchmark-vacuum.json and a chart. Every number of payloads has a cluster of
//! its own.
//!
//! Arguments, each optional: `payloads=10000,1000000`, `size=1024`, `rounds=3`, `to=DIRECTORY`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../../tests/server/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/server/installation.rs"]
mod installation;
#[path = "../../tests/server/session.rs"]
mod session;
#[path = "../../tests/server/store_files.rs"]
mod store_files;

mod report;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster::{Cluster, wait_until};
use report::{Report, Run};
use session::Session;

/// Payloads in one transaction.
const BATCH: u64 = 100_000;
/// A run takes no longer.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A hundredth is deleted before each run that has garbage to find.
const HUNDREDTH: u64 = 100;

struct Arguments {
    payloads: Vec<u64>,
    /// Bytes of each.
    size: u64,
    rounds: u64,
    to: PathBuf,
}

fn main() {
    // Clusters belong on a disk, where an fsync is one.
    // SAFETY: nothing else runs yet.
    unsafe { std::env::set_var("RBYTEA_ON_DISK", "1") };
    let mut arguments =
        Arguments { payloads: vec![10_000, 100_000, 1_000_000], size: 1024, rounds: 3, to: "docs".into() };
    // cargo bench adds --bench.
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let number = |text: &str| text.parse::<u64>().expect("a number");
        match name {
            "payloads" => arguments.payloads = value.split(',').map(number).collect(),
            "size" => arguments.size = number(value),
            "rounds" => arguments.rounds = number(value),
            "to" => arguments.to = value.into(),
            _ => panic!("no such argument: {argument}"),
        }
    }
    let mut report = Report::new(arguments.size, arguments.rounds);
    for &payloads in &arguments.payloads {
        measure_all(payloads, &arguments, &mut report);
    }
    report.write(&arguments.to);
}

/// Everything about one number of payloads.
fn measure_all(payloads: u64, arguments: &Arguments, report: &mut Report) {
    let cluster = Cluster::with_extension_and(&[
        "wal_level = replica",
        "max_wal_size = '8GB'",
        "checkpoint_timeout = '1h'",
        "rbytea.vacuum_naptime = '1s'",
    ]);
    let db = cluster.session();
    db.run("set statement_timeout = 0; create table files (n bigint, c rbytea); create table objects (n bigint, o oid)");
    report.version = db.text("select version()");
    eprintln!("{payloads} payloads of {} bytes", arguments.size);
    load(&db, payloads, arguments.size);

    let mut run = |what: Run, garbage: &'static str, measured: Measured| {
        eprintln!(
            "{}, {garbage}: {:.2} s, {:.1} MiB",
            what.name(),
            measured.seconds,
            measured.memory as f64 / 1024.0
        );
        report.add(payloads, what, garbage, measured);
    };
    for _ in 0..arguments.rounds {
        run(Run::Rvacuum, "nothing", rvacuum(&cluster, 0));
        run(Run::Vacuumlo, "nothing", vacuumlo(&cluster, 0));
    }
    for round in 0..arguments.rounds {
        let garbage = delete(&db, &format!("n % {HUNDREDTH} = {round}"));
        run(Run::Rvacuum, "1 %", rvacuum(&cluster, garbage));
        run(Run::Vacuumlo, "1 %", vacuumlo(&cluster, garbage));
        // A thousand new files, half of them without a row.
        let new = payload(arguments.size, "-i");
        db.run(&format!(
            "insert into files select -i, {new} from generate_series(1, 500) i;
             begin; insert into files select -i, {new} from generate_series(1, 500) i; rollback"
        ));
        run(Run::Ordinary, "500 files", background(&cluster, &db, "lower <> '0'"));
        let garbage = delete(&db, &format!("n % {HUNDREDTH} = {}", arguments.rounds + round));
        db.run("select pg_stat_force_next_flush()");
        run(Run::Whole, "1 %", background(&cluster, &db, "lower = '0'"));
        // The next round finds the objects of its own deletions only.
        vacuumlo(&cluster, garbage);
    }
    for round in 0..arguments.rounds.min(2) {
        let garbage = delete(
            &db,
            &format!("n / {HUNDREDTH} % 2 = 0 and {round} = 0 or n / {HUNDREDTH} % 4 = 1 and {round} = 1"),
        );
        run(Run::Rvacuum, "50 %", rvacuum(&cluster, garbage));
        run(Run::Vacuumlo, "50 %", vacuumlo(&cluster, garbage));
    }
    let rows: i64 = db.one("select count(*) from files", &[]);
    assert_eq!(cluster.live().len() as i64, rows, "a file for each row and no other");
}

/// Deletes these rows from both tables, and says how many each has lost.
fn delete(db: &Session, which: &str) -> u64 {
    let deleted =
        ["files", "objects"].map(|table| db.execute(&format!("delete from {table} where {which}"), &[]));
    assert_eq!(deleted[0], deleted[1]);
    deleted[0]
}

fn rvacuum(cluster: &Cluster, garbage: u64) -> Measured {
    let session = cluster.session();
    session.run("set statement_timeout = 0");
    measure(
        || {
            let trashed = session.one::<i64>("select rvacuum()", &[]);
            assert_eq!(trashed, garbage as i64, "rvacuum() moved the garbage and nothing else");
            Vec::new()
        },
        cluster,
    )
}

fn vacuumlo(cluster: &Cluster, garbage: u64) -> Measured {
    let (host, port) = (cluster.dir().display().to_string(), cluster.port().to_string());
    measure(
        || {
            let output = Command::new(cluster.tool("vacuumlo"))
                .args(["--host", &host, "--port", &port, "--username=postgres", "--verbose", "postgres"])
                .output()
                .unwrap();
            assert!(output.status.success(), "vacuumlo: {}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let removed = format!("removed {garbage} large objects");
            let last = said.rsplit('\r').next().unwrap_or_default();
            assert!(garbage == 0 || said.contains(&removed), "vacuumlo said at last: {last}");
            Vec::new()
        },
        cluster,
    )
}

/// The same payloads as files and as large objects.
fn load(db: &Session, payloads: u64, size: u64) {
    for (what, statement) in [
        ("files", format!("insert into files select i, {} from generate_series($, $) i", payload(size, "i"))),
        (
            "objects",
            format!(
                "insert into objects select i, lo_from_bytea(0, {}) from generate_series($, $) i",
                payload(size, "i")
            ),
        ),
    ] {
        let clock = Instant::now();
        let mut first = 1;
        while first <= payloads {
            let last = (first + BATCH - 1).min(payloads);
            db.run(&statement.replacen('$', &first.to_string(), 1).replacen('$', &last.to_string(), 1));
            first = last + 1;
        }
        db.run(&format!("vacuum analyze {what}"));
        eprintln!("loading {what}: {:.0} s", clock.elapsed().as_secs_f64());
    }
    for statement in ["vacuum analyze pg_largeobject_metadata", "vacuum analyze pg_largeobject", "checkpoint"]
    {
        db.run(statement);
    }
}

/// An expression for a payload that does not compress.
fn payload(size: u64, seed: &str) -> String {
    format!(
        "(select substring(string_agg(sha512(('{seed}' || ({seed})::text || ',' || k)::bytea), '') from 1 for {size}) from generate_series(1, {}) k)",
        size.div_ceil(64)
    )
}

/// One run.
#[derive(Clone, Copy, serde::Serialize)]
struct Measured {
    seconds: f64,
    /// Peak of the private memory of the largest process that worked for it, in KiB.
    memory: u64,
}

/// Lets the background worker visit the database until it has made one run of this kind.
fn background(cluster: &Cluster, db: &Session, kind: &str) -> Measured {
    let last: i64 = db.one("select max(id) from rbytea_vacuum_history", &[]);
    let query = format!(
        "select extract(epoch from finished - started)::float8 from rbytea_vacuum_history where id > {last} and {kind}"
    );
    let mut measured = measure(
        || {
            db.run("alter system set rbytea.databases_for_vacuuming = 'postgres'");
            db.run("select pg_reload_conf()");
            wait_until(PATIENCE, || !db.column::<f64>(&query, &[]).is_empty());
            vec![db.pid()]
        },
        cluster,
    );
    db.run("alter system reset rbytea.databases_for_vacuuming");
    db.run("select pg_reload_conf()");
    wait_until(PATIENCE, || {
        db.text("select count(*) from pg_stat_activity where backend_type = 'rbytea vacuum worker'") == "0"
    });
    measured.seconds = db.column::<f64>(&query, &[])[0];
    measured
}

/// Runs `work` and watches the memory of every process of the cluster and of vacuumlo meanwhile, but for those that `work`
/// names.
fn measure(work: impl FnOnce() -> Vec<i32>, cluster: &Cluster) -> Measured {
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (done, data) = (Arc::clone(&done), cluster.data());
        thread::spawn(move || {
            let mut peaks: HashMap<i32, u64> = HashMap::new();
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
                    else {
                        continue;
                    };
                    let ours = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data)
                        || fs::read_to_string(entry.path().join("comm"))
                            .is_ok_and(|comm| comm.trim() == "vacuumlo");
                    if let Some(memory) = private_memory(pid).filter(|_| ours) {
                        let peak = peaks.entry(pid).or_insert(memory);
                        *peak = memory.max(*peak);
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
            peaks
        })
    };
    let clock = Instant::now();
    let others = work();
    let seconds = clock.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let peaks = watcher.join().unwrap();
    let memory = peaks.into_iter().filter(|(pid, _)| !others.contains(pid)).map(|(_, peak)| peak).max();
    Measured { seconds, memory: memory.unwrap_or(0) }
}

/// Anonymous memory of a process in KiB: not the shared buffers that it has touched.
fn private_memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
