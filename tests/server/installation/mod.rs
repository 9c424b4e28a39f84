//! What CREATE EXTENSION creates is what is declared, the library lets the server start and start again, under the original's
//! name as well, the extension is upgraded from its first release on, and `make installcheck` passes.

mod declared_objects;
mod original_name;
mod regress;
mod schemas;
mod startup;
mod upgrade;
