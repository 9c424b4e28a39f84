//! From a reference to its file: is it there, and is it what was stored?

use crate::check::findings::Problem;
use crate::pg::error::Report;
use crate::session::{keys, read, transaction};
use pgrx::pg_sys;
use rbytea_store::layout::database_dir;
use rbytea_store::{EntryKind, Error, FileStore, Payload};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Payloads that are remembered to be in order, because many rows may refer to one: about 100 bytes each.
const REMEMBERED: usize = 1 << 15;

/// Looks at the files of payloads.
pub struct Examiner {
    /// None while nobody has needed it.
    store: Option<FileStore>,
    digest: bool,
    rights: bool,
    /// The primary may have moved to TRASH what rows refer to here.
    standby: bool,
    buffer: Vec<u8>,
    in_order: HashSet<Payload>,
}

impl Examiner {
    /// `digest`: read every payload; `rights`: look at the mode and owner of files too.
    pub fn open(digest: bool, rights: bool) -> Result<Self, Report> {
        // SAFETY: reads the server's state.
        let standby = unsafe { pg_sys::RecoveryInProgress() };
        let buffer = if digest { read::buffer(u64::MAX) } else { Vec::new() };
        let store = transaction::store_to_look_at()?;
        if let Some(store) = &store
            && let Err(absent @ Error::StoreMissing { .. }) = store.check_present()
        {
            return Err(absent.into());
        }
        Ok(Self { store, digest, rights, standby, buffer, in_order: HashSet::new() })
    }

    /// The store, if there is one.
    pub fn store(&self) -> Option<&FileStore> {
        self.store.as_ref()
    }

    /// What is wrong with the payload's file, and where it is or should be.
    pub fn examine(&mut self, payload: &Payload) -> Option<(Problem, PathBuf)> {
        if self.in_order.contains(payload) {
            return None;
        }
        let Some(store) = &self.store else { return Some((Problem::Missing, path_without_store(payload))) };
        let found = look(store, payload, self.digest.then_some(&mut *self.buffer), self.rights, self.standby);
        if found.is_none() {
            if self.in_order.len() >= REMEMBERED {
                self.in_order.clear();
            }
            self.in_order.insert(*payload);
        }
        found
    }
}

fn path_without_store(payload: &Payload) -> PathBuf {
    // SAFETY: a plain read.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    Path::new(&database_dir(database)).join(payload.id.live_path())
}

fn look(
    store: &FileStore,
    payload: &Payload,
    buffer: Option<&mut [u8]>,
    rights: bool,
    standby: bool,
) -> Option<(Problem, PathBuf)> {
    let located = match store.locate(&payload.id) {
        Ok(Some(located)) => located,
        Ok(None) => return Some((Problem::Missing, store.live_path(&payload.id))),
        Err(_) => return Some((Problem::Unreadable, store.live_path(&payload.id))),
    };
    let problem = if located.stat.kind != EntryKind::File {
        Some(Problem::Unreadable)
    } else if located.stat.len != payload.len_full() {
        Some(Problem::WrongSize)
    } else if let Some(Err(problem)) = buffer.map(|buffer| verify(store, payload, buffer)) {
        Some(problem)
    } else if rights && !located.stat.is_private() {
        Some(Problem::WrongRights)
    } else {
        (located.in_trash && !standby).then_some(Problem::InTrash)
    };
    problem.map(|problem| (problem, located.path))
}

/// Reads the payload and compares it with its digest.
fn verify(store: &FileStore, payload: &Payload, buffer: &mut [u8]) -> Result<(), Problem> {
    let mut reader = store.open_payload(payload).map_err(problem)?;
    if let Some(id) = payload.key_id {
        let ring = keys::ring_with(id).map_err(|_| Problem::NoKey)?;
        reader = reader.decrypting(&ring).map_err(problem)?;
    }
    read::verified(&reader, payload.len, buffer, |_| Ok(())).map_err(problem)
}

fn problem(error: Error) -> Problem {
    match error {
        Error::NotFound { .. } => Problem::Missing,
        Error::WrongSize { .. } => Problem::WrongSize,
        Error::WrongDigest { .. } => Problem::WrongDigest,
        Error::KeyMissing { .. } | Error::KeyFile { .. } => Problem::NoKey,
        _ => Problem::Unreadable,
    }
}
