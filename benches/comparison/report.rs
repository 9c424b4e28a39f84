//! The figures, and how they are written down: BENCHMARK.md, benchmark.json, plots.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::cell::{Cell, Kind, bytes};
use crate::common::chart::{Chart, Colour, Line};
use crate::common::median;

/// What was measured once.
#[derive(Clone, Copy, Serialize)]
pub struct Sample {
    pub bytes_per_second: f64,
    pub bytes: f64,
    pub wal_bytes: f64,
    /// Of the server; of the client for plain files.
    pub cpu_seconds: f64,
}

/// What was measured for one contestant in one cell, round by round.
#[derive(Default, Serialize)]
pub struct Figures {
    pub written: Vec<Sample>,
    /// By how much the table has grown, all rounds together.
    pub table_bytes: Option<i64>,
    /// Bytes per second if the writes end with the checkpoint that comes after them.
    pub settled: Vec<f64>,
    pub read: Vec<Sample>,
}

impl Figures {
    pub fn add(&mut self, written: Sample, table: Option<i64>, settled: Option<f64>, read: Option<Sample>) {
        self.written.push(written);
        self.table_bytes = table.map(|bytes| self.table_bytes.unwrap_or(0) + bytes);
        self.settled.extend(settled);
        self.read.extend(read);
    }
}

/// The most private memory that a backend had.
#[derive(Serialize)]
pub struct Memory {
    pub kind: Kind,
    pub size: usize,
    pub what: String,
    pub bytes: u64,
}

/// One cell's figures.
#[derive(Serialize)]
pub struct Measured {
    pub cell: Cell,
    /// Of each client in a round.
    pub commits: usize,
    pub figures: Vec<(Kind, Figures)>,
}

impl Measured {
    fn of(&self, kind: Kind) -> Option<&Figures> {
        self.figures.iter().find(|(other, _)| *other == kind).map(|(_, figures)| figures)
    }

    /// Median of the bytes per second.
    fn speed(&self, kind: Kind, way: Way) -> Option<f64> {
        let speeds = speeds(self.of(kind)?, way);
        (!speeds.is_empty()).then(|| median(speeds))
    }

    /// The better one of the two ways to make plain files durable.
    fn best_files(&self, way: Way) -> Option<Kind> {
        let files = [Kind::Raw, Kind::RawSyncfs].into_iter();
        let files = files.filter_map(|kind| Some((self.speed(kind, way)?, kind)));
        files.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, kind)| kind)
    }

    /// Median of what one did in a round for each byte that the other did in the same round.
    fn ratio(&self, kind: Kind, to: Kind, way: Way) -> Option<f64> {
        let (one, other) = (speeds(self.of(kind)?, way), speeds(self.of(to)?, way));
        let ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }
}

impl Measured {
    /// What has to be done, one after the other: a payload is sent and received; it is written to a file and into the WAL, or to a file that
    /// is synced with its directory, and the WAL is flushed. To be read, it has to be read from a file and sent. None for several clients,
    /// whose steps overlap, and for what is compressed before it is written.
    fn steps(&self, kind: Kind, way: Way) -> Option<Vec<Kind>> {
        if self.cell.clients > 1 || self.cell.compressible {
            return None;
        }
        let in_wal = kind == Kind::Logged || self.cell.size <= WAL_PAYLOAD_LIMIT;
        Some(match kind {
            kind if kind.is_raw() || kind == Kind::Limit => return None,
            Kind::Bytea | Kind::Compressed | Kind::LargeObject if way == Way::Read => vec![Kind::Limit],
            _ if way == Way::Read => vec![Kind::Limit, self.best_files(way)?],
            Kind::Bytea | Kind::Compressed | Kind::LargeObject => vec![Kind::Limit, Kind::Log],
            _ if in_wal => vec![Kind::Limit, Kind::Unsynced, Kind::Log],
            _ => vec![Kind::Limit, self.best_files(way)?, Kind::Flush],
        })
    }

