//! From a reference to its file: whether it is there, and whether it is what was stored. Reads the payload only for
//! its digest, and remembers in bounded memory which payloads are in order.

use crate::check::findings::Problem;
use crate::pg::error::Report;
use crate::session::{keys, opening, read};
use pgrx::pg_sys;
use rbytea_store::value::Checksum;
use rbytea_store::{Backend, Error, PayloadRef, Reader};
use std::collections::HashSet;
use std::path::PathBuf;

/// Payloads that are remembered to be in order, because many rows may refer to one: about 100 bytes each.
const REMEMBERED: usize = 1 << 15;

/// Looks at the files of payloads.
pub struct Examiner {
    /// None if it was never created.
    store: Option<Box<dyn Backend>>,
    digest: bool,
    rights: bool,
    /// The primary may have moved to TRASH what rows refer to here.
    standby: bool,
    buffer: Vec<u8>,
    in_order: HashSet<PayloadRef>,
}

impl Examiner {
    /// `digest`: read every payload; `rights`: look at the mode and owner of files too.
    pub fn open(digest: bool, rights: bool) -> Result<Self, Report> {
        // SAFETY: reads the server's state.
        let standby = unsafe { pg_sys::RecoveryInProgress() };
        let buffer = if digest { read::buffer(u64::MAX) } else { Vec::new() };
        let store = opening::open_existing()?;
        if let Some(store) = &store
            && let Err(absent @ Error::StoreMissing { .. }) = store.check_present()
        {
            return Err(absent.into());
        }
        Ok(Self { store, digest, rights, standby, buffer, in_order: HashSet::new() })
    }

    /// The store, if there is one.
    pub fn store(&self) -> Option<&dyn Backend> {
        self.store.as_deref()
    }

    /// What is wrong with the payload's file, and where it is or should be.
    pub fn examine(&mut self, payload: &PayloadRef) -> Option<(Problem, PathBuf)> {
        if self.in_order.contains(payload) {
            return None;
        }
        let Some(store) = &self.store else {
            return Some((Problem::Missing, opening::path_in_new_store(&payload.id)));
        };
        let found =
            look(&**store, payload, self.digest.then_some(&mut *self.buffer), self.rights, self.standby);
        if found.is_none() {
            if self.in_order.len() >= REMEMBERED {
                self.in_order.clear();
            }
            self.in_order.insert(*payload);
        }
        found
    }
}

fn look(
    store: &dyn Backend,
    payload: &PayloadRef,
    buffer: Option<&mut [u8]>,
    rights: bool,
    standby: bool,
) -> Option<(Problem, PathBuf)> {
    let located = match store.locate(&payload.id) {
        Ok(Some(located)) => located,
        Ok(None) => return Some((Problem::Missing, store.live_path(&payload.id))),
        Err(_) => return Some((Problem::Unreadable, store.live_path(&payload.id))),
    };
    let problem = if located.len.is_none() {
        Some(Problem::Unreadable)
    } else if located.len != Some(payload.len_full()) {
        Some(Problem::WrongSize)
    } else if let Some(Err(problem)) = buffer.map(|buffer| verify(store, payload, buffer)) {
        Some(problem)
    } else if rights && !located.as_given {
        Some(Problem::WrongRights)
    } else {
        (located.in_trash && !standby).then_some(Problem::InTrash)
    };
    problem.map(|problem| (problem, located.path))
}

/// Reads the payload and compares it with its digest, and its checksum with that of the row.
fn verify(store: &dyn Backend, payload: &PayloadRef, buffer: &mut [u8]) -> Result<(), Problem> {
    let mut reader = Reader::open(store, payload).map_err(problem)?;
    if let Some(id) = payload.key_id {
        let ring = keys::ring_with(id).map_err(|_| Problem::NoKey)?;
        reader = reader.decrypting(&ring).map_err(problem)?;
    }
    let mut checksum = Checksum::new();
    let read = read::verified(&reader, payload.len, buffer, |chunk| {
        checksum.update(chunk);
        Ok(())
    });
    read.map_err(problem)?;
    if checksum.finish() == payload.checksum { Ok(()) } else { Err(Problem::WrongChecksum) }
}

fn problem(error: Error) -> Problem {
    match error {
        Error::NotFound { .. } => Problem::Missing,
        Error::WrongSize { .. } => Problem::WrongSize,
        Error::WrongBytes { .. } => Problem::WrongDigest,
        Error::KeyMissing { .. } | Error::KeyFile { .. } => Problem::NoKey,
        _ => Problem::Unreadable,
    }
}
