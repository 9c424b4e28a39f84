//! Random sessions against a model: every row equals its twin with plain bytea, and in the end the store has the files of the
//! visible rows and no others; with restarts and kills, and with the background vacuum under load.

mod random_sessions;
mod soak;
