//! What writers, keepers, the checkpointer and the WAL are like between two steps.

/// Payloads, each written by a transaction of its own.
pub const WRITERS: usize = 2;

/// A record of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A payload's bytes; redo writes them.
    Put { payload: usize },
    /// A checkpoint has completed.
    Checkpoint { redo: usize },
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Begun,
    /// Its file is in the cache.
    Written,
    /// It has counted it.
    Counted,
    /// It has looked for keepers.
    Looked,
    /// Its PUT is in the WAL.
    Logged,
    /// At PRE_COMMIT it has found that it has to make its file durable itself.
    OnItsOwn,
    /// It has done so.
    Synced,
    /// Nothing is left to do before the commit.
    Ready,
    Committed,
}

/// A transaction that writes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    pub step: Step,
    /// It has seen keepers before it logged.
    pub relies: bool,
}

/// What a keeper is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// There is none.
    Absent,
    /// It holds the flag that completions of checkpoints wait for.
    Holds,
    /// It has read the redo pointer.
    HasRead,
    /// Its syncfs runs, for what was in the cache when it began, and for what was counted before.
    Syncs {
        cached: u8,
        counted: u8,
    },
    /// That has ended, or there was nothing to sync.
    HasSynced,
    /// It alone may let go.
    HasToken,
    /// It has looked at the redo pointer again: that is still the one behind which it has synced.
    HasLooked,
    /// It has let go.
    HasLetGo,
    /// It has said that it ends, and holds still.
    Ends,
    EndSyncs {
        cached: u8,
    },
    EndHasSynced,
}

impl Doing {
    /// Whether a checkpoint that collects those it waits for finds this one.
    pub fn holds(self) -> bool {
        !matches!(self, Self::Absent | Self::HasLetGo)
    }
}

/// A keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keeper {
    pub doing: Doing,
    /// The redo pointer that it has read is still the one in shared memory.
    pub has_read: bool,
    /// It has synced behind the redo pointer that is there.
    pub has_synced: bool,
}

/// What the checkpointer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checkpoint {
    None,
    /// The redo pointer is set; what PostgreSQL itself has to write is being written.
    Writes,
    /// It waits for those that held when it collected them, until they let go: for their virtual transactions.
    Waits([bool; 2]),
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub wal: Vec<Record>,
    /// The redo pointer in shared memory, a place in the WAL.
    pub redo: usize,
    /// Where recovery begins: the redo pointer of the last checkpoint that has completed.
    pub recovery: usize,
    pub checkpoint: Checkpoint,
    pub checkpoints: u8,
    pub writers: [Writer; WRITERS],
    /// Bits of files that are in the cache, and that are on the disk.
    pub cached: u8,
    pub durable: u8,
    pub keepers: [Keeper; 2],
    /// Bits of payloads that their writers have counted, and of those that keepers know to be durable.
    pub counted: u8,
    pub known: u8,
    /// Writers may rely on the keepers.
    pub present: bool,
    pub token: Option<usize>,
    pub ends: u8,
}

impl State {
    /// Two keepers that hold, and a checkpoint long ago.
    pub fn start() -> Self {
        let keeper = Keeper { doing: Doing::Holds, has_read: true, has_synced: true };
        Self {
            wal: Vec::new(),
            redo: 0,
            recovery: 0,
            checkpoint: Checkpoint::None,
            checkpoints: 0,
            writers: [Writer { step: Step::Begun, relies: false }; WRITERS],
            cached: 0,
            durable: 0,
            keepers: [keeper; 2],
            counted: 0,
            known: 0,
            present: true,
            token: None,
            ends: 0,
        }
    }

    fn committed(&self) -> impl Iterator<Item = usize> {
        (0..WRITERS).filter(|&payload| self.writers[payload].step == Step::Committed)
    }

    /// The place of a payload's PUT.
    fn put(&self, payload: usize) -> Option<usize> {
        self.wal.iter().position(|record| *record == Record::Put { payload })
    }

    /// Whether a committed payload is not on the disk yet.
    pub fn relies_on_the_wal(&self) -> bool {
        self.committed().any(|payload| self.durable & 1 << payload == 0)
    }

    /// Whether a crash of the machine loses no committed payload: its file is on the disk, or recovery writes it.
    pub fn survives_a_crash(&self) -> bool {
        self.committed().all(|payload| {
            self.durable & 1 << payload != 0 || self.put(payload).is_some_and(|place| place >= self.recovery)
        })
    }

    /// Whether the same goes for a standby, at whichever checkpoint record it has made a restartpoint: its cache is lost. Its disk has what
    /// it had written before that record, if it syncs before it replays one.
    pub fn standby_survives_a_crash(&self, syncs: bool) -> bool {
        let checkpoints = self.wal.iter().enumerate().filter_map(|(at, record)| match record {
            Record::Checkpoint { redo } => Some((at, *redo)),
            Record::Put { .. } => None,
        });
        checkpoints.into_iter().all(|(at, redo)| {
            self.committed()
                .all(|payload| self.put(payload).is_some_and(|place| place >= redo || syncs && place < at))
        })
    }
}
