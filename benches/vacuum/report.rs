//! The figures, and how they are written down.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Measured;
use crate::common::chart::{Chart, Colour, Line};
use crate::common::{machine, median};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Run {
    /// `rvacuum()`, which looks at the whole store.
    Rvacuum,
    Vacuumlo,
    /// A round of the background worker that looks at the new files.
    Ordinary,
    /// One that looks at the whole store.
    Whole,
}

impl Run {
    /// As the table and the chart call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rvacuum => "rvacuum()",
            Self::Vacuumlo => "vacuumlo",
            Self::Ordinary => "background, new files",
            Self::Whole => "background, whole store",
        }
    }
}

/// Runs of one kind over one number of payloads.
#[derive(Serialize)]
struct Series {
    payloads: u64,
    run: Run,
    garbage: &'static str,
    measured: Vec<Measured>,
}

impl Series {
    fn seconds(&self) -> f64 {
        median(self.measured.iter().map(|measured| measured.seconds))
    }
}

/// Everything.
#[derive(Serialize)]
pub struct Report {
    pub version: String,
    machine: String,
    size: u64,
    rounds: u64,
    series: Vec<Series>,
}

impl Report {
    pub fn new(size: u64, rounds: u64) -> Self {
        Self { version: String::new(), machine: machine(), size, rounds, series: Vec::new() }
    }

    pub fn add(&mut self, payloads: u64, run: Run, garbage: &'static str, measured: Measured) {
        match self
            .series
            .iter_mut()
            .find(|series| (series.payloads, series.run, series.garbage) == (payloads, run, garbage))
        {
            Some(series) => series.measured.push(measured),
            None => self.series.push(Series { payloads, run, garbage, measured: vec![measured] }),
        }
    }

    /// BENCHMARK-VACUUM.md, benchmark-vacuum.json and a chart.
    pub fn write(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let text = self.text();
        println!("{text}");
        fs::write(to.join("BENCHMARK-VACUUM.md"), text).unwrap();
        fs::write(to.join("benchmark-vacuum.json"), serde_json::to_string_pretty(self).unwrap() + "\n")
            .unwrap();
        let line = |run: Run, garbage: &str, name, colour| {
            let series = self.series.iter().filter(|series| series.run == run && series.garbage == garbage);
            Line {
                name,
                colour,
                points: series.map(|series| (series.payloads as f64, series.seconds())).collect(),
            }
        };
        let lines = vec![
            line(Run::Rvacuum, "1 %", "rvacuum()", Colour::Red),
            line(Run::Vacuumlo, "1 %", "vacuumlo", Colour::Violet),
            line(Run::Whole, "1 %", "background, whole", Colour::Orange),
            line(Run::Ordinary, "500 files", "background, new files", Colour::Blue),
        ];
        let x_label = |payloads| format!("{payloads}");
        let chart = Chart { title: "vacuum, 1 % of all payloads deleted", y: "seconds", x_label, lines };
        chart.write(to, "benchmark-vacuum");
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# The vacuum beside vacuumlo\n\nWritten by `make bench-vacuum`; benches/vacuum says what is measured. Payloads of {} bytes, {} rounds, in turns: medians. \
             Memory is the private memory of the largest process.\n\n{}\n{}\n\n\
             | payloads | | garbage | seconds (each) | vacuumlo takes | MiB |\n|---|---|---|---|---|---|",
            self.size, self.rounds, self.version, self.machine
        );
        for series in &self.series {
            let each: Vec<String> =
                series.measured.iter().map(|measured| format!("{:.2}", measured.seconds)).collect();
            let memory = series.measured.iter().map(|measured| measured.memory).max().unwrap_or(0);
            let other = self.series.iter().find(|other| {
                (other.payloads, other.run, other.garbage) == (series.payloads, Run::Vacuumlo, series.garbage)
            });
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.2} ({}) | {} | {:.1} |",
                series.payloads,
                series.run.name(),
                series.garbage,
                series.seconds(),
                each.join(" "),
                other.filter(|_| series.run != Run::Vacuumlo).map_or(String::new(), |other| format!(
                    "{:.1} times as long",
                    other.seconds() / series.seconds()
                )),
                memory as f64 / 1024.0
            );
        }
        out
    }
}
