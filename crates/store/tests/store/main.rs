//! The store without a server: each module holds one behaviour.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ahead;
mod cipher;
mod clone;
mod clone_crash;
mod conformance;
mod copy;
mod crash;
mod databases;
mod dropped;
mod dropped_crash;
mod durability;
mod encrypted;
mod encrypted_damage;
mod encrypted_failures;
mod faults;
mod inspect;
mod inspect_failures;
mod inspect_rights;
#[cfg(feature = "interoperation")]
mod interoperation;
mod key_file;
mod keys;
mod known_answers;
mod layout;
mod listing;
mod owner;
mod payloads;
mod pending;
mod planted;
mod races;
mod registry;
mod replay;
mod root;
mod secret;
mod support;
mod sync_cache;
mod sync_points;
mod taken_over;
mod trash;
mod whole_seconds;
