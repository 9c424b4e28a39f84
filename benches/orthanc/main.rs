//! Orthanc on its own file system, on the official plugin's large objects, and on the rbytea plugin, plain and encrypted: how fast DICOM files
//! come in, go out and are deleted, and what that writes. `make bench-orthanc` runs it and prints the table, which docs/ORTHANC.md quotes.
//!
//! Arguments, each optional: `rounds=3`, `files=300`, `frames=16` (of 32 kB), `index=sqlite` (or `postgresql`), `large=0` (bytes of one file, whose
//! memory is measured instead), `storages=` (some of `files,objects,rbytea,encrypted`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/server/support/orthanc.rs"]
mod orthanc;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use common::cluster::{self, Cluster, POSTGRES};
use common::median;
use orthanc::{Orthanc, dicom, dicom_stream};
use serde_json::{Value, json};

struct Arguments {
    rounds: usize,
    files: usize,
    frames: usize,
    large: usize,
    postgresql: bool,
    storages: Vec<Storage>,
}

/// Where files go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Storage {
    FileSystem,
    LargeObjects,
    Rbytea,
    Encrypted,
}

impl Storage {
    const ALL: [Self; 4] = [Self::FileSystem, Self::LargeObjects, Self::Rbytea, Self::Encrypted];

    /// In the table.
    fn name(self) -> &'static str {
        match self {
            Self::FileSystem => "file system",
            Self::LargeObjects => "official large objects",
            Self::Rbytea => "rbytea",
            Self::Encrypted => "rbytea encrypted",
        }
    }

    /// That of an argument.
    fn of(argument: &str) -> Self {
        match argument {
            "files" => Self::FileSystem,
            "objects" => Self::LargeObjects,
            "rbytea" => Self::Rbytea,
            "encrypted" => Self::Encrypted,
            _ => panic!("no such storage: {argument}"),
        }
    }
}

fn main() {
    common::on_disk();
    let mut arguments = Arguments {
        rounds: 3,
        files: 300,
        frames: 16,
        large: 0,
        postgresql: false,
        storages: Storage::ALL.into(),
    };
    // cargo bench adds --bench.
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        let number = |text: &str| text.parse().expect("a number");
        match argument.split_once('=') {
            Some(("rounds", text)) => arguments.rounds = number(text),
            Some(("files", text)) => arguments.files = number(text),
            Some(("frames", text)) => arguments.frames = number(text),
            Some(("large", text)) => arguments.large = number(text),
            Some(("storages", text)) => arguments.storages = text.split(',').map(Storage::of).collect(),
            Some(("index", text)) => arguments.postgresql = text == "postgresql",
            _ => panic!("no such argument: {argument}"),
        }
    }
    println!("{}\n", common::machine());
    if arguments.large > 0 { memory(&arguments) } else { speed(&arguments) }
}

/// A cluster with what the storage takes, and the configuration.
fn bed(storage: Storage, postgresql: bool) -> (Cluster, Value) {
    let mut conf = vec![
        "max_wal_size = '32GB'",
        "checkpoint_timeout = '1d'",
        "rbytea.databases_for_vacuuming = 'postgres'",
    ];
    if storage == Storage::Encrypted {
        conf.extend(["rbytea.key_file = 'keys'", "rbytea.qss_mode = on"]);
    }
    let mut cluster = Cluster::stopped_with(&conf);
    if storage == Storage::Encrypted {
        let keys = cluster.data().join("keys");
        fs::write(&keys, format!("1 {}\n", "1b".repeat(32))).unwrap();
        fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = cluster.installation().server_user {
            std::os::unix::fs::chown(&keys, Some(uid), Some(gid)).unwrap();
        }
    }
    cluster.start();
    cluster.session().run("create extension rbytea; create extension pg_trgm");
    let mut official = json!({
        "EnableIndex": postgresql, "EnableStorage": storage == Storage::LargeObjects,
        "Host": cluster.dir(), "Port": cluster.port(), "Database": POSTGRES, "Username": POSTGRES,
    });
    let mut sections = json!({});
    if matches!(storage, Storage::Rbytea | Storage::Encrypted) {
        sections["Rbytea"] = json!({ "EnableStorage": true });
    }
    if storage == Storage::FileSystem && !postgresql {
        official = json!({});
    }
    sections["PostgreSQL"] = official;
    (cluster, sections)
}

