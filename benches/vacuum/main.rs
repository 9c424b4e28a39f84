//! The vacuum beside vacuumlo, over the number of payloads: the same ones as files of rbytea and as large objects; a part
//! of each is deleted, then `rvacuum()` and `vacuumlo` run in turn, and rounds of the background worker. `make bench-vacuum`
//! runs it and writes docs/BENCHMARK-VACUUM.md, docs/benchmark-vacuum.json and a chart. Every number of payloads has a cluster of
//! its own.
//!
//! Arguments, each optional: `payloads=10000,1000000`, `size=4096`, `rounds=4`, `to=DIRECTORY`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;

mod report;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Retired;
use common::ballast::Ballast;
use common::cluster::{Cluster, wait_until};
use common::session::Session;
use report::{Report, Run};

/// Payloads in one transaction, after which as many transactions are spent, as if each had stored one: a store has directories
/// for each 65,536 transactions.
const BATCH: u64 = 1 << 16;
/// What an ordinary round finds.
pub const NEW: &str = "1,000 new files, 500 garbage";
/// A run takes no longer.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A hundredth is deleted before each run that has that much garbage to find.
const HUNDREDTH: u64 = 100;

struct Arguments {
    payloads: Vec<u64>,
    /// Bytes of each.
    size: u64,
    rounds: u64,
    to: PathBuf,
}

fn main() {
    common::on_disk();
    let mut arguments =
        Arguments { payloads: vec![10_000, 100_000, 1_000_000], size: 4096, rounds: 4, to: "docs".into() };
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
    let (mut ballast, mut retired) = (Ballast::new(), Retired::default());
    let mut report = Report::new(arguments.size, arguments.rounds);
    report.machine = format!("{}{}", common::machine(), ballast.describe());
    for &payloads in &arguments.payloads {
        retired.add(measure_all(payloads, &arguments, &mut ballast, &mut report));
    }
    report.write(&arguments.to);
}

/// Everything about one number of payloads, on the cluster that is returned.
fn measure_all(payloads: u64, arguments: &Arguments, ballast: &mut Ballast, report: &mut Report) -> Cluster {
    let cluster = Cluster::with_extension_and(&[
        "wal_level = replica",
        "max_wal_size = '8GB'",
        "checkpoint_timeout = '1h'",
        "rbytea.vacuum_naptime = '1s'",
    ]);
    let db = cluster.session();
    db.run("set statement_timeout = 0; create table files (n bigint, c rbytea); create table objects (n bigint, o oid)");
    report.version = db.text("select version()");
    report.settings = common::settings(&db);
    report.file_system = common::file_system(cluster.dir());
    eprintln!("{payloads} payloads of {} bytes", arguments.size);
    load(&db, payloads, arguments.size);

    // Warms up, too.
    report.add_memory(payloads, Run::Rvacuum, memory(&cluster, &db, || rvacuum(&cluster, 0)));
    report.add_memory(payloads, Run::Vacuumlo, memory(&cluster, &db, || vacuumlo(&cluster, &db, 0)));
    let mut settle = || {
        db.run("checkpoint");
        rustix::fs::sync();
        ballast.fill();
    };
    let mut run = |what: Run, garbage: &str, seconds: f64| {
        eprintln!("{}, {garbage}: {seconds:.2} s", what.name());
        report.add(payloads, what, garbage, seconds);
    };
    let both = |settle: &mut dyn FnMut(),
                run: &mut dyn FnMut(Run, &str, f64),
                round: u64,
                garbage: u64,
                name: &str| {
        // Neither uses what the other one stores, but the second one may find warmer caches.
        for turn in 0..2 {
            settle();
            if (round + turn).is_multiple_of(2) {
                run(Run::Rvacuum, name, rvacuum(&cluster, garbage));
            } else {
                run(Run::Vacuumlo, name, vacuumlo(&cluster, &db, garbage));
            }
        }
    };
    for round in 0..arguments.rounds {
        both(&mut settle, &mut run, round, 0, "nothing");
    }
    for round in 0..arguments.rounds {
        let garbage = delete(&db, &format!("n % {HUNDREDTH} = {round}"));
        both(&mut settle, &mut run, round, garbage, "1 %");
    }
    for round in 0..arguments.rounds {
        // A thousand new files, half of them without a row.
        let new = payload(arguments.size, "-i");
        db.run(&format!(
            "insert into files select -i, {new} from generate_series(1, 500) i;
             begin; insert into files select -i, {new} from generate_series(1, 500) i; rollback"
        ));
        settle();
        run(Run::Ordinary, NEW, background(&cluster, &db, "lower <> '0'"));
        let garbage = delete(&db, &format!("n % {HUNDREDTH} = {}", HUNDREDTH - 1 - round));
        db.run("select pg_stat_force_next_flush()");
        settle();
        run(Run::Whole, "1 %", background(&cluster, &db, "lower = '0'"));
        vacuumlo(&cluster, &db, garbage);
    }
    // Once, for then there is half as much.
    let garbage = delete(&db, &format!("n > 0 and n / {HUNDREDTH} % 2 = 0"));
    both(&mut settle, &mut run, 0, garbage, "50 %");
    let rows: i64 = db.one("select count(*) from files", &[]);
    assert_eq!(cluster.live().len() as i64, rows, "a file for each row and no other");
    let trash = cluster.trash().len();
    settle();
    let purge = || cluster.session().run("set statement_timeout = 0; select rvacuum_purge()");
    run(Run::Purge, &format!("{trash} files in TRASH"), seconds(purge));
    assert!(trash > 0 && cluster.trash().is_empty(), "the purge has left files");
    settle();
    let tables = ["pg_largeobject", "pg_largeobject_metadata"];
    let vacuum = || tables.iter().for_each(|table| db.run(&format!("vacuum {table}")));
    run(Run::VacuumObjects, "as many objects", seconds(vacuum));
    drop(db);
    cluster
}

