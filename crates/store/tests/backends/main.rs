//! What every backend of the store must do, tested through the trait `Backend` alone: a backend is finished when this
//! suite passes for it. `on_every_backend` has the list of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod databases;
mod listing;
mod moving;
mod owner;
mod support;
mod uploads;
