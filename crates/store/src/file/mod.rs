//! The file backend: each payload is a file below one root. Relies on [`fs::Fs`] for the operating system; what must
//! be durable goes through the helpers of `sync` and `fs`, so that no call site can forget an fsync. Uses the crate's
//! identities and errors; nothing above the seam uses more of it than opening a store takes.

pub mod ahead;
mod backend;
mod clone;
mod copy;
mod databases;
mod dropped;
mod durable;
pub mod fs;
mod inspect;
pub mod layout;
#[allow(unsafe_code, reason = "a system call that rustix does not have")]
mod linux;
mod list;
mod logged;
mod lookup;
mod moves;
pub mod os;
pub mod os_file;
mod os_root;
mod owner;
mod paths;
mod registry;
mod replay;
mod store;
mod sync;
mod take_over;
mod tidy;
mod upload;

pub use ahead::Listings;
pub use durable::SYNCFS_FROM;
pub use inspect::Report;
pub use list::Shards;
pub use moves::FileMoves;
pub use registry::RootRegistry;
pub use replay::Durable;
pub use store::{Closed, Config, DirSyncCache, FileStore};
pub use upload::MAX_OPEN;
