//! Clients that have never heard of rbytea work with it unchanged: psql, COPY, pg_dump and pg_restore, drivers.

mod copy;
mod dump;
pub mod original;
