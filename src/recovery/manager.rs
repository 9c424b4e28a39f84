//! The WAL resource manager: what PostgreSQL calls for each of our records. Its errors end recovery, as those of PostgreSQL's own
//! resource managers do; the administrator mends what is wrong and starts the server again.

use crate::pg::error;
use crate::recovery::replay;
use crate::wal::log::{INFO_SHIFT, RESOURCE_MANAGER, registered};
use pgrx::{pg_guard, pg_sys};
use rbytea_store::record::{Record, RecordKind};
use std::ffi::{CStr, CString, c_char};
use std::ptr::null;

/// Its name in pg_get_wal_resource_managers().
const NAME: &CStr = c"rbytea";

/// Registers it.
pub fn init() {
    let manager = Box::leak(Box::new(pg_sys::RmgrData {
        rm_name: NAME.as_ptr(),
        rm_redo: Some(redo),
        rm_desc: Some(describe),
        rm_identify: Some(identify),
        rm_startup: Some(startup),
        rm_cleanup: Some(cleanup),
        rm_mask: None,
        rm_decode: None,
    }));
    // SAFETY: the library is being preloaded, and the structure lives as long as the server. 15 declares it as one that is changed.
    unsafe { pg_sys::RegisterCustomRmgr(RESOURCE_MANAGER, manager) };
    registered();
}

/// The kind and the bytes of a record.
///
/// # Safety
/// `reader` must have read a record.
unsafe fn parts<'a>(reader: *mut pg_sys::XLogReaderState) -> (u8, &'a [u8]) {
    // SAFETY: as promised by the caller; the bytes stay until the next record is read.
    unsafe {
        let record = &*(*reader).record;
        let kind = record.header.xl_info >> INFO_SHIFT;
        let bytes = if record.main_data.is_null() {
            &[][..]
        } else {
            std::slice::from_raw_parts(record.main_data.cast(), record.main_data_len as usize)
        };
        (kind, bytes)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn redo(reader: *mut pg_sys::XLogReaderState) {
    // SAFETY: the server has read the record.
    let (kind, bytes) = unsafe { parts(reader) };
    let replayed = match Record::decode(kind, bytes) {
        Ok(record) => replay::record(&record),
        Err(unknown) => Err(replay::unknown(kind, unknown)),
    };
    if let Err(report) = replayed {
        error::raise(report);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn describe(to: pg_sys::StringInfo, reader: *mut pg_sys::XLogReaderState) {
    // SAFETY: the server has read the record; what is appended is copied.
    unsafe {
        let (kind, bytes) = parts(reader);
        let text = match Record::decode(kind, bytes) {
            Ok(record) => record.to_string(),
            Err(unknown) => unknown.to_string(),
        };
        pg_sys::appendBinaryStringInfo(to, text.as_ptr().cast(), text.len() as i32);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn identify(info: u8) -> *const c_char {
    thread_local! {
        static NAMES: Vec<CString> = (0..1 << (8 - INFO_SHIFT))
            .map_while(RecordKind::from_number)
            .filter_map(|kind| CString::new(kind.name()).ok())
            .collect();
    }
    // They live as long as the process.
    NAMES.with(|names| names.get(usize::from(info >> INFO_SHIFT)).map_or(null(), |name| name.as_ptr()))
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    replay::begin();
}

#[pg_guard]
unsafe extern "C-unwind" fn cleanup() {
    if let Err(report) = replay::end() {
        error::raise(report);
    }
}
