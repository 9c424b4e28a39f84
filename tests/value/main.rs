//! The bytes of a value and the judgement of the sweep, without a server: properties against models that are too
//! simple to be wrong.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hash;
mod header;
mod judgement;
mod substring;
