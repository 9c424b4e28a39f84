//! The bytes of a value and the judgement of the sweep, without a server: properties against models that are too
//! simple to be wrong.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hash;
mod header;
mod judgement;
mod record;
mod reference;
mod room;
mod substring;

/// How often a property is tried. Failures are printed, not written beside the tests.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
