//! The protocol of the vacuum (docs/PROTOCOL.md) by explicit states: transactions, snapshots, references in memory, locks,
//! the run of the vacuum and the place of each file, step by step in every order. With all rules no order breaks a
//! promise; without any one of them the checker finds one that does. `-- --nocapture` shows the steps.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action;
mod larger;
mod mark;
mod memory;
mod model;
mod normal;
mod purge;
mod sessions;
mod state;
mod vacuum;
mod wal;
mod world;
