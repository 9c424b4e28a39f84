//! What DDL needs: row triggers on new and changed tables, storing the payloads that a statement leaves inline in
//! rows, payload files for a database that is made from a template. Uses `pg`, `value`, `session`, `write` and `mark`;
//! the vacuum's worker uses it to put missing triggers back, and lib.rs registers its hook.

pub mod attach;
pub mod clone_database;
mod inline_rows;
pub mod object_access;
pub mod reconcile;
pub mod refusals;
mod upload_view;
pub mod utility_hook;