    /// Median of what one did in a round of what is possible: the steps, and nothing else.
    fn of_possible(&self, kind: Kind, way: Way) -> Option<f64> {
        let steps: Option<Vec<_>> =
            self.steps(kind, way)?.into_iter().map(|step| Some(speeds(self.of(step)?, way))).collect();
        let (steps, own) = (steps?, speeds(self.of(kind)?, way));
        let possible = |round: usize| {
            let times: Option<Vec<f64>> = steps.iter().map(|of| Some(1.0 / of.get(round)?)).collect();
            Some(times?.iter().sum::<f64>())
        };
        let ratios: Option<Vec<f64>> =
            own.iter().enumerate().map(|(round, own)| Some(own * possible(round)?)).collect();
        ratios.filter(|ratios| !ratios.is_empty()).map(median)
    }
}

/// rbytea.wal_payload_limit, by default.
const WAL_PAYLOAD_LIMIT: usize = 64 << 10;

/// Less does not say how much of a table goes with a row, which grows by pages.
const WORTH_DIVIDING: i64 = 16 * 8192;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Write,
    /// Writing and the checkpoint after it, which brings into the table what a commit has only put into the WAL.
    Settle,
    Read,
}

impl Way {
    /// Plain files need no checkpoint.
    fn of_files(self) -> Self {
        if self == Self::Settle { Self::Write } else { self }
    }
}

/// Who is drawn.
const LINES: [(Kind, Colour); 6] = [
    (Kind::Rbytea, Colour::Red),
    (Kind::Encrypted, Colour::Orange),
    (Kind::Bytea, Colour::Blue),
    (Kind::LargeObject, Colour::Violet),
    (Kind::Raw, Colour::Grey),
    (Kind::Limit, Colour::Pale),
];

/// Everything.
#[derive(Default, Serialize)]
pub struct Report {
    pub version: String,
    pub machine: String,
    pub file_system: String,
    pub settings: String,
    pub arguments: Vec<String>,
    pub rounds: usize,
    pub cells: Vec<Measured>,
    pub memory: Vec<Memory>,
}

impl Report {
    pub fn add(&mut self, cell: Cell, commits: usize, figures: Vec<(Kind, Figures)>) {
        self.cells.push(Measured { cell, commits, figures });
        self.cells
            .sort_by_key(|Measured { cell, .. }| (cell.compressible, cell.clients, cell.size, cell.rows));
    }

    /// Writes everything where the arguments say.
    pub fn write(&mut self, arguments: &Arguments) {
        self.rounds = arguments.rounds;
        self.arguments.clone_from(&arguments.given);
        let to = &arguments.to;
        fs::create_dir_all(to).unwrap();
        fs::write(to.join("BENCHMARK.md"), self.text(arguments)).unwrap();
        fs::write(to.join("benchmark.json"), serde_json::to_string_pretty(self).unwrap() + "\n").unwrap();
        self.charts(to);
    }

    fn charts(&self, to: &Path) {
        for (stem, title, way, rows, clients) in [
            ("benchmark-write-1", "write, 1 row per commit", Way::Write, 1, 1),
            ("benchmark-checkpoint", "write, 1 row per commit, and a checkpoint", Way::Settle, 1, 1),
            ("benchmark-write-100", "write, 100 rows per commit", Way::Write, 100, 1),
            ("benchmark-write-4", "write, 1 row per commit, 4 clients", Way::Write, 1, 4),
            ("benchmark-read", "read", Way::Read, 1, 1),
        ] {
            let cells = || {
                self.cells.iter().filter(|measured| {
                    let Measured { cell, .. } = measured;
                    let wanted = (cell.rows, cell.clients, cell.compressible) == (rows, clients, false);
                    // Files alone, which need no checkpoint, are nothing to compare with.
                    wanted && Kind::of(*cell).into_iter().any(|kind| measured.speed(kind, way).is_some())
                })
            };
            let line = |(kind, colour): (Kind, Colour)| {
                let speeds = cells().filter_map(|measured| {
                    // The better ones, cell by cell.
                    let (kind, way) = if kind == Kind::Raw {
                        (measured.best_files(way.of_files())?, way.of_files())
                    } else {
                        (kind, way)
                    };
                    Some((measured.cell.size as f64, measured.speed(kind, way)? / 1e6))
                });
                let name = if kind == Kind::Raw { "files" } else { kind.name() };
                Line { name, colour, points: speeds.collect() }
            };
            let lines = LINES.into_iter().map(line).filter(|line| !line.points.is_empty()).collect();
            let chart = Chart { title, y: "MB/s", x_label: |size| bytes(size as usize), lines };
            chart.write(to, stem);
        }
    }

