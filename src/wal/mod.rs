//! Payloads in the WAL, as transactions write them: the log of the store, and whether there are keepers who make what was
//! logged durable at checkpoints (docs/PROTOCOL.md). Uses `pg`.

pub mod log;
pub mod presence;
