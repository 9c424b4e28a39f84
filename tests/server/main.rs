//! Tests against a real server: one module for each behaviour, each test with a cluster of its own.
//! The extension has to be installed (`make server-test` does that); PG_CONFIG names the installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod background;
mod broken_store;
mod cluster;
mod installation;
mod payload;
mod procfs;
mod session;
mod standby;
mod store_files;
mod twin_tables;
mod twins;

mod background_databases;
mod background_failures;
mod background_launcher;
mod background_locks;
mod background_promotion;
mod background_ranges;
mod background_workers;
mod clients;
mod declared_objects;
mod externalising_columns;
mod externalising_containers;
mod externalising_filled_tables;
mod externalising_partitions;
mod externalising_sessions;
mod externalising_statements;
mod externalising_tables;
mod externalising_triggers;
mod file_errors;
mod forged_references;
mod functions_of_the_original;
mod interruptions;
mod like_bytea;
mod logical_replication;
mod model;
mod prepared_transactions;
mod pure_values;
mod races;
mod races_under_load;
mod regress;
mod rights;
mod row_costs;
mod rvacuum;
mod rvacuum_horizon;
mod rvacuum_references;
mod rvacuum_refusals;
mod rvacuum_store;
mod startup;
mod statistics;
mod store_errors;
mod transactions;
