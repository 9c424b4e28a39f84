//! The type, its functions and the vacuum give no user rights that he does not have: ordinary users, owners of databases, functions
//! with other rights, row security, the files on the disk.

mod definers;
mod hostile_schema;
mod objects;
mod ordinary_users;
mod owners_code;
mod restoring_as_owner;
mod row_security;
mod store_files;
mod tenant_settings;
