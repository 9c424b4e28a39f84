//! The store: payloads of one database, and the bytes of a value that refers to one. Knows no PostgreSQL.
//!
//! [`Writer`] and [`Reader`] stand above the seam ([`backend`]): digest, encryption, padding, verification are the
//! same whatever the backend is. [`FileStore`] ([`file`](mod@file)) is the one backend that there is. Promises I1,
//! I3, I4, I5, I7 and I8 to its callers; docs/ARCHITECTURE.md has the invariants.

#![deny(unsafe_code)]

pub mod backend;
pub mod crypt;
pub mod error;
pub mod file;
pub mod judgement;
mod log;
mod owner;
mod owner_file;
mod payload;
mod pending;
mod reader;
pub mod record;
pub mod reference;
pub mod room;
pub mod value;
mod writer;

pub use backend::{
    Ahead, Backend, Cloned, DroppedDatabase, Flaw, Inspection, Listed, Listing, Located, Moves, Purged,
    Restored, SourceFile, TrashEntry, Trashed,
};
pub use crypt::keys::{Key, KeyRing};
pub use error::key_file::KeyFileProblem;
pub use error::{Error, Kind, Result};
pub use file::fs::Rights;
pub use file::layout::{OWNER, TRASH};
pub use file::{Closed, Config, DirSyncCache, FileStore, RootRegistry};
pub use log::{Log, Root};
pub use owner::{DataDirectory, OwnerId};
pub use payload::{By, PayloadId, PayloadRef, Shard};
pub use pending::{Pending, PendingState};
pub use reader::{Reader, Verifier};
pub use writer::{Writer, take_over};

#[doc(hidden)]
pub use writer::BUFFER;
