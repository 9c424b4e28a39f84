//! Long runs of random work: their length and their seed come from the environment, their failures are threads' panics.

use std::env;

/// The number that an environment variable has, if there is one.
pub fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

/// What a panic said.
pub fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    said.unwrap_or("a session panicked").to_owned()
}
