//! rbytea_check() finds every kind of damage, names it, and finds nothing else, beside whatever others do: in rows, in files, in
//! keys and in rights, on a primary and on a standby.

mod bounds;
mod files;
mod group_access;
mod healthy;
mod keys;
mod program;
mod races;
mod rights;
mod rows;
mod standby;
mod targets;
mod unstored;
mod values;
