//! `rbytea`: a PostgreSQL type that behaves like `bytea` while its payload lives in a file.

::pgrx::pg_module_magic!();

pub mod store;
