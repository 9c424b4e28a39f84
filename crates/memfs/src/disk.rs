//! The state of the file system: what is on the disk and what is only in the page cache.

use super::names::{Change, NameStep, Names, Removal};
use super::*;
use rbytea_store::file::fs::{EntryKind, Stat};
use std::collections::BTreeSet;

#[derive(Clone)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) mtime: SystemTime,
    pub(super) durable_mtime: SystemTime,
    /// Write-back errors of this file so far, and which of its present bytes never reach the disk unless they are written again.
    pub(super) errors: u64,
    pub(super) lost: BTreeSet<usize>,
    /// A directory that has been removed and may be open still.
    pub(super) removed: bool,
}

#[derive(Clone)]
pub(super) enum What {
    File { now: Vec<u8>, durable: Vec<u8> },
    Dir { now: Names, durable: Names },
    Link,
}

#[derive(Clone)]
pub(super) struct Disk {
    /// By their ids. Nodes are shared with the snapshots of the disk.
    pub(super) nodes: Vec<Arc<Node>>,
    /// Where paths begin for the caller that has the lock.
    pub(super) top: u64,
    pub(super) changes: Vec<Change>,
    pub(super) root_durable: bool,
    /// Whether the fsync of a directory makes durable where its files were renamed to.
    pub(super) atomic_renames: bool,
    pub(super) errors: u64,
    pub(super) space: Option<usize>,
    /// Bytes after which the next write is cut off.
    pub(super) cut: Option<usize>,
    /// Grows with every change of the file system or of what is durable.
    pub(super) version: u64,
}

/// What a crash may take.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Changes of names.
    pub changes: usize,
    /// Files with bytes that are not durable: their ids, durable length and present length.
    pub files: Vec<(u64, usize, usize)>,
    /// Whether the root's own entry is.
    pub root: bool,
}

pub(super) const ROOT: u64 = 0;
/// The data directory, beside the root and always there.
pub(super) const DATA: u64 = 1;

pub(super) fn empty_file() -> What {
    What::File { now: Vec::new(), durable: Vec::new() }
}

pub(super) fn empty_dir() -> What {
    What::Dir { now: Names::new(), durable: Names::new() }
}

impl What {
    pub(super) fn kind(&self) -> EntryKind {
        match self {
            Self::File { .. } => EntryKind::File,
            Self::Dir { .. } => EntryKind::Dir,
            Self::Link => EntryKind::Other,
        }
    }
}

impl Node {
    fn new(what: What) -> Arc<Self> {
        let now = SystemTime::now();
        Arc::new(Self {
            what,
            mtime: now,
            durable_mtime: now,
            errors: 0,
            lost: BTreeSet::new(),
            removed: false,
        })
    }
}

