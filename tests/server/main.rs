//! Tests against a real server: a folder for each subject, each test with a cluster of its own. What several subjects use is in
//! `support`; no subject uses another one (tests/layout).
//! The extension has to be installed (`make server-test` does that); PG_CONFIG names the installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use rbytea_evidence as evidence;

mod support;

mod background;
mod backup;
mod bad_input;
mod check;
mod concurrency;
mod crashes;
mod databases;
mod drivers;
mod encryption;
mod externalising;
mod faults;
mod history;
mod installation;
mod like_bytea;
mod model;
mod orthanc;
mod purge;
mod references;
mod replication;
mod rights;
mod streams;
mod tool;
mod transactions;
mod vacuum;
mod values;
mod wal;
