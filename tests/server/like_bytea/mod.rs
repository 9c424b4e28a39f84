//! To its users rbytea is like bytea: each behaviour is asked of both, and for payloads in memory, in a row and in a
//! file alike.

mod clients;
mod comparison;
mod converted;
mod functions;
mod generated;
mod input_output;
mod neighbours;
mod ranges;
mod regression;
mod wire;
mod wire_sessions;