/// Deletes these rows from both tables, and says how many each has lost.
fn delete(db: &Session, which: &str) -> u64 {
    let deleted =
        ["files", "objects"].map(|table| db.execute(&format!("delete from {table} where {which}"), &[]));
    assert_eq!(deleted[0], deleted[1]);
    deleted[0]
}

/// From the connection to the end, as for vacuumlo.
fn rvacuum(cluster: &Cluster, garbage: u64) -> f64 {
    seconds(|| {
        let session = cluster.session();
        session.run("set statement_timeout = 0");
        let trashed = session.one::<i64>("select rvacuum()", &[]);
        assert_eq!(trashed, garbage as i64, "rvacuum() moved the garbage and nothing else");
    })
}

fn vacuumlo(cluster: &Cluster, db: &Session, garbage: u64) -> f64 {
    let objects = || db.one::<i64>("select count(*) from pg_largeobject_metadata", &[]);
    let (host, port) = (cluster.dir().display().to_string(), cluster.port().to_string());
    let before = objects();
    let seconds = seconds(|| {
        let mut vacuumlo = Command::new(cluster.tool("vacuumlo"));
        vacuumlo.args(["--host", &host, "--port", &port, "--username=postgres", "postgres"]);
        assert!(vacuumlo.status().unwrap().success(), "vacuumlo has failed");
    });
    assert_eq!(before - objects(), garbage as i64, "vacuumlo removed the garbage and nothing else");
    seconds
}

fn seconds(work: impl FnOnce()) -> f64 {
    let clock = Instant::now();
    work();
    clock.elapsed().as_secs_f64()
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
            if last < payloads && what == "files" {
                // Each by itself: what is sent together is one transaction, which no procedure can end.
                db.run("set synchronous_commit = off");
                db.run(&format!(
                    "do $$ begin for i in 1 .. {BATCH} loop perform pg_current_xact_id(); commit; end loop; end $$"
                ));
                db.run("reset synchronous_commit");
            }
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

/// Lets the background worker visit the database until it has made one run of this kind; its seconds by the history.
fn background(cluster: &Cluster, db: &Session, kind: &str) -> f64 {
    let last: i64 = db.one("select max(id) from rbytea.rbytea_vacuum_history", &[]);
    let query = format!(
        "select extract(epoch from finished - started)::float8 from rbytea.rbytea_vacuum_history where id > {last} and {kind} and error is null"
    );
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    wait_until(PATIENCE, || !db.column::<f64>(&query, &[]).is_empty());
    cluster.set_conf("rbytea.databases_for_vacuuming = ''");
    cluster.reload();
    wait_until(PATIENCE, || {
        db.text("select count(*) from pg_stat_activity where backend_type = 'rbytea vacuum worker'") == "0"
    });
    let seconds = db.column::<f64>(&query, &[])[0];
    eprintln!("background, {kind}: {seconds:.2} s");
    seconds
}

/// The most private memory of a process that takes part in `work`, in KiB: of the cluster, but for the session `db`, and of vacuumlo.
/// Looking takes time, so nothing is timed meanwhile.
fn memory(cluster: &Cluster, db: &Session, work: impl FnOnce() -> f64) -> u64 {
    let (done, data, idle) = (AtomicBool::new(false), cluster.data(), db.pid());
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
                    else {
                        continue;
                    };
                    let ours = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data)
                        || fs::read_to_string(entry.path().join("comm"))
                            .is_ok_and(|comm| comm.trim() == "vacuumlo");
                    if ours && pid != idle {
                        most = most.max(private_memory(pid).unwrap_or(0));
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
            most
        });
        work();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    })
}

/// Anonymous memory of a process in KiB: not the shared buffers that it has touched.
fn private_memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
