//! What tests of more than one subject use: clusters and sessions, tables whose payloads are known, faults, and the judges.
//! Nothing in here is a test of the extension.

pub mod access_method;
pub mod background;
pub mod broken_store;
pub mod cluster;
pub mod encryption;
pub mod injector;
pub mod installation;
pub mod judge;
pub mod keepers;
pub mod library;
pub mod model;
pub mod orthanc;
pub mod payload;
pub mod processes;
pub mod procfs;
pub mod runs;
pub mod session;
pub mod shared_store;
pub mod standby;
pub mod store_files;
pub mod subscription;
pub mod tool;
pub mod twin_tables;
pub mod twins;
pub mod volumes;
