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
        // Where no payloads are logged, what becomes of them is not either; one session's setting does not matter to those of others.
        let is_of_upload = matches!(record.event, Event::Put { .. } | Event::Abandon { .. });
        if !is_of_upload && !settings::logs_payloads() {
            return;
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
            pg_sys::XLogInsert(RESOURCE_MANAGER, info);
        }
    }

    fn insert_at_end(&self, record: &Record<'_>) -> bool {
        // SAFETY: forgets a record that an error has left half registered.
        unsafe { pg_sys::XLogResetInsertion() };
        PgTryBuilder::new(AssertUnwindSafe(|| {
            self.insert(record);
            true
        }))
        .catch_others(|_| false)
        .catch_rust_panic(|_| false)
        .execute()
    }
}
