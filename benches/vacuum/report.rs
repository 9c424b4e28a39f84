//! The figures, and how they are written down.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::common::chart::{Chart, Colour, Line};
use crate::common::median;

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
    /// `rvacuum_purge()`, which looks at the whole store, and deletes.
    Purge,
    /// VACUUM of the tables of large objects.
    VacuumObjects,
}

impl Run {
    /// As the table and the chart call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rvacuum => "rvacuum()",
            Self::Vacuumlo => "vacuumlo",
            Self::Ordinary => "background, new files",
            Self::Whole => "background, whole store",
            Self::Purge => "rvacuum_purge()",
            Self::VacuumObjects => "VACUUM of large objects",
        }
    }
}

/// Runs of one kind over one number of payloads.
#[derive(Serialize)]
struct Series {
    payloads: u64,
    run: Run,
    garbage: String,
    seconds: Vec<f64>,
}

impl Series {
    fn median(&self) -> f64 {
        median(self.seconds.iter().copied())
    }
}

/// Everything.
#[derive(Serialize)]
pub struct Report {
    pub version: String,
    pub machine: String,
    pub file_system: String,
    pub settings: String,
    size: u64,
    rounds: u64,
    series: Vec<Series>,
    /// Payloads, who, and KiB.
    memory: Vec<(u64, Run, u64)>,
}

impl Report {
    pub fn new(size: u64, rounds: u64) -> Self {
        let (version, file_system, settings) = (String::new(), String::new(), String::new());
        Self {
            version,
            settings,
            machine: String::new(),
            file_system,
            size,
            rounds,
            series: Vec::new(),
            memory: Vec::new(),
        }
    }

    pub fn add(&mut self, payloads: u64, run: Run, garbage: &str, seconds: f64) {
        match self.find(payloads, run, garbage) {
            Some(at) => self.series[at].seconds.push(seconds),
            None => {
                self.series.push(Series { payloads, run, garbage: garbage.into(), seconds: vec![seconds] })
            }
        }
    }

    pub fn add_memory(&mut self, payloads: u64, run: Run, kib: u64) {
        self.memory.push((payloads, run, kib));
    }

    fn find(&self, payloads: u64, run: Run, garbage: &str) -> Option<usize> {
        let wanted = (payloads, run, garbage);
        self.series.iter().position(|series| (series.payloads, series.run, series.garbage.as_str()) == wanted)
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
                points: series.map(|series| (series.payloads as f64, series.median())).collect(),
            }
        };
        let lines = vec![
            line(Run::Rvacuum, "1 %", "rvacuum()", Colour::Red),
            line(Run::Vacuumlo, "1 %", "vacuumlo", Colour::Violet),
            line(Run::Whole, "1 %", "background, whole", Colour::Orange),
            line(Run::Ordinary, crate::NEW, "background, new files", Colour::Blue),
        ];
        let x_label = |payloads| format!("{payloads}");
        let chart = Chart {
            title: "vacuum: 1 % of all payloads deleted; 1,000 new files",
            y: "seconds",
            x_label,
            lines,
        };
        chart.write(to, "benchmark-vacuum");
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# The vacuum beside vacuumlo\n\nWritten by `make bench-vacuum`; benches/vacuum says what is measured. Payloads of {} bytes, {} rounds (one where half of \
             them is garbage), in turns, each after a checkpoint and a sync: medians, and medians of the ratios of a round. `rvacuum()` moves files to TRASH, \
             from where a purge deletes them later; vacuumlo deletes large objects, whose space a VACUUM gives back later: both are measured once at \
             the end, over everything that has been deleted until then. Autovacuum is off. `rvacuum()` and vacuumlo are timed from the \
             connection to the end, the background worker's runs without the start of the worker.\n\n{}\n{}\n{}\nSettings: {}\n\n\
             | payloads | | garbage | seconds (each) | vacuumlo takes |\n|---|---|---|---|---|",
            self.size, self.rounds, self.version, self.machine, self.file_system, self.settings
        );
        for series in &self.series {
            let each: Vec<String> = series.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
            let vacuumlo = self
                .find(series.payloads, Run::Vacuumlo, &series.garbage)
                .filter(|_| series.run == Run::Rvacuum);
            let ratio = vacuumlo.map_or(String::new(), |at| {
                let pairs = self.series[at].seconds.iter().zip(&series.seconds);
                format!("{:.1} times as long", median(pairs.map(|(vacuumlo, rvacuum)| vacuumlo / rvacuum)))
            });
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.2} ({}) | {ratio} |",
                series.payloads,
                series.run.name(),
                series.garbage,
                series.median(),
                each.join(" ")
            );
        }
        let _ = writeln!(
            out,
            "\n| payloads | | private memory of the largest process with nothing to do, MiB |\n|---|---|---|"
        );
        for (payloads, run, kib) in &self.memory {
            let _ = writeln!(out, "| {payloads} | {} | {:.1} |", run.name(), *kib as f64 / 1024.0);
        }
        out
    }
}
