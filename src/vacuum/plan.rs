//! The judgement of the sweep, as a pure function: what the mark found and what the store lists go in, what has to
//! move comes out. Relies on both sides coming in the same order, so it needs memory for one directory only.
#![forbid(unsafe_code)]

use crate::store::{PayloadId, Shard};

/// What the mark remembers of a reference: 48 bits of the birth (its era, the name of the top directory) and 80 bits of
/// the uuid. Two payloads that agree in all of them would keep each other from being collected; none is ever lost.
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

/// What the mark says about one directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Files that no tuple refers to and that nobody can refer to any more.
    pub garbage: Vec<PayloadId>,
    /// Files of transactions that had not ended when the mark began: nothing can be said about them.
    pub young: u64,
    /// Marked payloads that are not in LIVE, in this directory or before it: in TRASH, or lost.
    pub missing: Vec<MarkKey>,
}

/// The marks of a whole run in ascending order, duplicates allowed, handed out directory by directory.
pub struct Marks<I: Iterator<Item = MarkKey>> {
    keys: I,
    /// The smallest key that has not been handed out.
    next: Option<MarkKey>,
    /// The key that was handed out last, and whether a file had it.
    current: Option<(MarkKey, bool)>,
}

impl<I: Iterator<Item = MarkKey>> Marks<I> {
    /// `keys` must be ascending and all born below the `upper` of the run.
    pub fn new(mut keys: I) -> Self {
        let next = keys.next();
        Self { keys, next, current: None }
    }

    /// Judges the files of one directory. Directories must come in ascending order, and `listing` sorted by uuid.
    pub fn judge(&mut self, listing: &[PayloadId], upper: u64) -> Verdict {
        let mut verdict = Verdict::default();
        for id in listing {
            let marked = self.find(MarkKey::of(id), &mut verdict.missing);
            if id.birth >= upper {
                verdict.young += 1;
            } else if !marked {
                verdict.garbage.push(*id);
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

    /// Whether `key` is marked. Keys that are passed over without a file having had them are missing.
    fn find(&mut self, key: MarkKey, missing: &mut Vec<MarkKey>) -> bool {
        while self.next.is_some_and(|next| next <= key) {
            self.advance(missing);
        }
        match &mut self.current {
            // Stays current: another file may share the key.
            Some((current, found)) if *current == key => {
                *found = true;
                true
            }
            _ => false,
        }
    }

    /// Makes the next key current, skipping duplicates; false when there is none.
    fn advance(&mut self, missing: &mut Vec<MarkKey>) -> bool {
        if let Some((key, found)) = self.current
            && self.next == Some(key)
        {
            self.current = Some((key, found));
            self.next = self.keys.next();
            return true;
        }
        if let Some((key, false)) = self.current {
            missing.push(key);
        }
        self.current = self.next.map(|key| (key, false));
        self.next = self.keys.next();
        self.current.is_some()
    }
}