impl Node {
    /// Whether a crash leaves it as it is.
    pub(super) fn is_settled(&self) -> bool {
        let same = match &self.what {
            What::File { now, durable } => now == durable,
            What::Dir { now, durable } => now == durable,
            What::Link => true,
        };
        same && self.mtime == self.durable_mtime && self.lost.is_empty() && !self.removed
    }
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::new(empty_dir()), Node::new(empty_dir())],
            top: ROOT,
            changes: Vec::new(),
            root_durable: false,
            atomic_renames: false,
            errors: 0,
            space: None,
            cut: None,
            version: 0,
        }
    }

    /// A node, to change it.
    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.version += 1;
        Arc::make_mut(&mut self.nodes[id as usize])
    }

    pub(super) fn kind(&self, id: u64) -> EntryKind {
        self.nodes[id as usize].what.kind()
    }

    pub(super) fn dir(&self, id: u64) -> io::Result<&Names> {
        match &self.nodes[id as usize].what {
            What::Dir { now, .. } => Ok(now),
            What::File { .. } => Err(os(ENOTDIR)),
            What::Link => Err(os(ELOOP)),
        }
    }

    /// The names in a directory that are on the disk.
    pub(super) fn durable_names(&self, id: u64) -> &Names {
        match &self.nodes[id as usize].what {
            What::Dir { durable, .. } => durable,
            _ => unreachable!("only directories change"),
        }
    }

    pub(super) fn find(&self, path: &str) -> io::Result<u64> {
        let mut at = self.top;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.entry(at, name)?;
        }
        Ok(at)
    }

    pub(super) fn entry(&self, dir: u64, name: &str) -> io::Result<u64> {
        self.dir(dir)?.get(name).copied().ok_or_else(|| os(ENOENT))
    }

    /// The directory of a path and the name in it.
    pub(super) fn parent<'a>(&self, path: &'a str) -> io::Result<(u64, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.find(dir)?;
        self.dir(dir)?;
        Ok((dir, name))
    }

    pub(super) fn stat(&self, id: u64) -> Stat {
        let node = &self.nodes[id as usize];
        let len = if let What::File { now, .. } = &node.what { now.len() as u64 } else { 0 };
        let kind = node.what.kind();
        let mode = if kind == EntryKind::Dir { 0o700 } else { 0o600 };
        Stat { len, mtime: node.mtime, kind, inode: id, mode, owned: true }
    }

    pub(super) fn add(&mut self, path: &str, what: What) -> io::Result<u64> {
        let (dir, name) = self.parent(path)?;
        if self.dir(dir)?.contains_key(name) {
            return Err(os(EEXIST));
        }
        let id = self.nodes.len() as u64;
        self.nodes.push(Node::new(what));
        self.give(dir, name, id)?;
        Ok(id)
    }

    /// Gives a node a name, which may be another node's.
    pub(super) fn give(&mut self, dir: u64, name: &str, id: u64) -> io::Result<()> {
        let mtime = self.nodes[id as usize].mtime;
        self.change(dir, name, NameStep::Add(id, mtime))
    }

    /// Takes a node's name away.
    pub(super) fn take(&mut self, dir: u64, name: &str, why: Removal) -> io::Result<()> {
        let id = self.entry(dir, name)?;
        self.change(dir, name, NameStep::Remove(id, why))
    }

    fn change(&mut self, dir: u64, name: &str, step: NameStep) -> io::Result<()> {
        if self.nodes[dir as usize].removed {
            return Err(os(ENOENT));
        }
        let What::Dir { now, .. } = &mut self.node(dir).what else { return Err(os(ENOTDIR)) };
        step.apply(now, name);
        self.changes.push(Change { dir, name: name.into(), step, rename: None });
        Ok(())
    }

    /// Gives a node another name instead of the one that it has.
    pub(super) fn rename_node(&mut self, id: u64, from: (u64, &str), to: (u64, &str)) -> io::Result<()> {
        self.give(to.0, to.1, id)?;
        self.take(from.0, from.1, Removal::Rename(to.0))?;
        let number = Some(self.version);
        self.changes.iter_mut().rev().take(2).for_each(|change| change.rename = number);
        Ok(())
    }

    pub(super) fn make_durable(&mut self, id: u64) {
        if self.atomic_renames {
            let renamed = self.changes.iter().filter(|change| change.dir == id);
            let renamed = renamed.filter_map(|change| match change.step {
                NameStep::Remove(node, Removal::Rename(to)) => Some([node, to]),
                _ => None,
            });
            renamed.flatten().collect::<Vec<_>>().into_iter().for_each(|node| self.make_names_durable(node));
        }
        let changes = std::mem::take(&mut self.changes);
        let (done, left): (Vec<_>, _) = changes.into_iter().partition(|change| change.dir == id);
        self.changes = left;
        let node = self.node(id);
        match &mut node.what {
            What::File { now, durable } => {
                let mut written = now.clone();
                for &at in node.lost.iter().rev().filter(|&&at| at < now.len()) {
                    match durable.get(at) {
                        Some(&byte) => written[at] = byte,
                        // The file has not become as long as this.
                        None if at + 1 == written.len() => written.truncate(at),
                        None => written[at] = 0,
                    }
                }
                *durable = written;
            }
            What::Dir { now, durable } => durable.clone_from(now),
            What::Link => {}
        }
        for change in done {
            if let NameStep::Add(id, mtime) = change.step {
                self.node(id).durable_mtime = mtime;
            }
        }
    }

    /// The names of a node, and of the directories above.
    fn make_names_durable(&mut self, id: u64) {
        while let Some(at) =
            self.changes.iter().position(|change| matches!(change.step, NameStep::Add(node, _) if node == id))
        {
            let Change { dir, name, step, .. } = self.changes.remove(at);
            if let What::Dir { durable, .. } = &mut self.node(dir).what {
                step.apply(durable, &name);
            }
            self.make_names_durable(dir);
        }
    }

    pub(super) fn make_all_durable(&mut self) {
        for id in 0..self.nodes.len() as u64 {
            self.make_durable(id);
            let node = self.node(id);
            node.durable_mtime = node.mtime;
        }
        self.root_durable = true;
    }

    /// The bytes of a file that are not durable yet never will be, unless they are written again. Each open descriptor reports the
    /// error once.
    pub(super) fn lose(&mut self, id: u64) {
        self.errors += 1;
        let node = self.node(id);
        node.errors += 1;
        if let What::File { now, durable } = &node.what {
            let changed = (0..now.len()).filter(|&at| durable.get(at) != now.get(at));
            node.lost.extend(changed);
        }
    }

    pub(super) fn pending(&self) -> Pending {
        let unsynced = self.nodes.iter().enumerate().filter_map(|(id, node)| match &node.what {
            What::File { now, durable } if now != durable => Some((id as u64, durable.len(), now.len())),
            _ => None,
        });
        Pending { changes: self.changes.len(), files: unsynced.collect(), root: !self.root_durable }
    }

    /// The paths of all files.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut dirs = vec![(String::new(), self.top)];
        while let Some((prefix, dir)) = dirs.pop() {
            for (name, &id) in self.dir(dir).into_iter().flatten() {
                let path = format!("{prefix}{name}");
                match self.kind(id) {
                    EntryKind::Dir => dirs.push((path + "/", id)),
                    _ => paths.push(path),
                }
            }
        }
        paths.sort();
        paths
    }
}
