//! Drivers that have never heard of the type: the programs of tests/drivers keep files in a table, written as for bytea, and do
//! the same where the column is an rbytea. `make driver-test` installs what they take and runs them; a driver that is not installed fails
//! its test. docs/CLIENTS.md says what else was measured.
//!
//! Not here, because no registry that is used has them: Npgsql (NuGet), RPostgres (CRAN), pgx 5 (Go's module proxy; Debian 12 has 4).

mod in_process;
mod programs;
mod running;
mod scenario;
mod schema_tools;
