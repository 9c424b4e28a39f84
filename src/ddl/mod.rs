//! What statements of DDL need: row triggers on new and changed tables, the payloads that such a statement leaves in rows,
//! payload files for a database that is made from a template. Uses `pg`, `value`, `session`, `write` and `mark`; the
//! vacuum's worker uses it to put missing triggers back.

pub mod attach;
pub mod clone_database;
mod inline_rows;
mod reconcile;
pub mod utility_hook;
