//! What CREATE EXTENSION creates is what is declared, the library lets the server start and start again, and `make installcheck`
//! passes.

mod declared_objects;
mod regress;
mod schemas;
mod startup;
