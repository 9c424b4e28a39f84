//! The uploads that the current transaction has finished and not yet synced: a pure state machine above every
//! backend. It decides whether there is something to sync; a backend's [`Batch`] knows what and how.
//!
//! ```text
//! Empty ──add──▶ Collecting ──sync──▶ Synced ──add──▶ Collecting
//!                    └──failure──▶ Failed        forget: any ──▶ Empty
//! ```

use std::io;
use std::path::PathBuf;

use crate::backend::{Backend, Batch, Upload};
use crate::error::{Error, Result};

/// Where a [`Pending`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingState {
    /// No uploads.
    Empty,
    /// Uploads that are not durable yet.
    Collecting,
    /// Every upload is durable (I1).
    Synced,
    /// A sync failed: nothing of this transaction may be committed, and nothing is synced again.
    Failed,
}

enum State {
    Empty,
    Collecting(Box<dyn Batch>),
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
    /// Of a call that has not returned.
    fn interrupted() -> Self {
        Self { path: ".".into(), errno: None, kind: io::ErrorKind::Interrupted }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Sync { path, source } | Error::Io { path, source, .. } => {
                Self { path: path.clone(), errno: source.raw_os_error(), kind: source.kind() }
            }
            _ => Self { path: PathBuf::new(), errno: None, kind: io::ErrorKind::Other },
        }
    }

    fn error(&self) -> Error {
        let source = match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => self.kind.into(),
        };
        Error::sync(&self.path, source)
    }
}

/// The uploads of one transaction. Belongs to the transaction; commit, abort and prepare end in
/// [`forget`](Self::forget).
pub struct Pending {
    state: State,
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

impl Pending {
    /// No uploads.
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

    /// Uploads that await a sync.
    pub fn uploads(&self) -> u64 {
        if let State::Collecting(batch) = &self.state { batch.uploads() } else { 0 }
    }

    /// Descriptors held for them, a bounded number.
    pub fn descriptors(&self) -> usize {
        if let State::Collecting(batch) = &self.state { batch.descriptors() } else { 0 }
    }

    /// Forgets everything, for commit, abort and prepare. Cannot fail; deletes nothing (I5).
    pub fn forget(&mut self) {
        self.state = State::Empty;
    }

    /// Finishes an upload and takes it. If that unwinds, the transaction counts as failed: what it has finished before is not
    /// known any more.
    pub(crate) fn add(&mut self, upload: Box<dyn Upload>) -> Result<()> {
        self.check()?;
        let before = std::mem::replace(&mut self.state, State::Failed(Failure::interrupted()));
        let synced = matches!(before, State::Synced);
        let mut batch = if let State::Collecting(batch) = before { Some(batch) } else { None };
        let finished = upload.finish(&mut batch);
        self.state = match (&finished, batch) {
            // An older upload of the batch is lost.
            (Err(error @ Error::Sync { .. }), _) => State::Failed(Failure::of(error)),
            (_, Some(batch)) => State::Collecting(batch),
            (_, None) if synced => State::Synced,
            (_, None) => State::Empty,
        };
        finished
    }

    /// Raises the error of a transaction that has failed to sync.
    pub(crate) fn check(&self) -> Result<()> {
        if let State::Failed(failure) = &self.state { Err(failure.error()) } else { Ok(()) }
    }

    /// Makes every upload durable (I1). `interrupts` is called between system calls and may unwind; the transaction
    /// then counts as failed.
    ///
    /// # Errors
    /// Those of [`Backend::sync`]; after a failed sync `Sync` for every later call until [`forget`](Self::forget):
    /// nothing is synced a second time.
    pub fn sync(&mut self, backend: &(impl Backend + ?Sized), interrupts: &mut dyn FnMut()) -> Result<()> {
        self.check()?;
        let mut batch = match std::mem::replace(&mut self.state, State::Empty) {
            State::Collecting(batch) => batch,
            other => {
                self.state = other;
                return Ok(());
            }
        };
        // Until the sync has succeeded: an interrupt may unwind it, and then some uploads are durable and others are
        // not, and none of them is synced again.
        self.state = State::Failed(Failure::interrupted());
        let synced = backend.sync(&mut *batch, interrupts);
        self.state = match &synced {
            Ok(()) => State::Synced,
            // The batch is another store's.
            Err(Error::Unsupported { .. }) => State::Collecting(batch),
            Err(error) => State::Failed(Failure::of(error)),
        };
        synced
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("state", &self.state())
            .field("uploads", &self.uploads())
            .finish_non_exhaustive()
    }
}
