//! The judgement of the sweep, as a pure function: what the mark found and what the store lists go in, what has to
//! move comes out. Relies on both sides coming in the same order, so it needs memory for one directory only.

use crate::payload::{PayloadId, PayloadRef, Shard};
use std::ops::Range;

/// What the mark remembers of a reference: 48 bits of the birth (its era, the name of the top directory) and 80 bits
/// of the uuid. Two payloads that agree in all of them would keep each other from being collected; none is ever lost.
/// Keys sort in the order in which the store lists its directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey(pub [u8; 16]);

impl MarkKey {
    /// The key of a payload.
    pub fn of(id: &PayloadId) -> Self {
        let mut key = [0; 16];
        key[..6].copy_from_slice(&(id.birth >> 16).to_be_bytes()[2..]);
        key[6..].copy_from_slice(&id.uuid.as_bytes()[..10]);
        Self(key)
    }

    /// The directory of the payload.
    pub fn shard(&self) -> Shard {
        let mut era = [0; 8];
        era[2..].copy_from_slice(&self.0[..6]);
        Shard { era: u64::from_be_bytes(era), byte: self.0[6] }
    }
}

/// A reference that the mark has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// To which payload.
    pub key: MarkKey,
    /// Bytes of its file.
    pub len: u64,
}

/// Bytes of an encoded reference.
pub const REFERENCE_LEN: usize = 24;

impl Reference {
    /// To a payload.
    pub fn to(payload: &PayloadRef) -> Self {
        Self { key: MarkKey::of(&payload.id), len: payload.len_full() }
    }

    /// Key, then length, big-endian: the bytes sort as the reference does.
    pub fn encode(&self) -> [u8; REFERENCE_LEN] {
        let mut bytes = [0; REFERENCE_LEN];
        bytes[..16].copy_from_slice(&self.key.0);
        bytes[16..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// The inverse of [`encode`](Self::encode).
    pub fn decode(bytes: &[u8; REFERENCE_LEN]) -> Self {
        let (mut key, mut len) = ([0; 16], [0; 8]);
        key.copy_from_slice(&bytes[..16]);
        len.copy_from_slice(&bytes[16..]);
        Self { key: MarkKey(key), len: u64::from_be_bytes(len) }
    }
}

/// The judgement of one directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Files that no tuple refers to and no transaction can refer to any more.
    pub garbage: Vec<PayloadId>,
    /// Files of transactions that had not ended when the mark began: they are not judged.
    pub young: u64,
    /// Files of earlier transactions than this run judges.
    pub old: u64,
    /// Bytes of the files that are marked.
    pub bytes: u64,
    /// Marked payloads that are not in LIVE, in this directory or before it: in TRASH, or lost.
    pub missing: Vec<MarkKey>,
}

/// The references of a whole mark in ascending order, duplicates allowed, handed out directory by directory.
pub struct Marks<I: Iterator<Item = Reference>> {
    references: I,
    /// The smallest reference that has not been handed out.
    next: Option<Reference>,
    /// The reference that was handed out last, and whether a file had its key.
    current: Option<(Reference, bool)>,
}

impl<I: Iterator<Item = Reference>> Marks<I> {
    /// `references` must be ascending, and all of births that the run judges.
    pub fn new(mut references: I) -> Self {
        let next = references.next();
        Self { references, next, current: None }
    }

    /// Judges the files of one directory that were born in the range. Directories must come in ascending order, and
    /// `listing` sorted by uuid.
    pub fn judge(&mut self, listing: &[PayloadId], births: &Range<u64>) -> Verdict {
        let mut verdict = Verdict::default();
        for id in listing {
            let marked = self.find(MarkKey::of(id), &mut verdict.missing);
            match marked {
                _ if id.birth >= births.end => verdict.young += 1,
                _ if id.birth < births.start => verdict.old += 1,
                Some(len) => verdict.bytes += len,
                None => verdict.garbage.push(*id),
            }
        }
        verdict
    }

    /// After the last directory: the marked payloads that no directory had.
    pub fn missing_at_end(mut self) -> Vec<MarkKey> {
        let mut missing = Vec::new();
        while self.advance(&mut missing) {}
        missing
    }

    /// The length that goes with `key` if it is marked. Keys that are passed over without a file having had them are
    /// missing.
    fn find(&mut self, key: MarkKey, missing: &mut Vec<MarkKey>) -> Option<u64> {
        while self.next.is_some_and(|next| next.key <= key) {
            self.advance(missing);
        }
        match &mut self.current {
            // Stays current: another file may share the key.
            Some((current, found)) if current.key == key => {
                *found = true;
                Some(current.len)
            }
            _ => None,
        }
    }

    /// Makes the next key current, skipping duplicates; false when there is none.
    fn advance(&mut self, missing: &mut Vec<MarkKey>) -> bool {
        if let Some((current, _)) = self.current
            && self.next.is_some_and(|next| next.key == current.key)
        {
            self.next = self.references.next();
            return true;
        }
        if let Some((current, false)) = self.current {
            missing.push(current.key);
        }
        self.current = self.next.map(|next| (next, false));
        self.next = self.references.next();
        self.current.is_some()
    }
}

/// Those of the candidates that no reference names. One that agrees with a reference in the bits of its key stays.
pub fn unreferenced(
    mut candidates: Vec<PayloadId>,
    references: impl Iterator<Item = Reference>,
) -> Vec<PayloadId> {
    candidates.sort_unstable_by_key(MarkKey::of);
    let mut references = references.peekable();
    candidates.retain(|id| {
        let key = MarkKey::of(id);
        while references.next_if(|reference| reference.key < key).is_some() {}
        references.peek().is_none_or(|reference| reference.key != key)
    });
    candidates
}
