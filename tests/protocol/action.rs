//! The steps of the model, as they read in a trace.

use crate::state::{A, B, Tuple};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Session(u8, Step),
    Vacuum(Move),
    /// A dead tuple is removed.
    Prune(Tuple),
    /// Something outside begins or ceases to hold the horizon back.
    External(bool),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Begin,
    Snapshot,
    InnerSnapshot,
    EndSnapshot,
    EndOuter,
    EndStatement,
    Read(Tuple),
    Delete(Tuple),
    Write,
    CreateTable,
    Check(u8),
    Insert(u8, u8),
    Truncate(u8),
    Commit,
    Abort,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Start { whole: bool },
    Horizon,
    Lock,
    Scan(u8),
    Compare,
    Sweep,
    Purge,
    Finish,
    Fail,
}

fn table(table: u8) -> &'static str {
    match table {
        A => "A",
        B => "B",
        _ => "C",
    }
}

fn payload(payload: u8) -> &'static str {
    if payload == 0 { "F" } else { "P" }
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Session(index, step) => write!(out, "session {}: {step:?}", index + 1),
            Action::Vacuum(step) => write!(out, "vacuum: {step:?}"),
            Action::Prune(tuple) => {
                write!(out, "a dead tuple with {} goes from {}", payload(tuple.payload), table(tuple.table))
            }
            Action::External(true) => write!(out, "a standby begins to hold the horizon back"),
            Action::External(false) => write!(out, "the standby lets go of the horizon"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Begin => write!(out, "begins a transaction block"),
            Step::Snapshot => write!(out, "takes a snapshot"),
            Step::InnerSnapshot => write!(out, "takes another snapshot and keeps the first"),
            Step::EndSnapshot => write!(out, "gives its snapshot back"),
            Step::EndOuter => write!(out, "gives its older snapshot back"),
            Step::EndStatement => write!(out, "ends its top-level statement"),
            Step::Read(tuple) => write!(out, "reads {} in {}", payload(tuple.payload), table(tuple.table)),
            Step::Delete(tuple) => {
                write!(out, "deletes {} from {}", payload(tuple.payload), table(tuple.table))
            }
            Step::Write => write!(out, "writes file P"),
            Step::CreateTable => write!(out, "creates table C"),
            Step::Check(file) => write!(out, "checks that {} is LIVE", payload(*file)),
            Step::Insert(into, file) => write!(out, "stores {} in {}", payload(*file), table(*into)),
            Step::Truncate(which) => write!(out, "truncates {} and commits", table(*which)),
            Step::Commit => write!(out, "commits"),
            Step::Abort => write!(out, "rolls back"),
        }
    }
}

impl fmt::Debug for Move {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Start { whole: true } => write!(out, "starts with a snapshot"),
            Move::Start { whole: false } => write!(out, "starts an ordinary round with a snapshot"),
            Move::Horizon => write!(out, "takes the horizon"),
            Move::Lock => write!(out, "searches and locks the relations"),
            Move::Scan(which) => write!(out, "scans {}", table(*which)),
            Move::Compare => write!(out, "compares the horizon"),
            Move::Sweep => write!(out, "sweeps"),
            Move::Purge => write!(out, "purges"),
            Move::Finish => write!(out, "writes its history and commits"),
            Move::Fail => write!(out, "fails"),
        }
    }
}
