//! What a crash leaves: a disk on which everything durable survives, and of the rest what the test chooses.

use super::disk::{DATA, Pending, ROOT};
use super::names::{Change, NameStep, Names, Removal};
use super::*;
use rbytea_store::file::fs::EntryKind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
        let names = surviving_names(&disk, &changes, chosen.clone());
        for (id, node) in disk.nodes.iter_mut().enumerate() {
            let id = id as u64;
            // Nodes are shared with the disk that crashes, as long as they are the same.
            if names.contains_key(&id) || !node.is_settled() {
                let node = Arc::make_mut(node);
                node.mtime = node.durable_mtime;
                node.lost.clear();
                node.removed = false;
                match &mut node.what {
                    What::File { now, durable } => {
                        let bytes = file_after(now, durable, left.files.get(&id).copied());
                        (*now, *durable) = (bytes.clone(), bytes);
                    }
                    What::Dir { now, durable } => {
                        if let Some(names) = names.get(&id) {
                            durable.clone_from(names);
                        }
                        now.clone_from(durable);
                    }
                    What::Link => {}
                }
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

/// The names in each directory that is not as it is on the disk. A removal that the file system's journal would have
/// kept from surviving by itself does not survive: of a name by a rename whose new name does not, and of a directory
/// that is not empty.
fn surviving_names(disk: &Disk, all: &[Change], mut chosen: Vec<&Change>) -> BTreeMap<u64, Names> {
    let half = |change: &Change, other: &Change| {
        change.rename.is_some() && change.rename == other.rename && change.step.adds()
    };
    loop {
        let mut names = BTreeMap::<u64, Names>::new();
        for change in &chosen {
            let names = names.entry(change.dir).or_insert_with(|| disk.durable_names(change.dir).clone());
            change.step.apply(names, &change.name);
        }
        let names_of = |dir| names.get(&dir).unwrap_or_else(|| disk.durable_names(dir));
        let reachable = reachable(disk, names_of);
        let refused = chosen.iter().position(|change| match change.step {
            NameStep::Remove(_, Removal::Rename(to)) => {
                let pending = all.iter().any(|other| half(other, change));
                !reachable.contains(&to) || pending && !chosen.iter().any(|other| half(other, change))
            }
            NameStep::Remove(id, Removal::Rmdir) => !names_of(id).is_empty(),
            _ => false,
        });
        // One at a time: a directory that comes back may be what another name needs.
        match refused {
            Some(at) => drop(chosen.remove(at)),
            None => return names,
        }
    }
}

/// The directories that a path leads to.
fn reachable<'a>(disk: &Disk, names_of: impl Fn(u64) -> &'a Names) -> BTreeSet<u64> {
    let mut reachable = BTreeSet::from([ROOT, DATA]);
    let mut dirs = vec![ROOT, DATA];
    while let Some(dir) = dirs.pop() {
        for &id in names_of(dir).values().filter(|id| disk.kind(**id) == EntryKind::Dir) {
            if reachable.insert(id) {
                dirs.push(id);
            }
        }
    }
    reachable
}
