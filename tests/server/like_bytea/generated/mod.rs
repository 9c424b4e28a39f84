//! Generated input for rbytea and for bytea at once: what bytea answers, a value or an error, rbytea has to answer.
//!
//! The inputs are mutations of good ones by a seeded generator and no fuzzer's: the code that judges them runs in a
//! server, where a fuzzer sees nothing of it (rbytea's input and output functions are those of bytea, called).
//! RBYTEA_GENERATED_INPUTS (100,000 by default) is the number of inputs of each test. They are the same ones in every run, so that
//! what a change breaks is the change's doing; RBYTEA_GENERATED_SEED makes others (`make soak`: new ones in every run).

mod binary;
mod bytes;
mod expressions;
mod texts;

use std::env;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A test's generator, and how many inputs it is to make.
pub struct Generator {
    rng: StdRng,
    seed: u64,
    pub inputs: u64,
    /// Within a part that is of the wrong kind; there is no second one within it.
    astray: bool,
}

impl Generator {
    pub fn new() -> Self {
        let number = |name| env::var(name).ok().map(|value| value.parse().expect("a number"));
        let seed = number("RBYTEA_GENERATED_SEED").unwrap_or(1);
        let inputs = number("RBYTEA_GENERATED_INPUTS").unwrap_or(100_000);
        Self { rng: StdRng::seed_from_u64(seed), seed, inputs, astray: false }
    }

    /// How to repeat this run, for messages.
    pub fn repeat(&self) -> String {
        format!("RBYTEA_GENERATED_SEED={} RBYTEA_GENERATED_INPUTS={}", self.seed, self.inputs)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
