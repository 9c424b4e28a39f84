//! The type's SQL surface: input, output, casts, functions and operators. Uses all other folders; none uses it.

mod functions;
mod io;
mod keys;
mod operators;
