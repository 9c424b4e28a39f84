//! What a crash leaves.

use super::disk::{Change, NameStep, Names, Pending, ROOT, Removal};
use super::*;
use std::collections::HashMap;

/// What survives of that which no fsync has reached.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// For each pending change of a name, in their order; missing ones do not survive.
    pub changes: Vec<bool>,
    /// Whether the root's own entry does.
    pub root: bool,
    /// Bytes of files, by their ids; of others only the durable ones survive.
    pub files: HashMap<u64, FileLeft>,
}

/// What survives of a file whose bytes are not all durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLeft {
    /// Everything.
    All,
    /// The first bytes.
    Cut(usize),
    /// The first bytes, and zeros for the others.
    Zeros(usize),
}

impl Left {
    /// Everything that is pending.
    pub fn everything(pending: &Pending) -> Self {
        let files = pending.files.iter().map(|&(id, ..)| (id, FileLeft::All));
        Self { changes: vec![true; pending.changes], root: true, files: files.collect() }
    }
}

impl MemFs {
    /// What a crash at this moment may take.
    pub fn pending(&self) -> Pending {
        self.disk().pending()
    }

    /// What a crash at this moment leaves if only what is durable survives, as a disk of its own.
    pub fn after_crash(&self) -> Self {
        self.after(&Left::default())
    }

    /// What the death of every process leaves: everything, though no more is durable than before.
    pub fn after_kill(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.atomic_renames = true;
        self.with(disk)
    }

    /// What a crash at this moment leaves if this survives as well.
    pub fn after(&self, left: &Left) -> Self {
        let mut disk = self.disk().clone();
        let changes = std::mem::take(&mut disk.changes);
        let chosen: Vec<&Change> =
            changes.iter().zip(&left.changes).filter_map(|(change, left)| left.then_some(change)).collect();
        let names = surviving_names(&disk, chosen.clone());
        for (id, node) in disk.nodes.iter_mut().enumerate() {
            let node = Arc::make_mut(node);
            node.mtime = node.durable_mtime;
            (node.lost, node.removed) = (false, false);
            match &mut node.what {
                What::File { now, durable } => {
                    let bytes = file_after(now, durable, left.files.get(&(id as u64)).copied());
                    (*now, *durable) = (bytes.clone(), bytes);
                }
                What::Dir { now, durable } => {
                    now.clone_from(&names[&(id as u64)]);
                    durable.clone_from(now);
                }
                What::Link => {}
            }
        }
        for change in chosen {
            if let NameStep::Add(id, mtime) = change.step {
                let node = disk.node(id);
                (node.mtime, node.durable_mtime) = (mtime, mtime);
            }
        }
        disk.root_durable |= left.root;
        if !disk.root_durable {
            disk.node(ROOT).what = empty_dir();
        }
        self.with(disk)
    }
}

fn file_after(now: &[u8], durable: &[u8], left: Option<FileLeft>) -> Vec<u8> {
    match left {
        None => durable.into(),
        Some(FileLeft::All) => now.into(),
        Some(FileLeft::Cut(len)) => now[..len.min(now.len())].into(),
        Some(FileLeft::Zeros(from)) => {
            let from = from.min(now.len());
            let mut bytes = vec![0; now.len()];
            bytes[..from].copy_from_slice(&now[..from]);
            bytes
        }
    }
}

/// The names in each directory. A removal that the file system's journal would have kept from surviving by itself does not
/// survive: of a name that was the last one to lead to a renamed node, and of a directory that is not empty.
fn surviving_names(disk: &Disk, mut chosen: Vec<&Change>) -> HashMap<u64, Names> {
    loop {
        let mut names: HashMap<u64, Names> = disk
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(id, node)| match &node.what {
                What::Dir { durable, .. } => Some((id as u64, durable.clone())),
                _ => None,
            })
            .collect();
        for change in &chosen {
            if let Some(names) = names.get_mut(&change.dir) {
                change.step.apply(names, &change.name);
            }
        }
        let reachable = reachable(&names);
        let refused = chosen.iter().position(|change| match change.step {
            NameStep::Remove(id, Removal::Rename) => !reachable.contains(&id),
            NameStep::Remove(id, Removal::Rmdir) => names.get(&id).is_some_and(|names| !names.is_empty()),
            _ => false,
        });
        // One at a time: one name that comes back may be enough.
        match refused {
            Some(at) => drop(chosen.remove(at)),
            None => return names,
        }
    }
}

fn reachable(names: &HashMap<u64, Names>) -> std::collections::HashSet<u64> {
    let mut reachable = std::collections::HashSet::from([ROOT]);
    let mut dirs = vec![ROOT];
    while let Some(dir) = dirs.pop() {
        for &id in names.get(&dir).into_iter().flat_map(Names::values) {
            if reachable.insert(id) {
                dirs.push(id);
            }
        }
    }
    reachable
}
