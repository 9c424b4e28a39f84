//! An Orthanc without Orthanc: loads the plugin, answers the services that it calls, and calls its callbacks, from any thread.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Mutex;

use libloading::Library;
use rbytea_orthanc_sdk::StorageArea;
use rbytea_orthanc_sdk::raw::{self, Context, ErrorCode, HttpRequest, MemoryBuffer64, RestOutput, Service};
use serde_json::Value;

use crate::support::orthanc::plugin;

/// What the plugin has told the core, and what the core tells it.
struct Told {
    configuration: String,
    /// Whether the core has another storage.
    has_storage: bool,
    log: Mutex<Vec<String>>,
    area: Mutex<Option<StorageArea>>,
    metrics: Mutex<BTreeMap<String, f32>>,
    refresh: Mutex<Option<raw::RefreshMetricsCallback>>,
    routes: Mutex<BTreeMap<String, raw::RestCallback>>,
    answer: Mutex<Option<String>>,
}

/// A core with the plugin.
pub struct Core {
    library: Library,
    context: Box<Context>,
    told: Box<Told>,
    // What the context points to.
    _version: CString,
}

// SAFETY: the plugin's callbacks may be called by any thread, and so may the core's services.
unsafe impl Sync for Core {}
// SAFETY: as above.
unsafe impl Send for Core {}

