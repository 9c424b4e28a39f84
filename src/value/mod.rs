//! A value between PostgreSQL's memory and `rbytea_store::value`: its datum, the columns that can hold one, and the
//! walk through arrays, composites and ranges to the values inside. Uses `pg`; opens no store. Every later folder but
//! `vacuum` uses it.

pub mod columns;
mod converted;
pub mod datum;
mod varlena;
pub mod walk;
