//! The storage area: what Orthanc calls to store, read and remove files, from up to fifty threads.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use rbytea_orthanc_sdk::raw::{ContentType, ErrorCode, MemoryBuffer64};
use rbytea_orthanc_sdk::{Core, StorageArea};
use rbytea_orthanc_storage::{Buffer, Error, Kind, Storage};

use crate::state::{core, guarded, with_storage};

/// The callbacks.
pub const AREA: StorageArea = StorageArea { create, read_whole, read_range, remove };

/// The code that says best what has happened. Orthanc's own storage has the same ones.
fn code(error: &Error) -> ErrorCode {
    match error.kind() {
        Kind::Missing => ErrorCode::INEXISTENT_FILE,
        Kind::Damaged => ErrorCode::CORRUPTED_FILE,
        Kind::Full => ErrorCode::FULL_STORAGE,
        Kind::Unavailable => ErrorCode::DATABASE_UNAVAILABLE,
        Kind::Range => ErrorCode::BAD_RANGE,
        Kind::Invalid => ErrorCode::PARAMETER_OUT_OF_RANGE,
        Kind::Memory => ErrorCode::NOT_ENOUGH_MEMORY,
        Kind::Other => ErrorCode::DATABASE,
    }
}

/// One call: the name, the storage, and what comes of it.
///
/// # Safety
/// The name is a string, or null.
unsafe fn call(uuid: *const c_char, work: impl FnOnce(&Storage, &str) -> Result<(), Error>) -> ErrorCode {
    guarded(ErrorCode::PLUGIN, || {
        if uuid.is_null() {
            return ErrorCode::NULL_POINTER;
        }
        // SAFETY: the caller's promise.
        let Ok(uuid) = unsafe { CStr::from_ptr(uuid) }.to_str() else {
            return ErrorCode::PARAMETER_OUT_OF_RANGE;
        };
        match with_storage(|storage| work(storage, uuid)) {
            Some(Ok(())) => ErrorCode::SUCCESS,
            Some(Err(error)) => code(&error),
            None => ErrorCode::DATABASE_UNAVAILABLE,
        }
    })
}

unsafe extern "C" fn create(
    uuid: *const c_char,
    content: *const c_void,
    size: i64,
    content_type: ContentType,
) -> ErrorCode {
    let Ok(len) = usize::try_from(size) else { return ErrorCode::PARAMETER_OUT_OF_RANGE };
    let bytes: &[u8] = match (content.is_null(), len) {
        (_, 0) => &[],
        (true, _) => return ErrorCode::NULL_POINTER,
        // SAFETY: Orthanc passes as many bytes as it says, and keeps them until this returns.
        _ => unsafe { slice::from_raw_parts(content.cast(), len) },
    };
    // SAFETY: Orthanc passes a string.
    unsafe { call(uuid, |storage, uuid| storage.create(uuid, content_type, bytes)) }
}

unsafe extern "C" fn read_whole(
    target: *mut MemoryBuffer64,
    uuid: *const c_char,
    _: ContentType,
) -> ErrorCode {
    let Some(core) = core().filter(|_| !target.is_null()) else { return ErrorCode::NULL_POINTER };
    let mut buffer = CoreBuffer { core, target: MemoryBuffer64 { data: ptr::null_mut(), size: 0 } };
    // SAFETY: Orthanc passes a string.
    let code = unsafe { call(uuid, |storage, uuid| storage.read(uuid, &mut buffer)) };
    if code == ErrorCode::SUCCESS {
        // SAFETY: Orthanc passes a buffer to be described, and frees what it describes.
        unsafe { target.write(buffer.take()) };
    }
    code
}

unsafe extern "C" fn read_range(
    target: *mut MemoryBuffer64,
    uuid: *const c_char,
    _: ContentType,
    range_start: u64,
) -> ErrorCode {
    if target.is_null() {
        return ErrorCode::NULL_POINTER;
    }
    // SAFETY: Orthanc has allocated the buffer, and nobody else uses it until this returns.
    let Some(bytes) = (unsafe { bytes(&*target) }) else { return ErrorCode::NULL_POINTER };
    // SAFETY: Orthanc passes a string.
    unsafe { call(uuid, |storage, uuid| storage.read_range(uuid, range_start, bytes)) }
}

unsafe extern "C" fn remove(uuid: *const c_char, _: ContentType) -> ErrorCode {
    // SAFETY: Orthanc passes a string.
    unsafe { call(uuid, Storage::remove) }
}

/// The memory that a buffer describes; None if it cannot be.
///
/// # Safety
/// What is described is allocated, and nobody else uses it meanwhile.
unsafe fn bytes<'a>(buffer: &MemoryBuffer64) -> Option<&'a mut [MaybeUninit<u8>]> {
    let len = usize::try_from(buffer.size).ok()?;
    if len == 0 {
        return Some(&mut []);
    }
    if buffer.data.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; memory of any content will do.
    Some(unsafe { slice::from_raw_parts_mut(buffer.data.cast(), len) })
}

/// Memory of the core's, which is given to it or freed.
struct CoreBuffer {
    core: Core,
    target: MemoryBuffer64,
}

// SAFETY: the memory is this one's alone.
unsafe impl Send for CoreBuffer {}

impl CoreBuffer {
    /// Gives it away.
    fn take(&mut self) -> MemoryBuffer64 {
        std::mem::replace(&mut self.target, MemoryBuffer64 { data: ptr::null_mut(), size: 0 })
    }
}

impl Buffer for CoreBuffer {
    fn of(&mut self, len: u64) -> Result<&mut [MaybeUninit<u8>], Error> {
        if self.target.size != len {
            drop(CoreBuffer { core: self.core, target: self.take() });
            // SAFETY: a buffer of our own.
            let code = unsafe { self.core.create_buffer(&raw mut self.target, len) };
            if code != ErrorCode::SUCCESS {
                self.target = MemoryBuffer64 { data: ptr::null_mut(), size: 0 };
                return Err(Error::Memory(len));
            }
        }
        // SAFETY: it was allocated above or by a call before, and is borrowed like this.
        unsafe { bytes(&self.target) }.ok_or(Error::Memory(len))
    }
}

impl Drop for CoreBuffer {
    fn drop(&mut self) {
        if !self.target.data.is_null() {
            // SAFETY: the core has allocated it, and was not given it.
            unsafe { self.core.free_buffer(self.target.data) };
        }
    }
}
