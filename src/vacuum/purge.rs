//! Where a payload is purged, which is the only delete (I8). A file in TRASH goes when this mark, which began after it
//! was trashed, did not find it, when it has been there for the retention, and when no snapshot, statement, slot or
//! standby can hold a reference to it.

use crate::mark::{self, SortedReferences};
use crate::pg::catalog::{self, Objects};
use crate::pg::error::Report;
use crate::pg::injection::{self, Point};
use crate::pg::pace::{self, Pace};
use crate::pg::subtransaction::catch;
use crate::pg::{memory, progress};
use crate::session::held_cursors;
use crate::session::opening::Access;
use crate::session::transaction;
use crate::vacuum::history::{self, Left};
use crate::vacuum::outlived;
use crate::vacuum::schedule::{Stamp, State};
use pgrx::{check_for_interrupts, pg_sys};
use rbytea_store::judgement::unreferenced;
use rbytea_store::{Backend, PayloadId};
use std::time::Duration;

/// Files that are compared with the mark at once, 24 bytes each.
const AT_ONCE: usize = 1 << 18;

/// What a purge did and what it left.
pub struct Purge {
    /// Files deleted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is in TRASH now.
    pub left: Left,
}

/// Files with this date, or an older one, may go if no row refers to them; None if none may. The mark does not see
/// what other sessions have in their temporary tables and cursors, so while there are such, nothing may go.
pub fn bound(objects: &Objects, horizon: u64, retention: Option<Duration>) -> Result<Option<Stamp>, Report> {
    let Some(retention) = retention else { return Ok(None) };
    if obstacle(objects.type_oid).is_some() {
        return Ok(None);
    }
    let expired = history::expired(retention);
    Ok(outlived::purge_bound(horizon)?.map(|safe| safe.min(expired)))
}

/// What may hold references that no mark can see, and so keeps everything in TRASH.
pub fn obstacle(type_oid: pg_sys::Oid) -> Option<String> {
    if held_cursors::any_held() {
        return Some("A session has a cursor WITH HOLD that may hold values.".to_string());
    }
    mark::hidden(type_oid).map(|relid| {
        let name = catalog::relation_name(relid).unwrap_or_default();
        format!("Another session's temporary table {name} may hold values.")
    })
}

/// What is in TRASH according to the history, if nothing of it may go and TRASH has as many files: then it need not be
/// listed file by file, which may read each inode from the disk.
pub fn if_nothing_due(bound: Option<Stamp>, state: &State) -> Result<Option<Left>, Report> {
    let oldest_trash = state.oldest_trash();
    let Some((trash_files, trash_bytes)) = state.trash else { return Ok(None) };
    let due = oldest_trash.zip(bound).is_some_and(|(oldest, bound)| oldest <= bound);
    if due || oldest_trash.is_some() != (trash_files > 0) {
        return Ok(None);
    }
    let files = transaction::with_store(Access::Write, |store| Ok(store.count_trash()?))?;
    Ok((files == trash_files).then_some(Left { trash_files, trash_bytes, oldest_trash, live_bytes: 0 }))
}

/// Deletes what may go, and counts TRASH. `references` must be those of a mark of everything that was born below
/// `upper`, and `horizon` is the removal horizon now.
pub fn purge(
    bound: Option<Stamp>,
    horizon: u64,
    upper: u64,
    references: &mut SortedReferences,
    pace: &mut Pace,
) -> Result<Purge, Report> {
    let known_before = if bound.is_some() { outlived::purge_horizon(horizon)? } else { 0 };
    transaction::with_store(Access::Write, |store| {
        let mut done = Purge { files: 0, bytes: 0, left: Left::default() };
        loop {
            let Listed { candidates, all, others } = list(store, bound, upper)?;
            let complete = candidates.len() < AT_ONCE;
            let chosen = candidates.len();
            references.rewind();
            let garbage = unreferenced(candidates, &mut *references);
            injection::at(Point::BeforePurge);
            let (files, bytes) = delete(store, &garbage, known_before, pace)?;
            done.files += files;
            done.bytes += bytes;
            done.left = Left {
                trash_files: all.trash_files.saturating_sub(files),
                trash_bytes: all.trash_bytes.saturating_sub(bytes),
                oldest_trash: if garbage.len() == chosen { others } else { all.oldest_trash },
                ..all
            };
            // Candidates that fill the list and stay would fill it again.
            if complete || files == 0 {
                return Ok(done);
            }
        }
    })
}

/// What is in TRASH.
struct Listed {
    /// The first files that are old enough.
    candidates: Vec<PayloadId>,
    /// Everything, in numbers.
    all: Left,
    /// The date of the oldest that is no candidate.
    others: Option<Stamp>,
}

fn list(store: &dyn Backend, bound: Option<Stamp>, upper: u64) -> Result<Listed, Report> {
    let earlier = |oldest: Option<Stamp>, date| Some(oldest.map_or(date, |oldest: Stamp| oldest.min(date)));
    let mut listed = Listed { candidates: room()?, all: Left::default(), others: None };
    store.list_trash(&mut |id, entry| {
        check_for_interrupts!();
        let date = history::stamp(entry.trashed_at);
        listed.all.trash_files += 1;
        listed.all.trash_bytes += entry.len;
        listed.all.oldest_trash = earlier(listed.all.oldest_trash, date);
        // A birth that the mark did not judge cannot have been trashed by a run.
        let old_enough = bound.is_some_and(|bound| date <= bound) && id.birth < upper;
        if old_enough && listed.candidates.len() < AT_ONCE {
            listed.candidates.push(id);
        } else {
            listed.others = earlier(listed.others, date);
        }
        Ok(())
    })?;
    Ok(listed)
}

/// For the candidates.
fn room() -> Result<Vec<PayloadId>, Report> {
    let mut candidates = Vec::new();
    candidates.try_reserve_exact(AT_ONCE).map_err(|_| memory::out_of_memory())?;
    Ok(candidates)
}

fn delete(
    store: &dyn Backend,
    garbage: &[PayloadId],
    known_before: u64,
    pace: &mut Pace,
) -> Result<(u64, u64), Report> {
    let mut moves = store.moves();
    moves.known_before(known_before);
    let (mut files, mut bytes) = (0, 0);
    // A cancel or an error must not skip the sync below, which logs what has been deleted.
    let purged = catch(|| {
        for id in garbage {
            pace.file()?;
            if let Some(len) = moves.purge(id)? {
                files += 1;
                bytes += len;
                progress::purged(files);
                if pace::may_end_soon() {
                    moves.log();
                }
            }
        }
        Ok(())
    });
    let synced = moves.sync();
    purged.map_err(|caught| caught.report)?;
    synced?;
    Ok((files, bytes))
}
