//! Base backups, recovery and upgrades bring back every payload: with the store in the data directory and outside of it,
//! copied as docs/BACKUP.md says. (Most of the dumps are in `clients/dump.rs`.)

mod base;
mod contents;
mod dumps;
mod order;
mod payloads;
mod recovery;
mod restored;
mod rewind;
mod snapshots;
mod traffic;
mod upgrade;
