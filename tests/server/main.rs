//! Tests against a real server: one module for each behaviour, each test with a cluster of its own.
//! The extension has to be installed (`make server-test` does that); PG_CONFIG names the installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cluster;
mod installation;
mod payload;
mod session;
mod standby;
mod store_files;
mod twin;

mod externalising_columns;
mod externalising_containers;
mod externalising_filled_tables;
mod externalising_partitions;
mod externalising_sessions;
mod externalising_statements;
mod externalising_tables;
mod externalising_triggers;
mod interruptions;
mod logical_replication;
mod prepared_transactions;
mod pure_values;
mod races;
mod races_under_load;
mod regress;
mod row_costs;
mod rvacuum;
mod rvacuum_horizon;
mod rvacuum_references;
mod rvacuum_refusals;
mod rvacuum_store;
mod startup;
mod transactions;
