//! The log that recovery and standbys read, as the store needs it: PostgreSQL's WAL, which whoever opens a store hands in.

use std::fmt::Debug;

use crate::record::Record;

/// Device and inode of a store's root.
pub type Root = (u64, u64);

/// Where the store logs what it does. Called by the transaction that does it; may unwind instead of returning.
pub trait Log: Debug + Send + Sync {
    /// Whether a payload of so many stored bytes is logged; `None` where their number is not known yet.
    fn takes(&self, stored_len: Option<u64>) -> bool;

    /// Whether somebody sees to it at this moment that logged payloads in the file system of this root are durable when a checkpoint
    /// completes.
    fn has_keepers(&self, root: Root) -> bool;

    /// The same behind the write of bytes that are about to be logged: if so they need not be synced by whoever has written them, however
    /// long those who said so are there. The log counts them before it looks, so that they are not missed.
    fn written(&self, root: Root) -> bool;

    /// Appends a record.
    fn insert(&self, record: &Record<'_>);

    /// The same, where an error may be on its way already, and durable on return: false if it could not be appended. Never unwinds.
    fn insert_at_end(&self, record: &Record<'_>) -> bool;
}
