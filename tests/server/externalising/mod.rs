//! Whatever statement, trigger, session or DDL puts a payload into a table, it ends up in a file, and a reference in the row:
//! nowhere does one stay in its row unnoticed, and nowhere does a reference to a missing file come in.

mod columns;
mod containers;
mod filled_tables;
mod other_ways;
mod partitions;
mod references_in_ddl;
mod repairs;
mod sessions;
mod statements;
mod tables;
mod triggers;
mod unchanged;
