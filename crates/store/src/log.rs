//! The log that recovery and standbys read, as the store needs it: PostgreSQL's WAL, which whoever opens a store hands in.

use std::fmt::Debug;

use crate::record::Record;

/// Where the store logs what it does. Called by the transaction that does it; may unwind instead of returning.
pub trait Log: Debug + Send + Sync {
    /// Whether a payload of so many stored bytes is logged; `None` where their number is not known yet.
    fn takes(&self, stored_len: Option<u64>) -> bool;

    /// Who sees to it that logged payloads are durable when a checkpoint completes, if somebody does for the file system of this
    /// root (device and inode). Two answers that are equal mean that they have been there all the time between.
    fn keepers(&self, root: (u64, u64)) -> Option<Keepers>;

    /// Appends a record.
    fn insert(&self, record: &Record<'_>);
}

/// Keepers, from when they began to hold until one of them ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepers(pub u64);
