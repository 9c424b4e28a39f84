//! Orthanc's C interface for plugins, as far as a storage area needs it: the layout ([`raw`]), and a handle of the core that
//! makes its calls safe ([`Core`]). Needs Orthanc 1.9.0, the first version whose storage areas read ranges.

pub mod raw;

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use raw::{Context, ErrorCode, MemoryBuffer64, RestOutput, Service};

/// The Orthanc that has loaded the plugin. Its services may be called by any thread.
#[derive(Clone, Copy, Debug)]
pub struct Core(*mut Context);

// SAFETY: the core's services lock what they need; its context stays where it is until the plugin is finalized.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

/// The four callbacks of a storage area.
pub type StorageArea = raw::RegisterStorageArea2;

/// How serious a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What is shown with `--verbose` only.
    Info,
    /// What is always shown; Orthanc's own news come with it.
    Warning,
    /// What has failed.
    Error,
}

impl Core {
    /// # Safety
    /// The pointer is what Orthanc has passed to `OrthancPluginInitialize`, and the plugin is not finalized while this is used.
    pub unsafe fn new(context: *mut Context) -> Option<Self> {
        if context.is_null() { None } else { Some(Self(context)) }
    }

    /// Calls a service.
    ///
    /// # Safety
    /// The parameters are of the type that the service takes, and what they point to is valid.
    unsafe fn invoke<T>(self, service: Service, params: *const T) -> ErrorCode {
        // SAFETY: the context is valid (`new`); the rest is the caller's promise.
        unsafe { ((*self.0).invoke_service)(self.0, service, params.cast()) }
    }

    /// The version of Orthanc, as it prints it.
    pub fn version(self) -> String {
        // SAFETY: a string of the core's, which lives as long as the context.
        unsafe { CStr::from_ptr((*self.0).orthanc_version) }.to_string_lossy().into_owned()
    }

    /// Whether it is this version or a later one.
    pub fn is_at_least(self, wanted: (u32, u32, u32)) -> bool {
        let version = self.version();
        if version == "mainline" {
            return true;
        }
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        match (next(), next(), next()) {
            (Some(major), Some(minor), Some(revision)) => (major, minor, revision) >= wanted,
            _ => false,
        }
    }

    /// Writes a line to the log.
    pub fn log(self, level: Level, message: &str) {
        let service = match level {
            Level::Info => Service::LOG_INFO,
            Level::Warning => Service::LOG_WARNING,
            Level::Error => Service::LOG_ERROR,
        };
        let message = c_string(message);
        // SAFETY: these services take a string.
        unsafe { self.invoke::<c_char>(service, message.as_ptr()) };
    }

    /// The whole configuration, as JSON.
    pub fn configuration(self) -> Result<String, ErrorCode> {
        let mut text: *mut c_char = ptr::null_mut();
        let params = raw::RetrieveDynamicString { result: &raw mut text, argument: ptr::null() };
        // SAFETY: the type that the service takes.
        let code = unsafe { self.invoke(Service::GET_CONFIGURATION, &raw const params) };
        if code != ErrorCode::SUCCESS {
            return Err(code);
        }
        if text.is_null() {
            return Err(ErrorCode::NULL_POINTER);
        }
        // SAFETY: a string that the core has allocated for us, freed by its own function.
        unsafe {
            let configuration = CStr::from_ptr(text).to_string_lossy().into_owned();
            ((*self.0).free)(text.cast());
            Ok(configuration)
        }
    }

    /// Makes these callbacks the storage area. `STORAGE_AREA_ALREADY_REGISTERED` if another plugin's are.
    pub fn register_storage_area(self, area: &StorageArea) -> ErrorCode {
        // SAFETY: the type that the service takes; it copies it.
        unsafe { self.invoke(Service::REGISTER_STORAGE_AREA_2, ptr::from_ref(area)) }
    }