    /// BENCHMARK.md.
    pub fn text(&self, arguments: &Arguments) -> String {
        let mut out = String::new();
        let given = if self.arguments.is_empty() {
            String::new()
        } else {
            format!(" with `ARGUMENTS=\"{}\"`", self.arguments.join(" "))
        };
        let _ = writeln!(
            out,
            "# rbytea beside bytea, large objects and files\n\n\
             Written by `make bench`{given}; benches/comparison says what is measured. At most {} rounds ({} where a commit has more than 512 MiB), in each \
             of which every contestant writes and reads, in another order each time: medians, with the least and the most in parentheses; ratios are \
             medians of the ratios of a round. MB are 10^6 bytes of payload. A commit of more than {} of all clients together is not run.\n\n\
             - Before each turn there is a checkpoint and a sync of all file systems, and each client stores {} small rows that are not measured: they pay \
             for the images of pages in the WAL. Autovacuum is off, and so is the background vacuum of rbytea.\n\
             - Nothing else writes meanwhile. That matters to the syncfs that rbytea uses from eight payloads of a commit on: it also waits for what others \
             have written to the same file system.\n\
             - A commit of bytea or large objects has put payloads into the WAL; the next checkpoint writes them again, into the table. \
             \"And a checkpoint\" is the speed if an immediate checkpoint after the writes counts: the least that can be expected under a \
             load that goes on. Plain files need none, so that their speed stays as it is. WAL and processor time are those until the last commit.\n\
             - Payloads do not compress, but in the one cell that says so. Reads find everything in memory: in the server's buffers, as far as it fits \
             those 128 MB, or in the operating system's cache.\n\
             - `files` are written by the client itself, without a server. \"Of files\" is the ratio to the better one of the two ways to make them durable. \
             `limit` sends the payload to the server, which throws it away, and reads as many bytes out of the server's memory.\n\
             - \"Of what is possible\" is the ratio to the speed that follows from the times of the steps that cannot be left out: a payload is sent and \
             thrown away (`limit`), written to a file that is not synced, and written to a file that is there already and synced (`log`), as \
             bytea's in the WAL and rbytea's of up to 64 KiB are; larger ones of rbytea are written to a synced file with its directory, and a page to the \
             log (`log, one page`). Bytea's needs no file. To read is to read a file, which bytea need not, and to send. For one client \
             alone, as the steps of several overlap.\n\
             - `rbytea, in the WAL` writes all payloads to the WAL (rbytea.wal_payload_limit = -1), `rbytea` those up to 64 KiB. What is there is not synced \
             by its commit.\n\
             - Bytes of a table are those in the database. The payload files of rbytea are not in it (as long as the payloads are, and up to 16 bytes longer \
             if they are encrypted, before the file system rounds them up to blocks), and neither is the index of the table. They are left out \
             where the table has grown by less than 16 pages.\n\
             - Processor time is that of the server's processes, and the client's for files. What the kernel does in threads of its own is \
             in none.\n\n{}\n{}\n{}\nSettings: {}\n",
            self.rounds,
            crate::HEAVY_ROUNDS,
            bytes(arguments.limit),
            crate::WARM_UP,
            self.version,
            self.machine,
            self.file_system,
            self.settings
        );
        for measured in &self.cells {
            self.section(&mut out, measured);
        }
        self.memory_section(&mut out);
        out
    }

