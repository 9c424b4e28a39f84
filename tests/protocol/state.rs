//! The state of the model: transactions, snapshots, tuples, files and the run of the vacuum, and which snapshot sees which tuple.

use crate::world::{Statements, World};

/// A transaction id; 0 is one that committed before everything, or none.
pub type Xid = u8;

pub const SESSIONS: usize = 2;
pub const TUPLES: usize = 4;

/// A bit per table: A has the trigger, B is a container without it, C is created meanwhile.
pub const A: u8 = 1;
pub const B: u8 = 2;
pub const C: u8 = 4;

/// Bits of `Session::statement`.
pub const RUNNING: u8 = 1;
/// It began before the run took its horizon.
pub const OLDER_THAN_MARK: u8 = 2;
/// It began before the payload was trashed; shifted by the payload.
pub const OLDER_THAN_TRASHING: u8 = 4;
/// In a transaction block.
pub const BLOCK: u8 = 16;

/// A snapshot: its xmin, and a bit for each transaction that it does not see. (Those that begin later get theirs then.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snapshot {
    pub xmin: Xid,
    pub unseen: u32,
}

impl Snapshot {
    pub fn sees(&self, xid: Xid) -> bool {
        self.unseen >> xid & 1 == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub table: u8,
    pub payload: u8,
    pub xmin: Xid,
    /// 0 while no transaction has deleted it. Aborted transactions leave no trace in the model.
    pub xmax: Xid,
    /// Copied from tuple to tuple under snapshots only.
    pub clean: bool,
}

/// A reference that a session remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    pub payload: u8,
    /// The snapshot that read it, or an older one, has been held ever since.
    pub held: bool,
    pub clean: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    pub xid: Xid,
    pub snapshot: Option<Snapshot>,
    /// The xmin of an older snapshot that is held too.
    pub outer: Xid,
    pub memory: Option<Memory>,
    /// The trigger has found the file in LIVE in this statement.
    pub checked: bool,
    /// Tables that its transaction has locked.
    pub locked: u8,
    pub statement: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    Absent,
    Live,
    /// With the transaction id of the run that moved it; none while there is no such row of history.
    Trash(Option<Xid>),
    Purged,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    #[default]
    Idle,
    /// The snapshot is taken.
    Started,
    /// The horizon is taken.
    Horizon,
    /// Relations have been searched and locked.
    Locked,
    ScannedA,
    ScannedB,
    /// All relations are scanned.
    Scanned,
    /// The mark is valid.
    Marked,
    Swept,
    Purged,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    pub phase: Phase,
    pub snapshot: Option<Snapshot>,
    /// At the start of the mark; 0 is older than all.
    pub horizon: Option<Xid>,
    pub local: Xid,
    pub upper: Xid,
    /// The smallest birth that is judged.
    pub from: Xid,
    pub whole: bool,
    /// Relations that the search found, and those that are locked.
    pub found: u8,
    pub locked: u8,
    /// Payloads, a bit each.
    pub marked: u8,
    pub listed: u8,
    /// Payloads that a statement which is too old may remember.
    pub remembered: u8,
    /// Its transaction id, if it has one before its end.
    pub xid: Xid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub next: Xid,
    pub running: u32,
    /// A transaction of another database that runs all the time.
    pub foreign: Xid,
    pub sessions: [Session; SESSIONS],
    pub tuples: [Option<Tuple>; TUPLES],
    pub files: [File; 2],
    pub births: [Xid; 2],
    /// The transaction that created table C.
    pub creator: Xid,
    pub external: bool,
    pub run: Run,
    pub runs: u8,
    pub last_upper: Xid,
}

impl State {
    /// The creator of table C when its transaction has ended.
    pub const CREATED: Xid = 31;

