//! The C interface as it is in memory: numbers, structures, signatures. Written by hand after the documentation of the Orthanc plugin
//! SDK; tests/header.rs compares every number and offset with the header of the package orthanc-dev. All enumerations of the
//! interface have 32 bits.
#![allow(missing_docs, reason = "the SDK's documentation has these items under the same names")]

use std::ffi::{c_char, c_int, c_void};

/// What a callback or a service returns (`OrthancPluginErrorCode`). The core may know more codes than have names here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ErrorCode(pub i32);

impl ErrorCode {
    pub const INTERNAL_ERROR: Self = Self(-1);
    pub const SUCCESS: Self = Self(0);
    pub const PLUGIN: Self = Self(1);
    pub const PARAMETER_OUT_OF_RANGE: Self = Self(3);
    pub const NOT_ENOUGH_MEMORY: Self = Self(4);
    pub const DATABASE: Self = Self(11);
    pub const INEXISTENT_FILE: Self = Self(13);
    pub const FULL_STORAGE: Self = Self(19);
    pub const CORRUPTED_FILE: Self = Self(20);
    pub const NULL_POINTER: Self = Self(35);
    pub const DATABASE_UNAVAILABLE: Self = Self(36);
    pub const BAD_RANGE: Self = Self(41);
    pub const STORAGE_AREA_ALREADY_REGISTERED: Self = Self(2036);
}

/// `_OrthancPluginService`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Service(pub i32);

impl Service {
    pub const LOG_INFO: Self = Self(1);
    pub const LOG_WARNING: Self = Self(2);
    pub const LOG_ERROR: Self = Self(3);
    pub const SET_PLUGIN_PROPERTY: Self = Self(7);
    pub const GET_CONFIGURATION: Self = Self(13);
    pub const SET_METRICS_VALUE: Self = Self(31);
    pub const CREATE_MEMORY_BUFFER_64: Self = Self(40);
    pub const REGISTER_REST_CALLBACK_NO_LOCK: Self = Self(1004);
    pub const REGISTER_REFRESH_METRICS_CALLBACK: Self = Self(1011);
    pub const REGISTER_STORAGE_AREA_2: Self = Self(1016);
    pub const ANSWER_BUFFER: Self = Self(2000);
    pub const SEND_METHOD_NOT_ALLOWED: Self = Self(2005);
}

/// `OrthancPluginContentType`: what kind of attachment a file is. Whatever number it is, it is only kept.
pub type ContentType = i32;

/// `OrthancPluginHttpMethod_Get`
pub const HTTP_METHOD_GET: i32 = 1;
/// `_OrthancPluginProperty_Description`
pub const PROPERTY_DESCRIPTION: i32 = 1;
/// `OrthancPluginMetricsType_Default`
pub const METRICS_TYPE_DEFAULT: i32 = 0;

pub type Free = unsafe extern "C" fn(buffer: *mut c_void);
pub type InvokeService =
    unsafe extern "C" fn(context: *mut Context, service: Service, params: *const c_void) -> ErrorCode;
pub type StorageCreate = unsafe extern "C" fn(
    uuid: *const c_char,
    content: *const c_void,
    size: i64,
    content_type: ContentType,
) -> ErrorCode;
pub type StorageReadWhole = unsafe extern "C" fn(
    target: *mut MemoryBuffer64,
    uuid: *const c_char,
    content_type: ContentType,
) -> ErrorCode;
pub type StorageReadRange = unsafe extern "C" fn(
    target: *mut MemoryBuffer64,
    uuid: *const c_char,
    content_type: ContentType,
    range_start: u64,
) -> ErrorCode;
pub type StorageRemove = unsafe extern "C" fn(uuid: *const c_char, content_type: ContentType) -> ErrorCode;
pub type RestCallback = unsafe extern "C" fn(
    output: *mut RestOutput,
    url: *const c_char,
    request: *const HttpRequest,
) -> ErrorCode;
pub type RefreshMetricsCallback = unsafe extern "C" fn();

/// `OrthancPluginContext`
#[repr(C)]
pub struct Context {
    pub plugins_manager: *mut c_void,
    pub orthanc_version: *const c_char,
    pub free: Free,
    pub invoke_service: InvokeService,
}

/// `OrthancPluginRestOutput`, of which only the core knows what it is.
#[repr(C)]
pub struct RestOutput {
    _opaque: [u8; 0],
}

/// `OrthancPluginMemoryBuffer64`
#[repr(C)]
pub struct MemoryBuffer64 {
    pub data: *mut c_void,
    pub size: u64,
}

/// `OrthancPluginHttpRequest`, whose end newer versions add to
#[repr(C)]
pub struct HttpRequest {
    pub method: i32,
    pub groups_count: u32,
    pub groups: *const *const c_char,
    pub get_count: u32,
    pub get_keys: *const *const c_char,
    pub get_values: *const *const c_char,
    pub body: *const c_void,
    pub body_size: u32,
}

/// `_OrthancPluginRegisterStorageArea2`
#[repr(C)]
pub struct RegisterStorageArea2 {
    pub create: StorageCreate,
    pub read_whole: StorageReadWhole,
    pub read_range: StorageReadRange,
    pub remove: StorageRemove,
}

/// `_OrthancPluginCreateMemoryBuffer64`
#[repr(C)]
pub struct CreateMemoryBuffer64 {
    pub target: *mut MemoryBuffer64,
    pub size: u64,
}

/// `_OrthancPluginRetrieveDynamicString`
#[repr(C)]
pub struct RetrieveDynamicString {
    pub result: *mut *mut c_char,
    pub argument: *const c_char,
}

/// `_OrthancPluginSetPluginProperty`
#[repr(C)]
pub struct SetPluginProperty {
    pub plugin: *const c_char,
    pub property: i32,
    pub value: *const c_char,
}

/// `_OrthancPluginSetMetricsValue`
#[repr(C)]
pub struct SetMetricsValue {
    pub name: *const c_char,
    pub value: f32,
    pub metrics_type: i32,
}

/// `_OrthancPluginRegisterRefreshMetricsCallback`
#[repr(C)]
pub struct RegisterRefreshMetricsCallback {
    pub callback: RefreshMetricsCallback,
}

/// `_OrthancPluginRestCallback`
#[repr(C)]
pub struct RegisterRestCallback {
    pub path_regular_expression: *const c_char,
    pub callback: RestCallback,
}

/// `_OrthancPluginAnswerBuffer`
#[repr(C)]
pub struct AnswerBuffer {
    pub output: *mut RestOutput,
    pub answer: *const c_void,
    pub answer_size: u32,
    pub mime_type: *const c_char,
}

/// `_OrthancPluginOutputPlusArgument`
#[repr(C)]
pub struct OutputPlusArgument {
    pub output: *mut RestOutput,
    pub argument: *const c_char,
}

/// The entry points that a plugin exports.
pub type Initialize = unsafe extern "C" fn(context: *mut Context) -> c_int;
