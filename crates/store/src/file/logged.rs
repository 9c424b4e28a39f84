//! What uploads log, and what a transaction has to log once more (docs/PROTOCOL.md, "Payloads in the WAL"). A file whose
//! records keepers answer for is not synced by its transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::durable::Origin;
use super::fs::{Fs, FsFile};
use super::store::FileStore;
use super::upload::FileBatch;
use crate::error::Result;
use crate::log::{Keepers, Log};
use crate::payload::{PayloadId, Shard};
use crate::record::{Event, Record};

/// Most bytes of a payload in one record.
const MOST: usize = 1 << 20;

/// The keepers that an upload has seen, each time behind a write and before the record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It has not looked.
    Nothing,
    /// None at all: its records say that the file is to be synced at once, and its transaction syncs it.
    Nobody,
    /// The same ones each time.
    These(Keepers),
    /// Not the same each time.
    Several,
}

impl Seen {
    /// Looked once more.
    fn and(self, keepers: Option<Keepers>) -> Self {
        let now = keepers.map_or(Self::Nobody, Self::These);
        if self == Self::Nothing || self == now { now } else { Self::Several }
    }
}

/// The log of an upload.
pub(super) struct Logging {
    log: Arc<dyn Log>,
    origin: Origin,
    id: PayloadId,
    expected: Option<u64>,
    /// Bytes that have been logged.
    len: u64,
    ended: bool,
    seen: Seen,
}

impl Logging {
    /// Logs bytes that have been written.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(MOST) {
            self.record(part, Some(self.len + part.len() as u64) == self.expected);
        }
    }

    fn record(&mut self, bytes: &[u8], last: bool) {
        // Behind the write and before the record: who ends later syncs what has been written, and who has ended is not seen.
        let (root, database) = self.origin;
        let keepers = self.log.keepers(root);
        self.seen = self.seen.and(keepers);
        put(&*self.log, database, self.id, self.len, bytes, last, keepers.is_none());
        self.len += bytes.len() as u64;
        self.ended = last;
    }

    /// Logs the payload's end, and returns who answers for it.
    pub(super) fn finish(mut self) -> Seen {
        if !self.ended {
            self.record(&[], true);
        }
        self.seen
    }

    /// Whether nobody has begun to write the file back, as keepers will do it.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.seen, Seen::These(_))
    }
}

fn put(log: &dyn Log, database: u32, id: PayloadId, offset: u64, bytes: &[u8], last: bool, now: bool) {
    log.insert(&Record { database, event: Event::Put { id, offset, bytes, last, now } });
}

/// The files of a transaction that keepers answer for.
#[derive(Default)]
pub(super) struct Kept {
    /// Where they are: births and leaf directories.
    places: BTreeSet<(u64, Shard)>,
    /// By whom; `None` when not all by the same ones.
    keepers: Option<Keepers>,
}

impl Kept {
    /// Adds a file. False when its transaction has to sync it.
    pub(super) fn add(&mut self, id: &PayloadId, seen: Seen) -> bool {
        let keepers = match seen {
            Seen::Nothing | Seen::Nobody => return false,
            Seen::These(keepers) => Some(keepers),
            Seen::Several => None,
        };
        if self.places.is_empty() {
            self.keepers = keepers;
        } else if self.keepers != keepers {
            self.keepers = None;
        }
        self.places.insert((id.birth, id.shard()));
        keepers.is_some()
    }
}

impl<F: Fs> FileStore<F> {
    /// The log of an upload, if it is one that is logged.
    pub(super) fn logging(&self, id: PayloadId, expected: Option<u64>) -> Option<Logging> {
        let log = self.log.get().filter(|log| log.takes(expected))?;
        let (log, origin) = (Arc::clone(log), self.origin());
        Some(Logging { log, origin, id, expected, len: 0, ended: false, seen: Seen::Nothing })
    }

    /// Whether there is somebody who will answer for such an upload, as far as can be known before.
    pub(super) fn will_be_kept(&self, expected: Option<u64>) -> bool {
        let kept = |log: &Arc<dyn Log>| log.takes(expected) && log.keepers(self.fs.identity()).is_some();
        self.log.get().is_some_and(kept)
    }

    /// At the transaction's end: if the keepers that it has seen are not there any more, its payloads may have been logged
    /// behind their last SYNC. It logs them once more, to be synced at once. (On this server they are durable: who ends
    /// syncs everything that was written before.)
    pub(super) fn log_again(&self, files: &mut FileBatch<F>, interrupts: &mut dyn FnMut()) -> Result<()> {
        let kept = std::mem::take(&mut files.kept);
        let Some(log) = self.log.get().filter(|_| !kept.places.is_empty()) else { return Ok(()) };
        if kept.keepers.is_some() && log.keepers(self.fs.identity()) == kept.keepers {
            return Ok(());
        }
        for (birth, shard) in kept.places {
            for id in self.list_shard(shard)?.payloads {
                if id.birth == birth {
                    self.log_file(&**log, id, interrupts)?;
                }
            }
        }
        Ok(())
    }

    fn log_file(&self, log: &dyn Log, id: PayloadId, interrupts: &mut dyn FnMut()) -> Result<()> {
        let path = self.live(&id);
        let file = self.fs.open(&path).map_err(self.io("open file", &path))?;
        let len = file.len().map_err(self.io("stat file", &path))?;
        let mut buf = vec![0; MOST.min(usize::try_from(len).unwrap_or(MOST))];
        let mut offset = 0;
        loop {
            interrupts();
            let read = file.read_at(offset, &mut buf).map_err(self.io("read file", &path))?;
            let end = offset + read as u64;
            let last = read == 0 || end >= len;
            put(log, self.config.database, id, offset, buf.get(..read).unwrap_or_default(), last, true);
            offset = end;
            if last {
                return Ok(());
            }
        }
    }
}
