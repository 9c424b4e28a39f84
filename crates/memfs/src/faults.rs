//! The faults that a test has planned, and the record of operations: every operation of the file system passes here.

use super::disk::Disk;
use super::*;
use std::collections::HashMap;

/// What happens at one operation, or from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has done nothing. A sync loses what it was to write.
    Fails(i32),
    /// It fails although it has been done.
    FailsDone(i32),
    /// A write ends after so many bytes, with an error.
    Cut(usize, i32),
    /// Nothing works from here on: the disk does not answer.
    Dead,
    /// Nothing can be changed from here on, and nothing is written any more: the journal was aborted.
    ReadOnly,
    /// Nothing can be added from here on.
    Full,
}

/// One operation: its kind, and on what.
#[derive(Clone, Debug)]
pub struct Step {
    pub op: Op,
    pub path: String,
}

/// The disk between two operations.
pub struct Snapshot {
    /// Operations done by then.
    pub at: u64,
    disk: Disk,
}

#[derive(Default)]
pub(super) struct Script {
    counts: HashMap<Op, u64>,
    /// (operation, how many more succeed before it, errno)
    nth: Vec<(Op, u64, i32)>,
    /// Operations so far.
    done: u64,
    fault: Option<(u64, Fault)>,
    /// The kind of operation that the fault met.
    met: Option<Op>,
    /// While operations are recorded.
    record: Option<Record>,
}

#[derive(Default)]
struct Record {
    steps: Vec<Step>,
    snapshots: Vec<Snapshot>,
    version: Option<u64>,
}

pub(super) enum Verdict {
    Works,
    Fails(i32),
    FailsDone(i32),
    Cut(usize, i32),
}

impl Script {
    pub(super) fn fail(&mut self, op: Op, nth: u64, errno: i32) {
        self.nth.push((op, nth - 1, errno));
    }

    pub(super) fn count(&self, op: Op) -> u64 {
        self.counts.get(&op).copied().unwrap_or_default()
    }

    fn next(&mut self, op: Op, path: impl FnOnce() -> String, disk: &Disk) -> Verdict {
        *self.counts.entry(op).or_default() += 1;
        if let Some(record) = &mut self.record {
            if record.version.replace(disk.version) != Some(disk.version) {
                record.snapshots.push(Snapshot { at: self.done, disk: disk.clone() });
            }
            record.steps.push(Step { op, path: path() });
        }
        self.done += 1;
        self.nth(op).map_or_else(|| self.planned(op), Verdict::Fails)
    }

    fn nth(&mut self, op: Op) -> Option<i32> {
        let mut failure = None;
        self.nth.retain_mut(|(kind, left, errno)| {
            if *kind != op || failure.is_some() {
                return true;
            }
            if *left == 0 {
                failure = Some(*errno);
                return false;
            }
            *left -= 1;
            true
        });
        failure
    }

    fn planned(&mut self, op: Op) -> Verdict {
        let (at, fault) = match self.fault {
            Some((at, fault)) if at < self.done => (at, fault),
            _ => return Verdict::Works,
        };
        let first = at + 1 == self.done;
        if first {
            self.met = Some(op);
        }
        match fault {
            Fault::Fails(errno) if first => Verdict::Fails(errno),
            Fault::FailsDone(errno) if first => Verdict::FailsDone(errno),
            Fault::Cut(len, errno) if first && op == Op::Write => Verdict::Cut(len, errno),
            Fault::Dead => Verdict::Fails(EIO),
            Fault::ReadOnly if op.changes() => Verdict::Fails(EROFS),
            Fault::ReadOnly if op.syncs() => Verdict::Fails(EIO),
            Fault::Full if op.needs_space() => Verdict::Fails(ENOSPC),
            _ => Verdict::Works,
        }
    }
}

impl Op {
    /// Whether it changes a directory, a file or an inode.
    pub fn changes(self) -> bool {
        use Op::*;
        matches!(self, Mkdir | Create | Rename | Link | Unlink | Rmdir | Write | Truncate | SetMtime)
    }

    pub fn syncs(self) -> bool {
        matches!(self, Self::SyncData | Self::SyncDir | Self::SyncRoot | Self::Syncfs)
    }

    /// Whether it looks through a directory.
    pub fn lists(self) -> bool {
        matches!(self, Self::ReadDir | Self::ReadEntry)
    }

    /// Whether it may fail for want of space.
    pub fn needs_space(self) -> bool {
        matches!(self, Self::Mkdir | Self::Create | Self::Rename | Self::Link | Self::Write)
    }
}

impl MemFs {
    pub(super) fn script(&self) -> MutexGuard<'_, faults::Script> {
        self.script.lock().unwrap()
    }

    /// Does an operation, unless a fault is planned for it.
    pub(super) fn run<T>(
        &self,
        op: Op,
        path: impl FnOnce() -> String,
        work: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk();
        let verdict = self.script().next(op, path, &disk);
        disk.atomic_renames |= !matches!(verdict, Verdict::Works) && self.script().met.is_some();
        match verdict {
            Verdict::Works => work(&mut disk),
            Verdict::Fails(errno) => Err(os(errno)),
            Verdict::FailsDone(errno) => {
                work(&mut disk)?;
                Err(os(errno))
            }
            Verdict::Cut(len, errno) => {
                disk.cut = Some(len);
                work(&mut disk)?;
                Err(os(errno))
            }
        }
    }

    /// A copy with a disk of its own, on which no fault is planned.
    pub fn copy(&self) -> Self {
        let copy = self.with(self.disk().clone());
        copy.script().done = self.operations();
        copy
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.script().done
    }

    /// The fault happens after `after` more operations.
    pub fn plan(&self, after: u64, fault: Fault) {
        let mut script = self.script();
        script.fault = Some((script.done + after, fault));
        script.met = None;
    }

    /// The kind of operation that the planned fault has met, if there was one yet.
    pub fn met(&self) -> Option<Op> {
        self.script().met
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut script = self.script();
        script.nth.clear();
        script.fault = None;
        drop(script);
        self.disk().space = None;
    }

    /// Keeps what is done from now on, with the disk before each operation where it has changed.
    pub fn record(&self) {
        self.script().record = Some(Record::default());
    }

    /// What was recorded, with the disk as it is now at the end.
    pub fn recorded(&self) -> (Vec<Step>, Vec<Snapshot>) {
        let disk = self.disk().clone();
        let mut script = self.script();
        let at = script.done;
        let Record { steps, mut snapshots, .. } = script.record.take().expect("something was recorded");
        snapshots.push(Snapshot { at, disk });
        (steps, snapshots)
    }

    /// The file system as it was then.
    pub fn as_of(&self, snapshot: &Snapshot) -> Self {
        self.with(snapshot.disk.clone())
    }
}
