//! `rbytea`: a PostgreSQL type that behaves like `bytea` while its payload lives in a file.
//!
//! The core ([`store`], [`value`]) is plain Rust and knows no PostgreSQL; the other modules are the SQL surface and the
//! transaction's, the DDL's and the vacuum's side of it.

pub mod secret;
pub mod store;
pub mod vacuum;
pub mod value;

mod attach;
mod catalog;
mod check;
mod clone_database;
mod columns;
mod compat;
mod datum;
mod error;
mod externalize;
mod functions;
mod held_cursors;
mod horizon;
mod inline_rows;
mod io;
mod keys;
mod linux;
mod mark;
mod memory;
mod operators;
mod pace;
mod progress;
mod read;
mod reencrypt;
mod rows;
mod settings;
mod shared;
mod signals;
mod stop;
mod subtransaction;
mod utility_hook;
mod walk;
mod xact;

::pgrx::pg_module_magic!(name, version);

/// Called by the server when it loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // pgrx would put a backtrace into the DETAIL of every error where the server's environment has RUST_BACKTRACE, for
    // clients to see. Whoever wants that sets RUST_LIB_BACKTRACE.
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: a backend has one thread.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    }
    settings::init();
    xact::init();
    // SAFETY: plain reads. pg_upgrade makes the databases of another cluster anew; their payloads are no business of ours.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress && !pgrx::pg_sys::IsBinaryUpgrade }
    {
        shared::init();
        vacuum::init();
        utility_hook::init();
    }
}