    fn section(&self, out: &mut String, measured: &Measured) {
        let Measured { cell, commits, figures } = measured;
        let _ = writeln!(
            out,
            "## {cell}\n\n{commits} commits of each client in a round.\n\n\
             | | write MB/s | of bytea | of files | of what is possible | and a checkpoint | of bytea | of files | read MB/s | of bytea | of limit | of what is possible | WAL bytes a row (a byte) | table bytes a row (a byte) | write CPU s/GB | read CPU s/GB |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for (kind, figures) in figures {
            let of = |to: Option<Kind>, way| {
                let ratio = to.and_then(|to| measured.ratio(*kind, to, way));
                ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
            };
            let files = |way| of(measured.best_files(way), way);
            let possible =
                |way| measured.of_possible(*kind, way).map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let per_row = |bytes: f64| format!("{bytes:.0} ({:.3})", bytes / cell.size as f64);
            let sum = |samples: &[Sample], of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>();
            let rows = sum(&figures.written, |sample| sample.bytes) / cell.size as f64;
            let cpu = |samples: &[Sample]| {
                if samples.is_empty() {
                    return String::new();
                }
                let seconds = sum(samples, |sample| sample.cpu_seconds) / sum(samples, |sample| sample.bytes);
                format!("{:.2}", seconds * 1e9)
            };
            let table = figures.table_bytes.filter(|bytes| *bytes >= WORTH_DIVIDING);
            let row = [
                kind.name().into(),
                spread(figures, Way::Write),
                of(Some(Kind::Bytea), Way::Write),
                files(Way::Write),
                possible(Way::Write),
                spread(figures, Way::Settle),
                of(Some(Kind::Bytea), Way::Settle),
                files(Way::Settle),
                spread(figures, Way::Read),
                of(Some(Kind::Bytea), Way::Read),
                of(Some(Kind::Limit), Way::Read),
                possible(Way::Read),
                if kind.is_raw() {
                    String::new()
                } else {
                    per_row(
                        median(figures.written.iter().map(|sample| sample.wal_bytes / sample.bytes))
                            * cell.size as f64,
                    )
                },
                table.map_or(String::new(), |bytes| per_row(bytes as f64 / rows)),
                cpu(&figures.written),
                cpu(&figures.read),
            ];
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
    }

    fn memory_section(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## Private memory of a backend, at most\n\n\"write, planned\": the first executions of a prepared statement, while PostgreSQL \
             plans each of them with a copy of the parameter.\n\n| | size | | MiB | times the payload |\n|---|---|---|---|---|"
        );
        for Memory { kind, size, what, bytes: most } in &self.memory {
            let most = *most as f64;
            let _ = writeln!(
                out,
                "| {} | {} | {what} | {:.1} | {} |",
                kind.name(),
                bytes(*size),
                most / f64::from(1 << 20),
                // Else it says more about backends than about payloads.
                if *size >= 1 << 20 { format!("{:.2}", most / *size as f64) } else { String::new() }
            );
        }
    }
}

fn speeds(figures: &Figures, way: Way) -> Vec<f64> {
    let of = |samples: &[Sample]| samples.iter().map(|sample| sample.bytes_per_second).collect();
    match way {
        Way::Write => of(&figures.written),
        Way::Settle => figures.settled.clone(),
        Way::Read => of(&figures.read),
    }
}

/// The median, and the least and the most.
fn spread(figures: &Figures, way: Way) -> String {
    let speeds = speeds(figures, way);
    if speeds.is_empty() {
        return String::new();
    }
    let mb = |bytes: f64| {
        let mb = bytes / 1e6;
        if mb < 10.0 { format!("{mb:.1}") } else { format!("{mb:.0}") }
    };
    let least = speeds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = speeds.iter().copied().fold(0.0, f64::max);
    format!("{} ({}–{})", mb(median(speeds)), mb(least), mb(most))
}
