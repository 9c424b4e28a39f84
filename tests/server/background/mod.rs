//! The background vacuum: its launcher goes through the databases, its workers collect garbage, and neither is in the way of
//! others, whatever ends it or fails.

mod databases;
mod failures;
mod launcher;
mod locks;
mod promotion;
mod ranges;
mod workers;
