//! Tests against a real server: one module for each behaviour, each test with a cluster of its own.
//! The extension has to be installed (`make server-test` does that); PG_CONFIG names the installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cluster;
mod installation;
mod payload;
mod session;
mod store_files;

mod model;
mod regress;
mod startup;
