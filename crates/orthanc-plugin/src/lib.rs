//! The plugin that Orthanc loads: four entry points, the callbacks of a storage area, metrics and a status route. No panic
//! crosses the border to C++, and whatever fails is told to Orthanc by a code and to the administrator by a line in the log.
#![allow(non_snake_case, reason = "Orthanc's names")]

mod callbacks;
mod seen;
mod state;

use std::ffi::{CStr, c_char, c_int};

use rbytea_connect::Environment;
use rbytea_orthanc_sdk::raw::{Context, ErrorCode};
use rbytea_orthanc_sdk::{Core, Level};
use rbytea_orthanc_storage::{Config, Error, Log, Storage};

const NAME: &CStr = c"rbytea-storage";
const DESCRIPTION: &str = "Stores the files of Orthanc in PostgreSQL, by the type rbytea.";

/// The first version whose storage areas read ranges.
const OLDEST: (u32, u32, u32) = (1, 9, 0);

/// # Safety
/// Called once by Orthanc, with its context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OrthancPluginInitialize(context: *mut Context) -> c_int {
    // SAFETY: the pointer is Orthanc's, and `OrthancPluginFinalize` ends the use of it.
    let Some(core) = (unsafe { Core::new(context) }) else { return -1 };
    state::set_core(Some(core));
    state::guarded(-1, || match start(core) {
        Ok(()) => 0,
        Err(message) => {
            core.log(Level::Error, &format!("rbytea storage: {message}"));
            -1
        }
    })
}

/// Ends the connections; a call that is running comes to its end first.
#[unsafe(no_mangle)]
pub extern "C" fn OrthancPluginFinalize() {
    state::guarded((), || state::set_storage(None));
    state::set_core(None);
}

/// The plugin's name.
#[unsafe(no_mangle)]
pub extern "C" fn OrthancPluginGetName() -> *const c_char {
    NAME.as_ptr()
}

/// The plugin's version.
#[unsafe(no_mangle)]
pub extern "C" fn OrthancPluginGetVersion() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

fn start(core: Core) -> Result<(), String> {
    if !core.is_at_least(OLDEST) {
        return Err(format!("this is Orthanc {}; 1.9.0 is the oldest that will do", core.version()));
    }
    core.describe(NAME, DESCRIPTION);
    let code = |what: &str, code: ErrorCode| format!("{what}: Orthanc's error {}", code.0);
    let text = core.configuration().map_err(|error| code("the configuration cannot be had", error))?;
    let chain = |error: Error| error.chain();
    let Some(config) = Config::parse(&text, &Environment::of_process()).map_err(chain)? else {
        core.log(
            Level::Warning,
            "rbytea storage: \"EnableStorage\" in the section \"Rbytea\" is false, so files are stored elsewhere",
        );
        return Ok(());
    };
    // First of all, so that nothing is written to a database whose files Orthanc would not look for.
    match core.register_storage_area(&callbacks::AREA) {
        ErrorCode::SUCCESS => {}
        ErrorCode::STORAGE_AREA_ALREADY_REGISTERED => {
            return Err(
                "another plugin stores the files already; only one can (\"Plugins\" in the configuration)"
                    .into(),
            );
        }
        other => return Err(code("the storage cannot be registered", other)),
    }
    let storage = Storage::open(config, Log(state::log)).map_err(chain)?;
    core.log(Level::Warning, &format!("rbytea storage: files are in {}", storage.place()));
    state::set_storage(Some(storage));
    seen::register(core);
    Ok(())
}
