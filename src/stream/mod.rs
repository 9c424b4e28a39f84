//! Payloads that are in memory piece by piece only, in both directions: uploads, an aggregate, files of the server, large objects, ranges
//! and chunks. Uses `pg`, `value` and `session`; nothing uses it.

mod aggregate;
mod builder;
mod files;
mod large_object;
mod ranges;
pub mod uploads;
