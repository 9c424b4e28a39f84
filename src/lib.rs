//! `rbytea`: a PostgreSQL type that behaves like `bytea` while its payload lives in a file.
//!
//! The store and the bytes of a value are in the crate `rbytea_store`, which knows no PostgreSQL; this one is the SQL
//! surface and the transaction's, the DDL's and the vacuum's side of it. Each folder may use those before it in the
//! order `pg`, `wal`, `value`, `session`, `recovery`, `write`, `mark`, `ddl`, `vacuum`, `check`, `reencrypt`, `stream`, `sql`, `wire`, and no other;
//! tests/imports checks that.

mod check;
mod ddl;
mod mark;
mod pg;
mod recovery;
mod reencrypt;
mod session;
mod sql;
mod stream;
pub mod vacuum;
mod value;
mod wal;
mod wire;
mod write;

::pgrx::pg_module_magic!(name, version);

/// Called by the server when it loads the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // pgrx would put a backtrace into the DETAIL of every error where the server's environment has RUST_BACKTRACE, for
    // clients to see. An administrator who wants that sets RUST_LIB_BACKTRACE.
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: a backend has one thread.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    }
    pg::settings::init();
    session::transaction::init();
    stream::uploads::init();
    // SAFETY: a plain read.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress } {
        recovery::init_reading();
    }
    // SAFETY: plain reads. pg_upgrade recreates the databases of another cluster, whose payloads must not be touched.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress && !pgrx::pg_sys::IsBinaryUpgrade }
    {
        pg::shared::init();
        wal::presence::init();
        recovery::init_writing();
        vacuum::init();
        ddl::utility_hook::init();
    }
    // SAFETY: plain reads. A session that has run a statement already has seen rbytea as it is.
    if unsafe { pgrx::pg_sys::debug_query_string.is_null() && !pgrx::pg_sys::IsBinaryUpgrade } {
        pg::installed::init();
        pg::statement::init();
        ddl::object_access::init();
        wire::init();
    }
}
