//! What a re-encryption does to a row: each payload that is not as it should be is written once more.

use crate::pg::error::Report;
use crate::pg::heap_scan::Slot;
use crate::pg::progress::Reencryption;
use crate::reencrypt::target::Target;
use crate::value::datum::{Peek, Rbytea, RbyteaResult};
use crate::write::pass::Work;
use crate::write::row_trigger::Replaced;
use crate::write::update::Constraints;
use rbytea_store::{PayloadId, PayloadRef};
use std::num::NonZeroUsize;

/// Rows with these columns.
pub struct Rows<'a> {
    /// Columns of type rbytea.
    pub columns: &'a [NonZeroUsize],
    /// What their payloads are to be.
    pub target: &'a Target,
    /// Told how far it has come.
    pub progress: &'a Reencryption,
}

impl Work for Rows<'_> {
    unsafe fn concerns(&self, row: &Slot<'_>) -> Result<bool, Report> {
        // SAFETY: as promised by the caller.
        Ok(!unsafe { outdated(row, self.columns, self.target)? }.is_empty())
    }

    unsafe fn replace(&mut self, row: &Slot<'_>) -> Result<(Replaced, u64), Report> {
        // SAFETY: as promised by the caller.
        unsafe { rewritten(row, self.columns, self.target) }
    }

    fn waits(&self) -> bool {
        true
    }

    fn constraints(&self) -> Constraints {
        Constraints::Checked
    }

    fn goes_on(&mut self, block: u32, payloads: u64) -> bool {
        self.progress.done(block, payloads);
        true
    }
}

/// The references of a row that are not as they should be.
///
/// # Safety
/// `slot` must hold a tuple with these columns.
unsafe fn outdated(
    slot: &Slot<'_>,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<Vec<(NonZeroUsize, PayloadRef)>, Report> {
    let mut found = Vec::new();
    for &column in columns {
        // SAFETY: as promised by the caller; a datum of one of our columns, held by the slot.
        let Some(value) = (unsafe { slot.attribute(column).map(|datum| Rbytea::from_raw(datum)) }) else {
            continue;
        };
        if let Peek::External(payload) = value.peek()?
            && !target.is_met_by(&payload)
        {
            found.push((column, payload));
        }
    }
    Ok(found)
}

/// Writes the payloads of a row once more; returns the references to them, and how many files there are.
///
/// # Safety
/// As for [`outdated`].
unsafe fn rewritten(
    slot: &Slot<'_>,
    columns: &[NonZeroUsize],
    target: &Target,
) -> Result<(Replaced, u64), Report> {
    let mut replaced = Replaced::default();
    // Two columns may refer to the same payload.
    let mut copies: Vec<(PayloadId, PayloadRef)> = Vec::new();
    // SAFETY: as promised by the caller.
    for (column, payload) in unsafe { outdated(slot, columns, target)? } {
        let copy = match copies.iter().find(|(id, _)| *id == payload.id) {
            Some((_, copy)) => *copy,
            None => {
                let copy = target.copy(&payload)?;
                copies.push((payload.id, copy));
                copy
            }
        };
        replaced.push(column, RbyteaResult::external(&copy));
    }
    Ok((replaced, copies.len() as u64))
}
