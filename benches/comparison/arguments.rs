//! What to run: `name=value` arguments of the command line.

use std::path::PathBuf;

use crate::cell::{Cell, Kind};

/// The arguments, or what they are by default.
pub struct Arguments {
    /// Payload sizes in bytes.
    pub sizes: Vec<usize>,
    rows: Vec<usize>,
    clients: Vec<usize>,
    /// How often everything is measured.
    pub rounds: usize,
    /// Bytes.
    pub limit: usize,
    only: Vec<String>,
    /// Where the results are written.
    pub to: PathBuf,
    /// Those that are not as they are by default.
    pub given: Vec<String>,
}

/// Size of the payloads of the cell with compressible ones.
const COMPRESSIBLE: usize = 1 << 20;

impl Arguments {
    pub fn from_environment() -> Self {
        let mut arguments = Self {
            sizes: [4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20].into(),
            rows: [1, 10, 100].into(),
            clients: [1, 4].into(),
            rounds: 3,
            limit: 2 << 30,
            only: Vec::new(),
            to: "docs".into(),
            given: std::env::args().skip(1).filter(|argument| argument != "--bench").collect(),
        };
        // cargo bench adds --bench.
        for argument in &arguments.given.clone() {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            let numbers = || value.split(',').map(number).collect();
            match name {
                "sizes" => arguments.sizes = numbers(),
                "rows" => arguments.rows = numbers(),
                "clients" => arguments.clients = numbers(),
                "rounds" => arguments.rounds = number(value),
                "limit" => arguments.limit = number(value),
                "only" => arguments.only = value.split(',').map(str::to_owned).collect(),
                "to" => arguments.to = value.into(),
                _ => panic!("no such argument: {argument}"),
            }
        }
        let counts = [&arguments.sizes, &arguments.rows, &arguments.clients, &vec![arguments.rounds]];
        assert!(counts.iter().all(|counts| !counts.contains(&0)), "0 is too few");
        assert!(arguments.sizes.iter().all(|size| *size >= 16), "a payload has 16 bytes at least");
        arguments
    }

    /// What is run, in order.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &clients in &self.clients {
            for &size in &self.sizes {
                for &rows in &self.rows {
                    cells.push(Cell { size, rows, clients, compressible: false });
                }
            }
        }
        if self.sizes.contains(&COMPRESSIBLE) {
            cells.push(Cell { size: COMPRESSIBLE, rows: 1, clients: 1, compressible: true });
        }
        // Several clients are there for the sake of their flushes.
        let least = self.rows.iter().copied().min().unwrap_or(1);
        cells.retain(|cell| cell.clients == 1 || cell.rows == least);
        cells.retain(|cell| cell.bytes() <= self.limit);
        cells
    }

    /// Whether a kind takes part.
    pub fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| format!("{kind:?}").eq_ignore_ascii_case(name))
    }
}

/// 4096, 4K, 1M, 2G.
fn number(text: &str) -> usize {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => panic!("not a number: {text}"),
    };
    digits.parse::<usize>().unwrap_or_else(|_| panic!("not a number: {text}")) * unit
}
