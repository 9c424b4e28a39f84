//! The store's log is PostgreSQL's WAL, in records of a resource manager of our own. Exists only where the library is preloaded:
//! recovery has to know the resource manager before it reads a record.

use crate::pg::{compat, settings};
use crate::wal::presence;
use pgrx::{PgTryBuilder, pg_sys};
use rbytea_store::record::{Event, Record};
use rbytea_store::{Log, Root};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Number of the resource manager. PostgreSQL's list of those that are taken is
/// wiki.postgresql.org/wiki/CustomWALResourceManagers, where this one is to be entered.
pub const RESOURCE_MANAGER: u8 = 186;
/// The part of a record's info that is the resource manager's own begins with this bit.
pub const INFO_SHIFT: u8 = 4;

/// Whether the resource manager is there: forked processes inherit it from the postmaster.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The resource manager is there, and may be used.
pub fn registered() {
    REGISTERED.store(true, Relaxed);
}

/// Where this process may log, if it may.
pub fn log() -> Option<Arc<dyn Log>> {
    // SAFETY: reads shared memory.
    let may = REGISTERED.load(Relaxed) && !unsafe { pg_sys::RecoveryInProgress() };
    may.then(|| Arc::new(Wal) as Arc<dyn Log>)
}

/// The WAL.
#[derive(Debug)]
struct Wal;

impl Log for Wal {
    fn takes(&self, stored_len: Option<u64>) -> bool {
        match settings::wal_payload_limit() {
            settings::Limit::None => false,
            settings::Limit::Bytes(limit) => stored_len.is_some_and(|len| len <= limit),
            settings::Limit::All => true,
        }
    }

    fn has_keepers(&self, root: Root) -> bool {
        presence::is_present(root)
    }

    fn written(&self, root: Root) -> bool {
        presence::count_put();
        presence::is_present(root)
    }

    fn insert(&self, record: &Record<'_>) {
        append(record);
    }

    fn insert_at_end(&self, record: &Record<'_>) -> bool {
        // SAFETY: forgets a record that an error has left half registered.
        let reset = || unsafe { pg_sys::XLogResetInsertion() };
        let failed = |_| {
            reset();
            false
        };
        reset();
        PgTryBuilder::new(AssertUnwindSafe(|| {
            if let Some(end) = append(record) {
                // SAFETY: the record is there.
                unsafe { pg_sys::XLogFlush(end) };
            }
            true
        }))
        .catch_others(failed)
        .catch_rust_panic(failed)
        .execute()
    }
}

/// Appends a record, unless there is no need to; its end.
fn append(record: &Record<'_>) -> Option<pg_sys::XLogRecPtr> {
    // Where no payloads are logged, what becomes of them is not either. One session's or role's setting does not matter to payloads
    // that others have logged: recovery would bring back what is deleted.
    let is_of_upload = matches!(record.event, Event::Put { .. } | Event::Abandon { .. });
    if !is_of_upload && !settings::logs_payloads() && presence::puts() == 0 {
        return None;
    }
    let (head, tail) = record.encode();
    let info = (record.kind() as u8) << INFO_SHIFT;
    // SAFETY: both parts outlive XLogInsert, which copies them.
    unsafe {
        pg_sys::XLogBeginInsert();
        compat::xlog_register_data(&head);
        if !tail.is_empty() {
            compat::xlog_register_data(tail);
        }
        Some(pg_sys::XLogInsert(RESOURCE_MANAGER, info))
    }
}
