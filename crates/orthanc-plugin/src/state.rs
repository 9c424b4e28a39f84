//! What the callbacks find: the core, and the storage while there is one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use rbytea_orthanc_sdk::{Core, Level};
use rbytea_orthanc_storage::{Severity, Storage};

static CORE: RwLock<Option<Core>> = RwLock::new(None);
static STORAGE: RwLock<Option<Storage>> = RwLock::new(None);

/// Each start has its own: a reset of Orthanc ends one and begins the next in the same process.
pub fn set_core(core: Option<Core>) {
    *CORE.write().unwrap_or_else(PoisonError::into_inner) = core;
}

pub fn core() -> Option<Core> {
    *CORE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for calls that are running.
pub fn set_storage(storage: Option<Storage>) {
    let before = std::mem::replace(&mut *STORAGE.write().unwrap_or_else(PoisonError::into_inner), storage);
    drop(before);
}

/// Does something with the storage; None if there is none.
pub fn with_storage<T>(work: impl FnOnce(&Storage) -> T) -> Option<T> {
    STORAGE.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(work)
}

/// A line of the storage's in Orthanc's log.
pub fn log(severity: Severity, text: &str) {
    let level = match severity {
        Severity::Warning => Level::Warning,
        Severity::Error => Level::Error,
    };
    if let Some(core) = core() {
        core.log(level, &format!("rbytea storage: {text}"));
    }
}

/// What C++ calls: a panic becomes a line in the log and this value.
pub fn guarded<T>(failed: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        log(Severity::Error, &format!("this is a bug of the plugin: {text}"));
        failed
    })
}
