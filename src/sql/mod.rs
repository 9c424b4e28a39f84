//! The type's SQL surface: input, output, casts, functions and operators. Uses `pg`, `value`, `session` and
//! `mark`; nothing uses it.

mod analyze;
mod functions;
mod io;
mod keys;
mod operators;
