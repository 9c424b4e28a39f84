//! Tests against a real server: one module for each behaviour, each test with a cluster of its own.
//! The extension has to be installed (`make server-test` does that); PG_CONFIG names the installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod broken_store;
mod cluster;
mod installation;
mod payload;
mod procfs;
mod session;
mod store_files;
mod twins;

mod clients;
mod declared_objects;
mod file_errors;
mod forged_references;
mod functions_of_the_original;
mod like_bytea;
mod regress;
mod rights;
mod startup;
mod statistics;
mod store_errors;
