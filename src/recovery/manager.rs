//! The WAL resource manager: what PostgreSQL calls for each of our records, and before each checkpoint that it replays. Its errors end recovery, as those of PostgreSQL's own
//! resource managers do; the administrator mends what is wrong and starts the server again.

use crate::pg::error;
use crate::recovery::replay;
use crate::wal::log::{INFO_SHIFT, RESOURCE_MANAGER};
use pgrx::{pg_guard, pg_sys};
use rbytea_store::record::{Record, RecordKind};
use std::ffi::{CStr, CString, c_char};
use std::ptr::null;
use std::sync::OnceLock;

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
    // The table has an entry for each number, and no process is there yet that reads it.
    unsafe {
        pg_sys::RegisterCustomRmgr(RESOURCE_MANAGER, manager);
        let own = &mut *(&raw mut pg_sys::RmgrTable).cast::<pg_sys::RmgrData>();
        SERVERS_REDO.set(own.rm_redo).ok();
        own.rm_redo = Some(redo_of_server);
    }
}

/// redo of PostgreSQL's own resource manager for checkpoints, which is number 0.
static SERVERS_REDO: OnceLock<Redo> = OnceLock::new();
type Redo = Option<unsafe extern "C-unwind" fn(*mut pg_sys::XLogReaderState)>;

/// A standby asks no extension before it makes a restartpoint of a checkpoint that it has replayed; so this comes before that is replayed.
/// (The table of resource managers is the server's own, and exported.)
#[pg_guard]
unsafe extern "C-unwind" fn redo_of_server(reader: *mut pg_sys::XLogReaderState) {
    const CHECKPOINTS: [u32; 2] = [pg_sys::XLOG_CHECKPOINT_SHUTDOWN, pg_sys::XLOG_CHECKPOINT_ONLINE];
    // SAFETY: the server has read the record.
    let (info, checkpoint) = unsafe {
        let record = &*(*reader).record;
        (record.header.xl_info & !OF_ALL_MANAGERS, record.main_data.cast::<pg_sys::CheckPoint>())
    };
    if CHECKPOINTS.contains(&info.into()) {
        // SAFETY: that is what such a record has, wherever its bytes begin.
        let checkpoint = unsafe { checkpoint.read_unaligned() };
        if let Err(report) = replay::before_checkpoint(checkpoint.redo) {
            error::raise(report);
        }
    }
    if let Some(Some(redo)) = SERVERS_REDO.get() {
        // SAFETY: as the server would have called it; nothing between the boundary and the server needs its destructor run.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| redo(reader)) };
    }
}

/// Bits of a record's info that are not the resource manager's (XLR_INFO_MASK).
const OF_ALL_MANAGERS: u8 = 0x0f;

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
    let ((kind, bytes), place) = unsafe { (parts(reader), (*reader).ReadRecPtr) };
    let replayed = match Record::decode(kind, bytes) {
        Ok(record) => replay::record(&record, place),
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
