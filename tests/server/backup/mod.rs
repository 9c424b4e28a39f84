//! Base backups, recovery and upgrades bring back every payload: with the store in the data directory and outside of it,
//! copied as docs/BACKUP.md says. So do dumps, into other databases and clusters.

mod base;
mod contents;
mod dump_formats;
mod dumps;
mod order;
mod original;
mod payloads;
mod recovery;
mod restored;
mod rewind;
mod snapshots;
mod traffic;
mod upgrade;