fn text(pointer: *const c_char) -> String {
    // SAFETY: what the plugin passes is a string.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

unsafe extern "C" fn free(buffer: *mut c_void) {
    // SAFETY: it was allocated by `service`.
    unsafe { libc::free(buffer) };
}

unsafe extern "C" fn service(context: *mut Context, service: Service, params: *const c_void) -> ErrorCode {
    // SAFETY: the plugin passes the context that it was given.
    let told = unsafe { &*(*context).plugins_manager.cast::<Told>() };
    // SAFETY: each service's parameters are of the type that the plugin's own bindings say, which a test compares with Orthanc's header.
    unsafe {
        match service {
            Service::LOG_INFO | Service::LOG_WARNING | Service::LOG_ERROR => {
                let level = ["info", "warning", "error"][service.0 as usize - 1];
                told.log.lock().unwrap().push(format!("{level}: {}", text(params.cast())));
            }
            Service::SET_PLUGIN_PROPERTY => {}
            Service::GET_CONFIGURATION => {
                let params = &*params.cast::<raw::RetrieveDynamicString>();
                let configuration = CString::new(told.configuration.as_str()).unwrap();
                *params.result = libc::strdup(configuration.as_ptr());
            }
            Service::REGISTER_STORAGE_AREA_2 => {
                if told.has_storage {
                    return ErrorCode::STORAGE_AREA_ALREADY_REGISTERED;
                }
                *told.area.lock().unwrap() = Some(ptr::read(params.cast::<StorageArea>()));
            }
            Service::CREATE_MEMORY_BUFFER_64 => {
                let params = &*params.cast::<raw::CreateMemoryBuffer64>();
                let data =
                    if params.size == 0 { ptr::null_mut() } else { libc::malloc(params.size as usize) };
                params.target.write(MemoryBuffer64 { data, size: params.size });
            }
            Service::SET_METRICS_VALUE => {
                let params = &*params.cast::<raw::SetMetricsValue>();
                told.metrics.lock().unwrap().insert(text(params.name), params.value);
            }
            Service::REGISTER_REFRESH_METRICS_CALLBACK => {
                let params = &*params.cast::<raw::RegisterRefreshMetricsCallback>();
                *told.refresh.lock().unwrap() = Some(params.callback);
            }
            Service::REGISTER_REST_CALLBACK_NO_LOCK => {
                let params = &*params.cast::<raw::RegisterRestCallback>();
                let path = text(params.path_regular_expression);
                told.routes.lock().unwrap().insert(path, params.callback);
            }
            Service::ANSWER_BUFFER => {
                let params = &*params.cast::<raw::AnswerBuffer>();
                let body = std::slice::from_raw_parts(params.answer.cast(), params.answer_size as usize);
                *told.answer.lock().unwrap() = Some(String::from_utf8(body.to_vec()).unwrap());
            }
            Service::SEND_METHOD_NOT_ALLOWED => *told.answer.lock().unwrap() = Some("405".into()),
            other => panic!("the plugin calls service {}", other.0),
        }
    }
    ErrorCode::SUCCESS
}

impl Core {
    /// Starts the plugin with this configuration; the log if it refuses.
    pub fn try_start(scratch: &Path, configuration: &Value) -> Result<Self, Vec<String>> {
        Self::start_in(scratch, "1.13.0", configuration, false)
    }

    /// The same, which must work.
    #[track_caller]
    pub fn start(scratch: &Path, configuration: &Value) -> Self {
        Self::try_start(scratch, configuration).unwrap_or_else(|log| panic!("{log:#?}"))
    }

    /// The same for a version of Orthanc, that may have another storage already.
    pub fn start_in(
        scratch: &Path,
        version: &str,
        configuration: &Value,
        has_storage: bool,
    ) -> Result<Self, Vec<String>> {
        // The dynamic linker loads one file once: each core has one of its own.
        let copy = tempfile::Builder::new().suffix(".so").tempfile_in(scratch).unwrap();
        std::fs::copy(plugin(), copy.path()).unwrap();
        // SAFETY: loading the plugin runs nothing but the runtime of Rust.
        let library = unsafe { Library::new(copy.path()) }.unwrap();
        let told = Box::new(Told {
            configuration: configuration.to_string(),
            has_storage,
            log: Mutex::default(),
            area: Mutex::default(),
            metrics: Mutex::default(),
            refresh: Mutex::default(),
            routes: Mutex::default(),
            answer: Mutex::default(),
        });
        let version = CString::new(version).unwrap();
        let context = Box::new(Context {
            plugins_manager: ptr::from_ref(told.as_ref()).cast_mut().cast(),
            orthanc_version: version.as_ptr(),
            free,
            invoke_service: service,
        });
        let mut core = Self { library, context, told, _version: version };
        // SAFETY: the entry points have these signatures in Orthanc's documentation.
        let code = unsafe {
            let initialize = core.library.get::<raw::Initialize>(b"OrthancPluginInitialize").unwrap();
            initialize(&raw mut *core.context)
        };
        if code == 0 { Ok(core) } else { Err(core.log()) }
    }

    /// What the plugin has logged.
    pub fn log(&self) -> Vec<String> {
        self.told.log.lock().unwrap().clone()
    }

    /// Whether a line of the log has these words.
    pub fn has_logged(&self, words: &str) -> bool {
        self.log().iter().any(|line| line.contains(words))
    }

    /// Whether the plugin stores files.
    pub fn stores(&self) -> bool {
        self.told.area.lock().unwrap().is_some()
    }

    /// Calls the storage on a thread like those of Orthanc's web server (civetweb's, with a stack of 100 kB).
    fn area<T: Send>(&self, call: impl FnOnce(&StorageArea) -> T + Send) -> T {
        // Not under the lock: calls may come from many threads.
        let area = self.told.area.lock().unwrap().as_ref().map(|area| StorageArea { ..*area });
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(100 << 10);
            thread.spawn_scoped(scope, || call(&area.unwrap())).unwrap().join().unwrap()
        })
    }

    /// Stores a file; the code.
    pub fn create(&self, uuid: &str, content: &[u8]) -> ErrorCode {
        self.create_as(uuid, content, 1)
    }

    /// The same as an attachment of this type.
    pub fn create_as(&self, uuid: &str, content: &[u8], content_type: i32) -> ErrorCode {
        let uuid = CString::new(uuid).unwrap();
        self.area(|area| {
            let data = if content.is_empty() { ptr::null() } else { content.as_ptr().cast() };
            // SAFETY: the arguments are what Orthanc passes.
            unsafe { (area.create)(uuid.as_ptr(), data, content.len() as i64, content_type) }
        })
    }

    /// Reads a whole file, as Orthanc did until 1.12.
    pub fn read(&self, uuid: &str) -> Result<Vec<u8>, ErrorCode> {
        let uuid = CString::new(uuid).unwrap();
        self.area(|area| {
            let mut buffer = MemoryBuffer64 { data: ptr::null_mut(), size: 0 };
            // SAFETY: the arguments are what Orthanc passes.
            let code = unsafe { (area.read_whole)(&raw mut buffer, uuid.as_ptr(), 1) };
            if code != ErrorCode::SUCCESS {
                assert!(buffer.data.is_null(), "memory that nobody frees");
                return Err(code);
            }
            if buffer.size == 0 {
                return Ok(Vec::new());
            }
            // SAFETY: the plugin has allocated it by `service`.
            let content =
                unsafe { std::slice::from_raw_parts(buffer.data.cast::<u8>(), buffer.size as usize) };
            let content = content.to_vec();
            // SAFETY: as above.
            unsafe { free(buffer.data) };
            Ok(content)
        })
    }

    /// Reads a range of a file.
    pub fn read_range(&self, uuid: &str, start: u64, len: usize) -> Result<Vec<u8>, ErrorCode> {
        let uuid = CString::new(uuid).unwrap();
        self.area(|area| {
            let mut content = vec![0_u8; len];
            let mut buffer = MemoryBuffer64 { data: content.as_mut_ptr().cast(), size: len as u64 };
            // SAFETY: the arguments are what Orthanc passes.
            let code = unsafe { (area.read_range)(&raw mut buffer, uuid.as_ptr(), 1, start) };
            if code == ErrorCode::SUCCESS { Ok(content) } else { Err(code) }
        })
    }

    /// Removes a file; the code.
    pub fn remove(&self, uuid: &str) -> ErrorCode {
        let uuid = CString::new(uuid).unwrap();
        // SAFETY: the arguments are what Orthanc passes.
        self.area(|area| unsafe { (area.remove)(uuid.as_ptr(), 1) })
    }

    /// The metrics as they are now.
    pub fn metrics(&self) -> BTreeMap<String, f32> {
        let refresh = self.told.refresh.lock().unwrap().unwrap();
        // SAFETY: the plugin's callback.
        unsafe { refresh() };
        self.told.metrics.lock().unwrap().clone()
    }

    /// What a request of the REST interface is answered.
    pub fn rest(&self, path: &str, method: i32) -> String {
        let callback = self.told.routes.lock().unwrap()[path];
        let url = CString::new(path).unwrap();
        let request = HttpRequest {
            method,
            groups_count: 0,
            groups: ptr::null(),
            get_count: 0,
            get_keys: ptr::null(),
            get_values: ptr::null(),
            body: ptr::null(),
            body_size: 0,
        };
        let output = ptr::dangling_mut::<RestOutput>();
        // SAFETY: the arguments are what Orthanc passes; nobody looks into the output.
        let code = unsafe { callback(output, url.as_ptr(), &raw const request) };
        assert_eq!(code, ErrorCode::SUCCESS);
        self.told.answer.lock().unwrap().take().unwrap()
    }

    /// What the plugin is called.
    pub fn name_and_version(&self) -> (String, String) {
        // SAFETY: the entry points have these signatures in Orthanc's documentation.
        unsafe {
            let name = self.library.get::<unsafe extern "C" fn() -> *const c_char>(b"OrthancPluginGetName");
            let version =
                self.library.get::<unsafe extern "C" fn() -> *const c_char>(b"OrthancPluginGetVersion");
            (text(name.unwrap()()), text(version.unwrap()()))
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // SAFETY: the entry point has this signature in Orthanc's documentation.
        unsafe {
            let finalize = self.library.get::<unsafe extern "C" fn()>(b"OrthancPluginFinalize").unwrap();
            finalize();
        }
    }
}
