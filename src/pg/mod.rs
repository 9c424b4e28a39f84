//! PostgreSQL as the rest of the extension needs it: settings, the system catalogs, errors, memory, scans, shared
//! memory, and what differs between major versions. Uses `rbytea_store` for its errors alone, and nothing else of the
//! extension; every other folder may use it.

mod advice;
pub mod background;
pub mod catalog;
pub mod compat;
pub mod descriptor;
pub mod encoding;
pub mod error;
pub mod heap_scan;
pub mod injection;
pub mod installed;
pub mod interrupts;
pub mod memory;
pub mod pace;
pub mod progress;
pub mod relation;
pub mod rows;
pub mod settings;
pub mod shared;
pub mod signals;
pub mod snapshot;
pub mod spi;
pub mod statement;
pub mod subtransaction;