    pub fn stored(world: &World, table: u8) -> State {
        let mut tuples = [None; TUPLES];
        tuples[0] = Some(Tuple { table, payload: 0, xmin: 0, xmax: 0, clean: true });
        State {
            next: if world.foreign { 2 } else { 1 },
            running: if world.foreign { 1 << 1 } else { 0 },
            foreign: world.foreign.into(),
            sessions: [Session::default(); SESSIONS],
            tuples,
            files: [File::Live, File::Absent],
            births: [0, 0],
            creator: 0,
            external: false,
            run: Run::default(),
            runs: 0,
            last_upper: 0,
        }
    }

    pub fn remembered(world: &World, trashed: bool) -> State {
        let mut state = Self { tuples: [None; TUPLES], ..Self::stored(world, 0) };
        let session = &mut state.sessions[0];
        session.memory = Some(Memory { payload: 0, held: false, clean: false });
        if world.rules.statements != Statements::Ignored {
            session.statement = RUNNING;
        }
        if trashed {
            if world.rules.statements == Statements::OfTheTrashing {
                session.statement |= OLDER_THAN_TRASHING;
            }
            let stamp = state.assign_xid();
            state.running &= !(1 << stamp);
            state.files[0] = File::Trash(Some(stamp));
        }
        state
    }

    pub fn is_running(&self, xid: Xid) -> bool {
        self.running >> xid & 1 == 1
    }

    pub fn tuples(&self) -> impl Iterator<Item = &Tuple> {
        self.tuples.iter().flatten()
    }

    /// GetNewTransactionId (varsup.c).
    pub fn assign_xid(&mut self) -> Xid {
        let xid = self.next;
        self.next += 1;
        self.running |= 1 << xid;
        let sessions = self.sessions.iter_mut().map(|session| &mut session.snapshot);
        for snapshot in sessions.chain([&mut self.run.snapshot]).flatten() {
            snapshot.unseen |= 1 << xid;
        }
        xid
    }

    /// GetSnapshotData (procarray.c): transactions of all databases count.
    pub fn take_snapshot(&self) -> Snapshot {
        let xmin = if self.running == 0 { self.next } else { self.running.trailing_zeros() as Xid };
        Snapshot { xmin, unseen: self.running }
    }

    /// The oldest transaction or snapshot of this database.
    pub fn local_horizon(&self, world: &World) -> Xid {
        let mut horizon = self.next;
        let mut hold = |xid: Xid| {
            if xid != 0 {
                horizon = horizon.min(xid);
            }
        };
        for session in &self.sessions {
            hold(session.xid);
            hold(session.outer);
            hold(session.snapshot.map_or(0, |snapshot| snapshot.xmin));
        }
        hold(self.run.xid);
        if world.rules.holds_snapshot {
            hold(self.run.snapshot.map_or(0, |snapshot| snapshot.xmin));
        }
        horizon
    }

    /// ComputeXidHorizons (procarray.c): what holds from outside is older than everything here.
    pub fn horizon(&self, world: &World) -> Xid {
        if self.external { 0 } else { self.local_horizon(world) }
    }

    /// HeapTupleSatisfiesVacuum: no snapshot, held or to come, sees it.
    pub fn is_dead(&self, tuple: &Tuple, horizon: Xid) -> bool {
        tuple.xmax != 0 && !self.is_running(tuple.xmax) && tuple.xmax < horizon
    }

    /// HeapTupleSatisfiesMVCC, for the transaction `own`.
    pub fn is_visible(&self, tuple: &Tuple, snapshot: &Snapshot, own: Xid) -> bool {
        let sees = |xid: Xid| xid == own || snapshot.sees(xid);
        (tuple.xmin == 0 || sees(tuple.xmin)) && !(tuple.xmax != 0 && sees(tuple.xmax))
    }

    pub fn remove_tuples(&mut self, dead: impl Fn(&Tuple) -> bool) {
        for slot in &mut self.tuples {
            if slot.as_ref().is_some_and(&dead) {
                *slot = None;
            }
        }
    }
}
