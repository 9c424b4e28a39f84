//! `rbytea`: a PostgreSQL type that behaves like `bytea` while its payload lives in a file.
//!
//! The core ([`store`], [`value`]) is plain Rust and knows no PostgreSQL; the other modules are the SQL surface and the
//! transaction's, the DDL's and the vacuum's side of it.

pub mod store;
pub mod vacuum;
pub mod value;

mod attach;
mod catalog;
mod compat;
mod datum;
mod error;
mod externalize;
mod functions;
mod horizon;
mod inline_rows;
mod io;
mod mark;
mod operators;
mod read;
mod settings;
mod xact;

::pgrx::pg_module_magic!(name, version);

/// Called by the server when it loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::init();
    xact::init();
}
