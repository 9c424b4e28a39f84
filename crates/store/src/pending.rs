//! The files that the current transaction has written and not yet synced: a pure state machine.
//! It decides what is still to be synced and how; `sync` and `writer` make the system calls. Descriptors and
//! memory stay bounded however many files a transaction writes.
//!
//! ```text
//! Empty ──add──▶ Collecting ──sync──▶ Synced ──add──▶ Collecting
//!                    └──failure──▶ Failed        forget: any ──▶ Empty
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Error, Result};
use super::fs::Fs;
use super::layout::{PayloadId, Shard};
use super::sync::{SYNCFS_FROM, SyncPoint};

/// Most files that a transaction keeps open.
pub const MAX_OPEN: usize = 16;

/// Where a [`Pending`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingState {
    /// No files.
    Empty,
    /// Files that are not durable yet.
    Collecting,
    /// Every file is durable (I1).
    Synced,
    /// A sync failed: nothing of this transaction may be committed, and nothing is fsynced again.
    Failed,
}

/// A store: device and inode of its root, and the database.
pub(super) type Origin = ((u64, u64), u32);

/// A finished file, still open.
pub(super) struct Written<F: Fs> {
    pub(super) id: PayloadId,
    pub(super) file: F::File,
    pub(super) sync_point: Option<Arc<SyncPoint<F>>>,
}

/// What a sync has to do.
pub(super) struct Collected<F: Fs> {
    origin: Origin,
    files: u64,
    /// Leaf directories of all files; a transaction has one birth, hence at most 256.
    pub(super) shards: BTreeSet<Shard>,
    /// Files that need an fdatasync unless a syncfs is made.
    pub(super) open: VecDeque<Written<F>>,
    /// The oldest of all files' sync points, so older than every byte written.
    sync_point: Option<Arc<SyncPoint<F>>>,
}

impl<F: Fs> Collected<F> {
    fn new(origin: Origin) -> Self {
        Self { origin, files: 0, shards: BTreeSet::new(), open: VecDeque::new(), sync_point: None }
    }

    /// What to make one syncfs through, if that is the way.
    pub(super) fn syncfs(&self) -> Option<&SyncPoint<F>> {
        self.sync_point.as_deref().filter(|_| self.files >= SYNCFS_FROM)
    }

    fn add(&mut self, written: Option<Written<F>>) -> Option<Written<F>> {
        self.files += 1;
        // without fsync there is nothing to remember
        let mut written = written?;
        self.shards.insert(written.id.shard());
        let point = written.sync_point.take();
        self.sync_point = match (self.sync_point.take(), point) {
            (Some(a), Some(b)) => Some(if a.opened <= b.opened { a } else { b }),
            // The older one answers for what comes later, too.
            (Some(a), None) => Some(a),
            (None, point) if self.files == 1 => point,
            _ => None,
        };
        self.open.push_back(written);
        if self.syncfs().is_some() {
            // The sync point reports what these descriptors would.
            self.open.clear();
        }
        if self.open.len() > MAX_OPEN { self.open.pop_front() } else { None }
    }
}

enum State<F: Fs> {
    Empty,
    Collecting(Collected<F>),
    Synced,
    Failed(Failure),
}

/// Enough of the first error to raise it again.
struct Failure {
    path: PathBuf,
    errno: Option<i32>,
    kind: io::ErrorKind,
}

impl Failure {
    fn error(&self) -> Error {
        let source = match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => self.kind.into(),
        };
        Error::sync(&self.path, source)
    }
}

/// The files of one transaction. Belongs to the transaction; commit, abort and prepare end in [`forget`](Self::forget).
pub struct Pending<F: Fs> {
    state: State<F>,
}

impl<F: Fs> Default for Pending<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Fs> Pending<F> {
    /// No files.
    pub const fn new() -> Self {
        Self { state: State::Empty }
    }

    /// Where it stands.
    pub fn state(&self) -> PendingState {
        match self.state {
            State::Empty => PendingState::Empty,
            State::Collecting(_) => PendingState::Collecting,
            State::Synced => PendingState::Synced,
            State::Failed(_) => PendingState::Failed,
        }
    }

    /// Files that await a sync.
    pub fn files(&self) -> u64 {
        if let State::Collecting(collected) = &self.state { collected.files } else { 0 }
    }

    /// Descriptors of payload files held, at most [`MAX_OPEN`].
    pub fn open_files(&self) -> usize {
        if let State::Collecting(collected) = &self.state { collected.open.len() } else { 0 }
    }

    /// Forgets everything, for commit, abort and prepare. Cannot fail; deletes nothing (I5).
    pub fn forget(&mut self) {
        self.state = State::Empty;
    }

    /// Whether a file of `origin` may be added or synced.
    pub(super) fn check(&self, origin: Origin) -> Result<()> {
        match &self.state {
            State::Failed(failure) => Err(failure.error()),
            State::Collecting(collected) if collected.origin != origin => {
                Err(Error::Unsupported { what: "writing to two stores in one transaction" })
            }
            _ => Ok(()),
        }
    }

    /// Adds a file (`None` when there is nothing to sync). Returns one that must be synced before it is closed.
    pub(super) fn add(&mut self, origin: Origin, written: Option<Written<F>>) -> Option<Written<F>> {
        match &mut self.state {
            State::Collecting(collected) => collected.add(written),
            State::Failed(_) => None,
            State::Empty | State::Synced => {
                let mut collected = Collected::new(origin);
                let crowded_out = collected.add(written);
                self.state = State::Collecting(collected);
                crowded_out
            }
        }
    }

    /// Hands out what is to be synced. Counts as failed until [`synced`](Self::synced): the sync may be
    /// interrupted, and what was fsynced by then must not be taken for granted nor fsynced again.
    pub(super) fn begin_sync(&mut self, origin: Origin, root: PathBuf) -> Result<Option<Collected<F>>> {
        self.check(origin)?;
        match std::mem::replace(&mut self.state, State::Empty) {
            State::Collecting(collected) => {
                let failure = Failure { path: root, errno: None, kind: io::ErrorKind::Interrupted };
                self.state = State::Failed(failure);
                Ok(Some(collected))
            }
            other => {
                self.state = other;
                Ok(None)
            }
        }
    }

    pub(super) fn synced(&mut self) {
        self.state = State::Synced;
    }

    /// Remembers a failed sync.
    pub(super) fn fail(&mut self, error: &Error) {
        let (path, errno, kind) = match error {
            Error::Sync { path, source } | Error::Io { path, source, .. } => {
                (path.clone(), source.raw_os_error(), source.kind())
            }
            _ => (PathBuf::new(), None, io::ErrorKind::Other),
        };
        self.state = State::Failed(Failure { path, errno, kind });
    }
}

impl<F: Fs> std::fmt::Debug for Pending<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("state", &self.state())
            .field("files", &self.files())
            .finish_non_exhaustive()
    }
}
