//! Encrypted payloads are to SQL what plain ones are, and nothing on the disk tells what they are; keys come and go, and
//! rbytea_reencrypt() brings tables to the newest one.

mod damage;
mod key_counts;
mod key_files;
mod keys;
mod replication;
mod rotating;
mod rotation;
mod rotation_constraints;
mod rotation_races;
mod rotation_refusals;
mod rotation_tables;
mod stores;
mod values;
