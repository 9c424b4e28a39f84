//! What is shared between the jobs of a run.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was locked; nothing here is left half done by a thread that ends.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
