//! The judge: what of the acknowledged payloads is lost, which references dangle, which files have leaked. It counts and goes on, so that
//! a test says how much was lost and not only that something was.
//!
//! What the bytes of a row have to be is known in one of three ways: a digest outside of the server (`ledger`), a twin with plain bytea
//! (`acknowledged`, `support::model`), or the transactions that a client has seen acknowledged (tests/server/crashes). What rows refer to
//! (`references`) and what the store has beside that (`disk`) is asked in one way.

pub mod acknowledged;
pub mod disk;
pub mod ledger;
pub mod references;

use crate::evidence::Found;

/// How many finds are described.
const DESCRIBED: usize = 40;

/// What was found so far, and the first finds in words.
#[derive(Default)]
pub struct Verdict {
    found: Found,
    what: Vec<String>,
}

impl Verdict {
    /// Whether nothing was found.
    pub fn is_good(&self) -> bool {
        self.found.lost + self.found.dangling + self.found.leaked == 0
    }

    /// Payloads, rows or prepared transactions that are not what was acknowledged, one for each line.
    pub fn lost(&mut self, what: impl IntoIterator<Item = String>) {
        self.found.lost += self.describe(what);
    }

    /// References whose file is not there, one for each line.
    pub fn dangling(&mut self, what: impl IntoIterator<Item = String>) {
        self.found.dangling += self.describe(what);
    }

    /// Files that no row needs and that no vacuum collects, one for each line.
    pub fn leaked(&mut self, what: impl IntoIterator<Item = String>) {
        self.found.leaked += self.describe(what);
    }

    fn describe(&mut self, what: impl IntoIterator<Item = String>) -> u64 {
        let mut finds = 0;
        for find in what {
            finds += 1;
            if self.what.len() < DESCRIBED {
                self.what.push(find);
            }
        }
        finds
    }

    /// The counts.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The first finds, a line for each.
    pub fn text(&self) -> String {
        self.what.join("\n")
    }
}

/// What was found here and there.
pub trait And {
    /// Both together.
    fn and(self, other: Self) -> Self;
    /// Adds what was found elsewhere.
    fn add(&mut self, other: Self);
}

impl And for Found {
    fn and(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.lost += other.lost;
        self.dangling += other.dangling;
        self.leaked += other.leaked;
    }
}
