//! Memory for one tuple at a time.

use pgrx::{PgMemoryContexts, pg_sys};

/// A memory context that is emptied for each tuple of a scan.
pub struct TupleMemory {
    context: PgMemoryContexts,
}

impl TupleMemory {
    /// Below the current context.
    pub fn new() -> Self {
        Self { context: PgMemoryContexts::new("rbytea tuple") }
    }

    /// Runs `work` with the emptied context as the current one. An ERROR that passes finds the context of before, because
    /// this one is deleted on its way.
    pub fn with<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: nothing that an earlier call allocated is referred to any more: `work` borrows nothing from it.
        unsafe { self.context.reset() };
        // SAFETY: our context outlives `inside`, which puts the one of before back.
        let inside = Inside { outer: unsafe { pg_sys::MemoryContextSwitchTo(self.context.value()) } };
        let result = work();
        drop(inside);
        result
    }
}

struct Inside {
    outer: pg_sys::MemoryContext,
}

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: the context that was current before, which outlives the scan.
        unsafe { pg_sys::MemoryContextSwitchTo(self.outer) };
    }
}
