//! What can be seen from outside: metrics for Prometheus (`/tools/metrics-prometheus`), and a status in JSON (`/rbytea/status`).

use std::ffi::c_char;
use std::sync::atomic::{AtomicU64, Ordering};

use rbytea_orthanc_sdk::raw::{ErrorCode, HTTP_METHOD_GET, HttpRequest, RestOutput};
use rbytea_orthanc_sdk::{Core, Level};
use rbytea_orthanc_storage::Storage;
use serde_json::{Value, json};

use crate::state::{core, guarded, with_storage};

/// Neither is needed to store files: that it cannot be had is said, and no more.
pub fn register(core: Core) {
    let codes = [core.register_metrics(refresh), core.register_rest("/rbytea/status", status)];
    for code in codes.iter().filter(|code| **code != ErrorCode::SUCCESS) {
        core.log(
            Level::Warning,
            &format!("rbytea storage: no metrics or no status: Orthanc's error {}", code.0),
        );
    }
}

/// What this process has done since it has started.
fn counts(storage: &Storage) -> [(&'static str, u64); 7] {
    let counts = storage.counts();
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    [
        ("files_stored", of(&counts.stored)),
        ("bytes_stored", of(&counts.stored_bytes)),
        ("reads", of(&counts.read)),
        ("bytes_read", of(&counts.read_bytes)),
        ("files_removed", of(&counts.removed)),
        ("retries", of(&counts.retries)),
        ("failures", of(&counts.failed)),
    ]
}

/// What goes on now.
fn load(storage: &Storage) -> [(&'static str, u64); 3] {
    let load = storage.load();
    [
        ("connections_used", load.used as u64),
        ("connections_idle", load.idle as u64),
        ("threads_waiting", load.waiting as u64),
    ]
}

unsafe extern "C" fn refresh() {
    guarded((), || {
        let Some(core) = core() else { return };
        with_storage(|storage| {
            for (name, value) in counts(storage).into_iter().chain(load(storage)) {
                core.set_metric(&format!("orthanc_rbytea_{name}"), value as f32);
            }
            if let Some(held) = storage.holds_lock() {
                core.set_metric("orthanc_rbytea_lock_held", f32::from(u8::from(held)));
            }
        });
    });
}

unsafe extern "C" fn status(
    output: *mut RestOutput,
    _: *const c_char,
    request: *const HttpRequest,
) -> ErrorCode {
    guarded(ErrorCode::PLUGIN, || {
        let Some(core) = core().filter(|_| !request.is_null()) else { return ErrorCode::NULL_POINTER };
        // SAFETY: Orthanc passes the request that is being answered.
        if unsafe { (*request).method } != HTTP_METHOD_GET {
            // SAFETY: the output of this request.
            return unsafe { core.method_not_allowed(output, c"GET") };
        }
        let Some(status) = with_storage(describe) else { return ErrorCode::DATABASE_UNAVAILABLE };
        let body = format!("{status:#}\n");
        // SAFETY: the output of this request.
        unsafe { core.answer(output, body.as_bytes(), c"application/json") }
    })
}

fn describe(storage: &Storage) -> Value {
    let object = |numbers: &[(&str, u64)]| {
        Value::Object(numbers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect())
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "place": storage.place(),
        "lock_held": storage.holds_lock(),
        "now": object(&load(storage)),
        "since_start": object(&counts(storage)),
    })
}
