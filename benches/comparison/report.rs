//! The figures, and how they are written down: BENCHMARK.md, benchmark.json, plots.

use std::fmt::{self, Display, Write};
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::common::chart::{Chart, Colour, Line};
use crate::common::{machine, median};
use crate::contestant::Kind;

/// What is run with everybody in turn.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Bytes of a payload.
    pub size: usize,
    /// Rows of a commit.
    pub rows: usize,
    /// Clients at the same time.
    pub clients: usize,
    /// Three quarters of the payload are zeros.
    pub compressible: bool,
}

impl Cell {
    /// Of one commit of every client.
    pub fn bytes(self) -> usize {
        self.size * self.rows * self.clients
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, rows, clients, compressible } = self;
        write!(f, "{}, {rows} rows per commit, {clients} clients", bytes(*size))?;
        if *compressible { f.write_str(", compressible") } else { Ok(()) }
    }
}

/// A payload's size as people say it.
pub fn bytes(size: usize) -> String {
    match size {
        0x10_0000.. => format!("{} MiB", size >> 20),
        0x400.. => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// What was measured once.
#[derive(Clone, Copy, Serialize)]
pub struct Sample {
    pub bytes_per_second: f64,
    pub bytes: f64,
    pub wal_bytes: f64,
    /// Of the server; of the client for plain files.
    pub cpu_seconds_per_byte: f64,
}

/// What was measured for one contestant in one cell, round by round.
#[derive(Default, Serialize)]
pub struct Figures {
    pub written: Vec<Sample>,
    /// Bytes per second if the writes end with the checkpoint that comes after them.
    pub settled: Vec<f64>,
    pub read: Vec<Sample>,
    pub table_bytes_per_row: Option<f64>,
}

impl Figures {
    pub fn add(&mut self, written: Sample, settled: f64, read: Sample) {
        self.written.push(written);
        self.settled.push(settled);
        self.read.push(read);
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
    pub figures: Vec<(Kind, Figures)>,
}

impl Measured {
    fn of(&self, kind: Kind) -> Option<&Figures> {
        self.figures.iter().find(|(other, _)| *other == kind).map(|(_, figures)| figures)
    }
}

/// Processor time that a clock of 10 ms measures well enough.
const SHORTEST: f64 = 0.1;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Write,
    /// Writing and the checkpoint after it, which brings into the table what a commit has only put into the WAL.
    Settle,
    Read,
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
    pub rounds: usize,
    pub cells: Vec<Measured>,
    pub memory: Vec<Memory>,
}

impl Report {
    pub fn add(&mut self, cell: Cell, figures: Vec<(Kind, Figures)>) {
        self.cells.push(Measured { cell, figures });
    }

    /// Median of the bytes per second.
    pub fn speed(&self, cell: Cell, kind: Kind, way: Way) -> Option<f64> {
        Some(median(speeds(self.measured(cell)?.of(kind)?, way)))
    }

    /// Median of what one did in a round for each byte that the other did in the same round.
    fn ratio(&self, cell: Cell, kind: Kind, to: Kind, way: Way) -> Option<f64> {
        let measured = self.measured(cell)?;
        let (one, other) = (measured.of(kind)?, measured.of(to)?);
        Some(median(speeds(one, way).zip(speeds(other, way)).map(|(one, other)| one / other)))
    }

    fn measured(&self, cell: Cell) -> Option<&Measured> {
        self.cells.iter().find(|measured| measured.cell == cell)
    }

    /// Writes everything where the arguments say.
    pub fn write(&mut self, arguments: &Arguments) {
        (self.machine, self.rounds) = (machine(), arguments.rounds);
        let to = &arguments.to;
        fs::create_dir_all(to).unwrap();
        let text = self.text(arguments);
        println!("{text}");
        fs::write(to.join("BENCHMARK.md"), text).unwrap();
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
            let line = |(kind, colour): (Kind, Colour)| {
                let cells = self.cells.iter().map(|measured| measured.cell);
                let cells = cells
                    .filter(|cell| (cell.rows, cell.clients, cell.compressible) == (rows, clients, false));
                let speeds =
                    cells.filter_map(|cell| Some((cell.size as f64, self.speed(cell, kind, way)? / 1e6)));
                Line { name: kind.name(), colour, points: speeds.collect() }
            };
            let lines = LINES.into_iter().map(line).filter(|line| !line.points.is_empty()).collect();
            let chart = Chart { title, y: "MB/s", x_label: |size| bytes(size as usize), lines };
            chart.write(to, stem);
        }
    }

    fn text(&self, arguments: &Arguments) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# rbytea beside bytea, large objects and files\n\n\
             Written by `make bench`; benches/comparison says what is measured. At most {} rounds of every contestant in random order (3 \
             where a commit has more than 512 MiB): medians, with the least and the most in parentheses; ratios are medians of the ratios of \
             a round. MB are 10^6 bytes of payload. A commit of more than {} of all clients together is not run.\n\n\
             - PostgreSQL has its default settings; pages have no checksums. Before each turn there is a checkpoint, and one row is \
             written that is not measured: it pays for the images of pages in the WAL.\n\
             - A commit of bytea or large objects has put payloads into the WAL; the next checkpoint writes them again, into the table. \
             \"And a checkpoint\" is the speed if the checkpoint after the writes counts. Plain files need none.\n\
             - Payloads do not compress, but in the one cell that says so. Reads find everything in the operating system's cache.\n\
             - `files` are written by the client itself, without a server; `limit` sends the payload to the server, which throws it away, and reads \
             as many bytes out of the server's memory.\n\
             - The 256 directories that a store makes for each 65,536 transactions are made before.\n\
             - Bytes of a table are those in the database: the payload files of rbytea, which are as long as their payloads, are not in it, and \
             neither is the index of the table.\n\
             - Processor time is that of the server's processes, and the client's for files. What the kernel does in threads of its own is \
             in none. It is left out where it was too short for the clock.\n\n{}\n{}\n{}\n",
            self.rounds,
            bytes(arguments.limit),
            self.version,
            self.machine,
            self.file_system
        );
        for measured in &self.cells {
            self.section(&mut out, measured);
        }
        self.memory_section(&mut out);
        out
    }

    fn section(&self, out: &mut String, Measured { cell, figures }: &Measured) {
        let _ = writeln!(
            out,
            "## {cell}\n\n| | write MB/s | of bytea | of files | and a checkpoint | of bytea | of files | read MB/s | of bytea | of limit | WAL bytes a row (a byte) | table bytes a row (a byte) | write CPU s/GB | read CPU s/GB |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for (kind, figures) in figures {
            let ratio = |to, way| {
                self.ratio(*cell, *kind, to, way).map_or(String::new(), |ratio| format!("{ratio:.2}"))
            };
            let per_row = |bytes: f64| format!("{bytes:.0} ({:.3})", bytes / cell.size as f64);
            let wal = median(figures.written.iter().map(|sample| sample.wal_bytes / sample.bytes))
                * cell.size as f64;
            let cpu = |samples: &[Sample]| {
                let seconds = median(samples.iter().map(|sample| sample.cpu_seconds_per_byte * sample.bytes));
                if seconds < SHORTEST {
                    return String::new();
                }
                format!("{:.2}", median(samples.iter().map(|sample| sample.cpu_seconds_per_byte * 1e9)))
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                kind.name(),
                spread(figures, Way::Write),
                ratio(Kind::Bytea, Way::Write),
                ratio(Kind::Raw, Way::Write),
                spread(figures, Way::Settle),
                ratio(Kind::Bytea, Way::Settle),
                ratio(Kind::Raw, Way::Settle),
                spread(figures, Way::Read),
                ratio(Kind::Bytea, Way::Read),
                ratio(Kind::Limit, Way::Read),
                if kind.is_raw() { String::new() } else { per_row(wal) },
                figures.table_bytes_per_row.map_or(String::new(), per_row),
                cpu(&figures.written),
                cpu(&figures.read),
            );
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
                "| {} | {} | {what} | {:.1} | {:.2} |",
                kind.name(),
                bytes(*size),
                most / f64::from(1 << 20),
                most / *size as f64
            );
        }
    }
}

fn speeds(figures: &Figures, way: Way) -> impl Iterator<Item = f64> {
    let of = |samples: &[Sample]| samples.iter().map(|sample| sample.bytes_per_second).collect();
    let speeds: Vec<f64> = match way {
        Way::Write => of(&figures.written),
        Way::Settle => figures.settled.clone(),
        Way::Read => of(&figures.read),
    };
    speeds.into_iter()
}

/// The median, and the least and the most.
fn spread(figures: &Figures, way: Way) -> String {
    let mb = |bytes: f64| {
        let mb = bytes / 1e6;
        if mb < 10.0 { format!("{mb:.1}") } else { format!("{mb:.0}") }
    };
    let least = speeds(figures, way).fold(f64::INFINITY, f64::min);
    let most = speeds(figures, way).fold(0.0, f64::max);
    format!("{} ({}–{})", mb(median(speeds(figures, way))), mb(least), mb(most))
}