    /// Has the callback called whenever the metrics are asked for.
    pub fn register_metrics(self, callback: raw::RefreshMetricsCallback) -> ErrorCode {
        let params = raw::RegisterRefreshMetricsCallback { callback };
        // SAFETY: the type that the service takes; it copies it.
        unsafe { self.invoke(Service::REGISTER_REFRESH_METRICS_CALLBACK, &raw const params) }
    }

    /// Has the callback answer the requests of the REST interface whose path matches, several at a time.
    pub fn register_rest(self, path: &str, callback: raw::RestCallback) -> ErrorCode {
        let path = c_string(path);
        let params = raw::RegisterRestCallback { path_regular_expression: path.as_ptr(), callback };
        // SAFETY: the type that the service takes; it copies it.
        unsafe { self.invoke(Service::REGISTER_REST_CALLBACK_NO_LOCK, &raw const params) }
    }

    /// Says what the plugin called `plugin` is for.
    pub fn describe(self, plugin: &CStr, description: &str) {
        let value = c_string(description);
        let params = raw::SetPluginProperty {
            plugin: plugin.as_ptr(),
            property: raw::PROPERTY_DESCRIPTION,
            value: value.as_ptr(),
        };
        // SAFETY: the type that the service takes; it copies it.
        unsafe { self.invoke(Service::SET_PLUGIN_PROPERTY, &raw const params) };
    }

    /// Sets a metric.
    pub fn set_metric(self, name: &str, value: f32) {
        let name = c_string(name);
        let metrics_type = raw::METRICS_TYPE_DEFAULT;
        let params = raw::SetMetricsValue { name: name.as_ptr(), value, metrics_type };
        // SAFETY: the type that the service takes; it copies it.
        unsafe { self.invoke(Service::SET_METRICS_VALUE, &raw const params) };
    }

    /// Allocates a buffer that the core will free, and describes it in `target`.
    ///
    /// # Safety
    /// `target` is valid for writing.
    pub unsafe fn create_buffer(self, target: *mut MemoryBuffer64, size: u64) -> ErrorCode {
        let params = raw::CreateMemoryBuffer64 { target, size };
        // SAFETY: the type that the service takes; the target is the caller's promise.
        unsafe { self.invoke(Service::CREATE_MEMORY_BUFFER_64, &raw const params) }
    }

    /// Frees a buffer that the core has allocated and is not given to it.
    ///
    /// # Safety
    /// It was allocated by [`Self::create_buffer`] and is not used any more.
    pub unsafe fn free_buffer(self, data: *mut c_void) {
        // SAFETY: the caller's promise; the context is valid (`new`).
        unsafe { ((*self.0).free)(data) };
    }

    /// Answers a request. The body is at most 4 GiB.
    ///
    /// # Safety
    /// `output` is that of the request whose callback is running.
    pub unsafe fn answer(self, output: *mut RestOutput, body: &[u8], mime_type: &CStr) -> ErrorCode {
        let Ok(answer_size) = u32::try_from(body.len()) else { return ErrorCode::PARAMETER_OUT_OF_RANGE };
        let answer = body.as_ptr().cast();
        let params = raw::AnswerBuffer { output, answer, answer_size, mime_type: mime_type.as_ptr() };
        // SAFETY: the type that the service takes; the output is the caller's promise.
        unsafe { self.invoke(Service::ANSWER_BUFFER, &raw const params) }
    }

    /// Answers that only these methods are allowed.
    ///
    /// # Safety
    /// As for [`Self::answer`].
    pub unsafe fn method_not_allowed(self, output: *mut RestOutput, allowed: &CStr) -> ErrorCode {
        let params = raw::OutputPlusArgument { output, argument: allowed.as_ptr() };
        // SAFETY: the type that the service takes; the output is the caller's promise.
        unsafe { self.invoke(Service::SEND_METHOD_NOT_ALLOWED, &raw const params) }
    }
}

/// A text for C, in which a zero byte would end it.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}