/// Does something with all files by so many clients; how many a second.
fn rate(files: usize, clients: usize, work: impl Fn(usize) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= files {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
    files as f64 / begun.elapsed().as_secs_f64()
}

fn speed(arguments: &Arguments) {
    let Arguments { rounds, files, frames, postgresql, ref storages, .. } = *arguments;
    let mut results: BTreeMap<(Storage, &str), Vec<f64>> = BTreeMap::new();
    let payloads: Vec<Vec<u8>> = (0..files).map(|number| dicom("BENCH", number as u32, frames)).collect();
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    let (mut retired, mut dirs) = (common::Retired::default(), Vec::new());
    for round in 0..rounds {
        for &storage in storages {
            let (cluster, sections) = bed(storage, postgresql);
            let dir = tempfile::tempdir_in("/tmp").unwrap();
            let orthanc = Orthanc::start_in(&sections, dir);
            let db = cluster.session();
            let size = "select pg_database_size('postgres')::float8";
            let (before, lsn): (f64, String) =
                (db.one(size, &[]), db.one("select pg_current_wal_lsn()::text", &[]));
            let mut note = |what: &'static str, value: f64| {
                eprintln!("round {} {}: {what} {value:.3}", round + 1, storage.name());
                results.entry((storage, what)).or_default().push(value);
            };
            // What comes first finds new directories.
            let half = files / 2;
            let ids: Vec<std::sync::OnceLock<String>> =
                (0..files).map(|_| std::sync::OnceLock::new()).collect();
            let put = |number: usize| {
                ids[number].set(orthanc.upload(&payloads[number])).unwrap();
            };
            note("ingest 1", rate(half, 1, put));
            note("ingest 4", rate(files - half, 4, |number| put(half + number)));
            let wal: f64 = db.one("select (pg_current_wal_lsn() - $1::text::pg_lsn)::float8", &[&lsn]);
            note("WAL", wal / bytes as f64);
            note("database", (db.one::<f64>(size, &[]) - before) / bytes as f64);
            let get = |number: usize| {
                let id = ids[number].get().unwrap();
                let answer = orthanc.request("GET", &format!("/instances/{id}/file"), b"");
                assert!(answer.body == payloads[number]);
            };
            note("read 1", rate(files, 1, get));
            note("read 4", rate(files, 4, get));
            let delete = |number: usize| {
                let id = ids[number].get().unwrap();
                assert_eq!(orthanc.request("DELETE", &format!("/instances/{id}"), b"").status, 200);
            };
            note("delete 1", rate(half, 1, delete));
            note("delete 4", rate(files - half, 4, |number| delete(half + number)));
            drop(db);
            let dir = orthanc.stop();
            common::truncate_files(dir.path());
            dirs.push(dir);
            retired.add(cluster);
        }
    }
    println!(
        "{files} files of {} bytes, {rounds} rounds, index in {}\n",
        bytes / files,
        if postgresql { "PostgreSQL" } else { "SQLite" }
    );
    let line = |title: &str, cell: &dyn Fn(Storage) -> String| {
        println!(
            "| {title} |{}",
            storages.iter().map(|storage| format!(" {} |", cell(*storage))).collect::<String>()
        );
    };
    line("a second, with 1 / 4 clients", &|storage| storage.name().into());
    println!("|---|{}", "--:|".repeat(storages.len()));
    let value = |storage, what| median(results[&(storage, what)].iter().copied());
    for (row, one, four) in
        [("ingest", "ingest 1", "ingest 4"), ("read", "read 1", "read 4"), ("delete", "delete 1", "delete 4")]
    {
        line(row, &|storage| format!("{:.0} / {:.0}", value(storage, one), value(storage, four)));
    }
    for what in ["WAL", "database"] {
        line(&format!("{what}, bytes per byte of payload"), &|storage| {
            format!("{:.4}", value(storage, what))
        });
    }
}

/// The most memory that a process has had, in MiB.
fn peak(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

/// Private memory of a process, in MiB.
fn private(pid: i32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = rollup.lines().filter_map(|line| line.strip_prefix("Private_Dirty:"));
    lines.filter_map(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).sum::<f64>() / 1024.0
}

/// One large file: stored and read, and what memory that takes. This program has no part of it in memory.
fn memory(arguments: &Arguments) {
    let frames = arguments.large / (128 * 128 * 2);
    let file = || dicom_stream("LARGE", 1, frames);
    let (len, _) = file();
    println!("| one file of {len} bytes: peak memory, MiB | Orthanc | backend | |");
    println!("|---|--:|--:|---|");
    for &storage in &arguments.storages {
        let name = storage.name();
        let (cluster, sections) = bed(storage, false);
        let orthanc = Orthanc::start_in(&sections, tempfile::tempdir_in("/tmp").unwrap());
        let over = std::sync::atomic::AtomicBool::new(false);
        let (outcome, backend) = thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let db = cluster.session();
                let mut most = 0.0_f64;
                while !over.load(Ordering::Relaxed) {
                    let pids: Vec<i32> = db.column("select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()", &[]);
                    most = pids.into_iter().map(private).fold(most, f64::max);
                    thread::sleep(std::time::Duration::from_millis(20));
                }
                most
            });
            let outcome = large(&orthanc, file);
            over.store(true, Ordering::Relaxed);
            (outcome, watching.join().unwrap())
        });
        println!("| {name} | {:.0} | {backend:.0} | {outcome} |", peak(orthanc.pid()));
    }
}

/// Stores a file and reads it; what comes of that.
fn large<T: Read>(orthanc: &Orthanc, file: impl Fn() -> (u64, T)) -> String {
    let begun = Instant::now();
    let (len, stream) = file();
    match orthanc.exchange("POST", "/instances", len, stream) {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => return format!("refused with HTTP {}: {}", answer.status, last_error(orthanc)),
        Err(error) => return format!("no answer: {error}: {}", last_error(orthanc)),
    }
    let stored = begun.elapsed().as_secs_f64();
    let instances = orthanc.get("/instances");
    let id = instances[0].as_str().expect("one instance");
    let begun = Instant::now();
    let read = orthanc.gives(&format!("/instances/{id}/file"), file().1);
    let took = begun.elapsed().as_secs_f64();
    let read =
        if read { format!("read in {took:.1} s") } else { format!("not read: {}", last_error(orthanc)) };
    // Orthanc itself reads what it cannot answer with.
    let verify = format!("/instances/{id}/attachments/dicom/verify-md5");
    let verified =
        orthanc.exchange("POST", &verify, 0, std::io::empty()).is_ok_and(|answer| answer.status == 200);
    format!("stored in {stored:.1} s, {read}, its MD5 is {}", if verified { "right" } else { "wrong" })
}

/// The last error that Orthanc has logged.
fn last_error(orthanc: &Orthanc) -> String {
    orthanc.log().lines().rfind(|line| line.starts_with('E')).unwrap_or_default().to_owned()
}
