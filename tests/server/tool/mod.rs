//! The program rbytea: what it puts it gets back, whatever becomes of the connection, and it never writes where it should not.

mod connections;
mod dumps;
mod files;
mod get;
mod interrupted;
mod large_objects;
mod lost;
mod programs;
mod put;
mod refusals;
