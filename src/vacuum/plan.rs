//! What becomes of the files that the sweep has judged: a sink takes them. The plan is the sink that keeps them until
//! the whole store has been judged, in bounded memory, so that a failed listing moves nothing (I10).

use crate::pg::error::Report;
use crate::pg::memory::{self, maintenance_work_mem};
use crate::pg::pace::Pace;
use crate::session::opening::Access;
use crate::session::transaction;
use rbytea_store::{Backend, PayloadId};

/// What to do with a file that has to move.
pub trait SweepSink {
    /// LIVE → TRASH: no tuple refers to it.
    fn trash(&mut self, store: &dyn Backend, id: &PayloadId) -> Result<(), Report>;
    /// TRASH → LIVE: a tuple refers to it.
    fn restore(&mut self, store: &dyn Backend, id: &PayloadId, len: u64) -> Result<(), Report>;
    /// All files of an era (births with the same upper 48 bits) have been judged.
    fn era_done(&mut self, _store: &dyn Backend, _era: u64) -> Result<(), Report> {
        Ok(())
    }
}

/// What has to move, remembered until the whole store has been listed: a listing that fails must not find files moved
/// already (I10).
pub struct Plan {
    trash: Vec<PayloadId>,
    restore: Vec<(PayloadId, u64)>,
    eras: Vec<u64>,
    room: usize,
    overflow: bool,
}

impl Plan {
    /// Remembers what fits a quarter of maintenance_work_mem; the listing has another one, and the mark has half.
    pub fn within_memory() -> Self {
        let room = maintenance_work_mem() / 4 / (2 * size_of::<(PayloadId, u64)>());
        let room = room.clamp(1 << 10, 1 << 18);
        Self { trash: Vec::new(), restore: Vec::new(), eras: Vec::new(), room, overflow: false }
    }

    /// Carries the plan out. False if there was more to do than it can remember: then nothing has been done, but the
    /// whole store has been listed once without an error, and the sweep can be made again with moves at once.
    pub fn execute(self, executor: &mut dyn SweepSink, pace: &mut Pace) -> Result<bool, Report> {
        if self.overflow {
            return Ok(false);
        }
        transaction::with_store(Access::Write, |store| {
            for id in &self.trash {
                pace.file()?;
                executor.trash(store, id)?;
            }
            for (id, len) in &self.restore {
                pace.file()?;
                executor.restore(store, id, *len)?;
            }
            self.eras.iter().try_for_each(|&era| executor.era_done(store, era))
        })?;
        Ok(true)
    }

    fn remember<T>(list: &mut Vec<T>, room: usize, overflow: &mut bool, item: T) -> Result<(), Report> {
        if list.len() < room {
            return memory::push(list, item);
        }
        *overflow = true;
        Ok(())
    }
}

impl SweepSink for Plan {
    fn trash(&mut self, _store: &dyn Backend, id: &PayloadId) -> Result<(), Report> {
        Self::remember(&mut self.trash, self.room, &mut self.overflow, *id)
    }

    fn restore(&mut self, _store: &dyn Backend, id: &PayloadId, len: u64) -> Result<(), Report> {
        Self::remember(&mut self.restore, self.room, &mut self.overflow, (*id, len))
    }

    fn era_done(&mut self, _store: &dyn Backend, era: u64) -> Result<(), Report> {
        Self::remember(&mut self.eras, self.room, &mut self.overflow, era)
    }
}
