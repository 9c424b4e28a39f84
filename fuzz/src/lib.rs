//! What the fuzz targets judge: for each kind of bytes that somebody else may have written, the core's answer against
//! a definition that is written down here a second time, in another way, and back again to the bytes.
//!
//! The core is compiled from its sources and not through the extension's library: that needs the symbols of a server.

// The core's own tests name it so, and their file system in memory is used here too.
extern crate self as rbytea;

#[path = "../../src/linux.rs"]
mod linux;
#[path = "../../src/secret.rs"]
pub mod secret;
#[path = "../../src/store/mod.rs"]
pub mod store;
#[path = "../../src/value.rs"]
pub mod value;

#[path = "../../tests/core/memfs/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the core's tests use the rest")]
mod memfs;

pub mod judge;
