//! What an upload logs (docs/PROTOCOL.md, "Payloads in the WAL"). A file whose records keepers answer for is not synced by its
//! transaction.

use std::sync::Arc;

use super::durable::Origin;
use super::fs::Fs;
use super::store::FileStore;
use crate::log::Log;
use crate::payload::PayloadId;
use crate::record::{Event, Record};

/// Most bytes of a payload in one record.
const MOST: usize = 1 << 20;

/// The log of an upload.
pub(super) struct Logging {
    log: Arc<dyn Log>,
    origin: Origin,
    id: PayloadId,
    expected: Option<u64>,
    /// Bytes that have been logged.
    len: u64,
    ended: bool,
    /// Keepers answer for all of them.
    kept: bool,
}

impl Logging {
    /// Logs bytes that have been written.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(MOST) {
            self.record(part, Some(self.len + part.len() as u64) == self.expected);
        }
    }

    fn record(&mut self, bytes: &[u8], last: bool) {
        let (root, database) = self.origin;
        // Behind the write and before the record: who ends later syncs what has been written, and who has ended is not seen.
        self.kept &= self.log.written(root);
        let event = Event::Put { id: self.id, offset: self.len, bytes, last };
        self.log.insert(&Record { database, event });
        self.len += bytes.len() as u64;
        self.ended = last;
    }

    /// Logs the payload's end; whether nobody else has to sync the file.
    pub(super) fn finish(&mut self) -> bool {
        if !self.ended {
            self.record(&[], true);
        }
        self.kept
    }

    /// Logs that the payload is given up, so that recovery and standbys do not keep what was logged of it. Called before its room is given
    /// back, and durable by then: whoever takes that may be durable before anything else is logged. Whether it may be given back.
    pub(super) fn abandon(&self) -> bool {
        let event = Event::Abandon { id: self.id };
        self.len == 0 || self.log.insert_at_end(&Record { database: self.origin.1, event })
    }

    /// Whether nobody has to begin to write the file back, as keepers will do it.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }
}

impl<F: Fs> FileStore<F> {
    /// The log of an upload, if it is one that is logged.
    pub(super) fn logging(&self, id: PayloadId, expected: Option<u64>) -> Option<Logging> {
        let log = self.log.get().filter(|log| log.takes(expected))?;
        let (log, origin) = (Arc::clone(log), self.origin());
        Some(Logging { log, origin, id, expected, len: 0, ended: false, kept: true })
    }

    /// Whether an upload of so many bytes is logged.
    pub(super) fn is_logged(&self, expected: Option<u64>) -> bool {
        self.log.get().is_some_and(|log| log.takes(expected))
    }

    /// Whether keepers will answer for such an upload, as far as can be known before.
    pub(super) fn will_be_kept(&self, expected: Option<u64>) -> bool {
        let kept = |log: &Arc<dyn Log>| log.takes(expected) && log.has_keepers(self.fs.identity());
        self.log.get().is_some_and(kept)
    }
}
