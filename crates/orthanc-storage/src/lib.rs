//! The files of an Orthanc in a table with an rbytea column: its configuration, connections, schema and SQL, and what is done again
//! when a server ends or a connection is lost. Knows nothing of Orthanc's interface; every call blocks its thread, and any number
//! of threads may call.

mod check;
mod config;
mod error;
mod files;
mod holder;
pub mod old;
mod pool;
mod prepared;
mod schema;
mod storage;

pub use config::Config;
pub use error::{Error, Kind};
pub use files::{File, Files};
pub use pool::{Load, Moved, prepare};
pub use prepared::{Db, Statements};
pub use schema::{Schema, are_ours};
pub use storage::{Buffer, Counts, Log, Severity, Storage};
