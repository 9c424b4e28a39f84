//! Bytes that a user can pass make no reference, and what was planted in the store is neither followed nor destroyed: bad input and
//! foreign files do no harm.

mod forged_in_memory;
mod forged_references;
mod forged_types;
mod forging;
mod planted_in_store;
mod planted_in_trash;
mod planting;
