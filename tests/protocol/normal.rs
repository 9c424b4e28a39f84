//! One form for all states that differ in nothing that matters: so the states are finite although the number of
//! transactions is not limited.

use crate::state::{File, Phase, Snapshot, State, Xid};
use crate::world::{Counted, Stamp, Valid, World};

impl State {
    pub fn normalise(&mut self, world: &World) {
        if world.prunes_at_once {
            let (horizon, before) = (self.horizon(world), *self);
            self.remove_tuples(|tuple| before.is_dead(tuple, horizon));
        }
        self.forget(world);
        self.freeze(world);
        self.renumber();
        // Empty places last.
        self.tuples.sort_unstable_by_key(|slot| (slot.is_none(), *slot));
        if world.symmetric && world.sessions == self.sessions.len() {
            self.sessions.sort_unstable();
        }
    }

    /// What no rule of this world asks for.
    fn forget(&mut self, world: &World) {
        let rules = &world.rules;
        if rules.valid != Valid::LocalStands {
            self.run.local = 0;
        }
        if !world.write && !world.ordinary && rules.stamp != Stamp::Upper {
            self.run.upper = 0;
        }
        if !world.ordinary {
            self.last_upper = 0;
            self.run.from = 0;
        }
        if !world.lineage {
            self.tuples.iter_mut().flatten().for_each(|tuple| tuple.clean = false);
            for memory in self.sessions.iter_mut().filter_map(|session| session.memory.as_mut()) {
                memory.held = false;
                memory.clean = false;
            }
        }
        if let Some(snapshot) = &mut self.run.snapshot
            && rules.counted != Counted::Visible
        {
            snapshot.unseen = 0;
        }
    }

    /// What every snapshot sees, now and for ever, may as well have been there before everything.
    fn freeze(&mut self, world: &World) {
        let snapshots: [Option<Snapshot>; 3] =
            [self.sessions[0].snapshot, self.sessions[1].snapshot, self.run.snapshot];
        let running = self.running;
        let all_see = |xid: Xid| {
            running >> xid & 1 == 0 && snapshots.iter().flatten().all(|snapshot| snapshot.sees(xid))
        };
        for tuple in self.tuples.iter_mut().flatten() {
            if all_see(tuple.xmin) {
                tuple.xmin = 0;
            }
        }
        if self.creator != 0 && self.running >> self.creator & 1 == 0 {
            self.creator = Self::CREATED;
        }
        // Every horizon to come is above it.
        let horizon = self.local_horizon(world);
        if self.run.phase == Phase::Idle && !world.external && !world.foreign {
            for file in &mut self.files {
                if matches!(file, File::Trash(Some(stamp)) if *stamp < horizon) {
                    *file = File::Trash(Some(0));
                }
            }
        }
    }

    /// Numbers the transaction ids that occur from 1 on, in their order.
    fn renumber(&mut self) {
        // Transactions that a tuple or a session still speaks of, and then all points on the line of transaction ids.
        let mut spoken_of = self.running;
        for tuple in self.tuples.iter().flatten() {
            spoken_of |= 1 << tuple.xmin | 1 << tuple.xmax;
        }
        let mut used = spoken_of | 1;
        self.for_each_xid(|xid| used |= 1 << *xid);
        let rank = |xid: Xid| (used & ((1u32 << xid) - 1)).count_ones() as Xid;
        let renumbered = |mask: u32| {
            let mut new = 0;
            let mut rest = mask & spoken_of & !1;
            while rest != 0 {
                new |= 1 << rank(rest.trailing_zeros() as Xid);
                rest &= rest - 1;
            }
            new
        };
        self.running = renumbered(self.running);
        let sessions = self.sessions.iter_mut().map(|session| &mut session.snapshot);
        for snapshot in sessions.chain([&mut self.run.snapshot]).flatten() {
            snapshot.unseen = renumbered(snapshot.unseen);
        }
        self.for_each_xid(|xid| *xid = rank(*xid));
    }

    /// Everything that is, or is compared with, a transaction id.
    fn for_each_xid(&mut self, mut act: impl FnMut(&mut Xid)) {
        act(&mut self.next);
        act(&mut self.foreign);
        for session in &mut self.sessions {
            act(&mut session.xid);
            act(&mut session.outer);
            if let Some(snapshot) = &mut session.snapshot {
                act(&mut snapshot.xmin);
            }
        }
        for tuple in self.tuples.iter_mut().flatten() {
            act(&mut tuple.xmin);
            act(&mut tuple.xmax);
        }
        for file in &mut self.files {
            if let File::Trash(Some(stamp)) = file {
                act(stamp);
            }
        }
        self.births.iter_mut().for_each(&mut act);
        if self.creator != Self::CREATED {
            act(&mut self.creator);
        }
        if let Some(snapshot) = &mut self.run.snapshot {
            act(&mut snapshot.xmin);
        }
        if let Some(horizon) = &mut self.run.horizon {
            act(horizon);
        }
        for xid in [&mut self.run.local, &mut self.run.upper, &mut self.run.from, &mut self.run.xid] {
            act(xid);
        }
        act(&mut self.last_upper);
    }
}
