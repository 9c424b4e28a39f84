//! The vacuum beside vacuumlo: the same payloads as files of rbytea and as large objects, one percent of each deleted, then
//! `rvacuum()`, a round of the background worker, and `vacuumlo`, in turn, with the time and the memory of each.
//! `make bench-vacuum` runs it; the arguments are the number of payloads (1000000) and their size in bytes (1024).
//! Starts a cluster of its own and removes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../tests/server/cluster.rs"]
mod cluster;
#[path = "../tests/server/installation.rs"]
mod installation;
#[path = "../tests/server/session.rs"]
mod session;
#[path = "../tests/server/store_files.rs"]
mod store_files;

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster::{Cluster, wait_until};
use session::Session;

/// How often each is measured.
const ROUNDS: u32 = 3;
/// Every so many payloads, one is deleted in each round.
const DELETED: u64 = 100;
/// Payloads in one transaction.
const BATCH: u64 = 100_000;
/// A run takes no longer.
const PATIENCE: Duration = Duration::from_secs(3600);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let payloads = arguments.next().unwrap_or(1_000_000);
    let size = arguments.next().unwrap_or(1024);
    let cluster = Cluster::with_extension_and(&[
        "max_wal_size = '8GB'",
        "checkpoint_timeout = '1h'",
        "rbytea.vacuum_naptime = '1s'",
    ]);
    let db = cluster.session();
    db.run("set statement_timeout = 0; create table files (n bigint, c rbytea); create table objects (n bigint, o oid)");
    println!("{}", db.one::<String>("select version()", &[]));
    println!("{payloads} payloads of {size} bytes, a hundredth of them deleted before each run\n");
    load(&db, payloads, size);

    let mut results: Vec<(&str, Vec<Measured>)> = vec![
        ("rvacuum()", vec![]),
        ("vacuumlo", vec![]),
        ("background, new files", vec![]),
        ("background, whole", vec![]),
    ];
    for round in 0..ROUNDS {
        let garbage = payloads / DELETED;
        for table in ["files", "objects"] {
            db.run(&format!("delete from {table} where n % {DELETED} = {round}"));
        }
        results[0].1.push(measure(
            || {
                let session = cluster.session();
                session.run("set statement_timeout = 0");
                let trashed = session.one::<i64>("select rvacuum()", &[]);
                assert_eq!(trashed, garbage as i64, "rvacuum() moved the garbage and nothing else");
                Vec::new()
            },
            &cluster,
        ));
        results[1].1.push(measure(
            || {
                let output = Command::new(cluster.tool("vacuumlo"))
                    .args([
                        "--host",
                        &cluster.dir().display().to_string(),
                        "--port",
                        &cluster.port().to_string(),
                    ])
                    .args(["--username=postgres", "--verbose", "postgres"])
                    .output()
                    .unwrap();
                assert!(output.status.success(), "vacuumlo: {}", String::from_utf8_lossy(&output.stderr));
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.contains(&format!("removed {garbage} large objects")), "vacuumlo said: {said}");
                Vec::new()
            },
            &cluster,
        ));
        // A thousand new files, half of them without a row.
        db.run(&format!(
            "insert into files select -i, {} from generate_series(1, 500) i;
             begin; insert into files select -i, {} from generate_series(1, 500) i; rollback",
            payload(size, "-i"),
            payload(size, "-i"),
        ));
        results[2].1.push(background(&cluster, &db, "lower <> '0'"));
        db.run(&format!("delete from files where n % {DELETED} = {}", ROUNDS + round));
        db.run("select pg_stat_force_next_flush()");
        results[3].1.push(background(&cluster, &db, "lower = '0'"));
    }
    let rows: i64 = db.one("select count(*) from files", &[]);
    let live = cluster.live().len();
    assert_eq!(live as i64, rows, "a file for each row and no other");

    println!("{:<24} {:>10} {:>24} {:>16}", "", "seconds", "(each)", "private memory");
    for (name, measured) in &results {
        let mut seconds: Vec<f64> = measured.iter().map(|run| run.seconds).collect();
        let each = seconds.iter().map(|each| format!("{each:.2}")).collect::<Vec<_>>().join(" ");
        seconds.sort_by(f64::total_cmp);
        let memory = measured.iter().map(|run| run.memory).max().unwrap_or(0);
        println!(
            "{name:<24} {:>10.2} {each:>24} {:>12.1} MiB",
            seconds[seconds.len() / 2],
            memory as f64 / 1024.0
        );
    }
    let median = |index: usize| {
        let mut seconds: Vec<f64> = results[index].1.iter().map(|run| run.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    println!("\nvacuumlo takes {:.1} times as long as rvacuum()", median(1) / median(0));
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
        println!("loading {what}: {:.0} s", clock.elapsed().as_secs_f64());
    }
    for statement in ["vacuum analyze pg_largeobject_metadata", "vacuum analyze pg_largeobject", "checkpoint"]
    {
        db.run(statement);
    }
    println!();
}

/// An expression for a payload that does not compress.
fn payload(size: u64, seed: &str) -> String {
    format!(
        "(select substring(string_agg(sha512(('{seed}' || ({seed})::text || ',' || k)::bytea), '') from 1 for {size}) from generate_series(1, {}) k)",
        size.div_ceil(64)
    )
}

/// One run.
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
