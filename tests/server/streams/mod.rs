//! Payloads that are in memory piece by piece only: uploads by handle and by COPY, rbytea_agg(), large objects, ranges and chunks. What
//! comes in has the bytes that were sent, or is garbage without its bytes; what goes out is what was stored, in constant memory.

mod aggregates;
mod aggregates_in_plans;
mod bounds;
mod chunks;
mod client;
mod copies;
mod encrypted;
mod full_disk;
mod given_up;
mod handles;
mod kills;
mod large_objects;
mod logged;
mod procedures;
mod progress;
mod ranges;
mod savepoints;
mod uploads;
