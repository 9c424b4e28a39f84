//! Payloads in the WAL: recovery and standbys have them, and checkpoints wait for them.

mod archives;
mod checkpoints;
mod killed_calls;
mod lost_caches;
mod owners;
mod records;
mod standbys;
