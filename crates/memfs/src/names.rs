//! Changes of names that no fsync has reached, in their order: what `crash` may drop.

use std::collections::BTreeMap;
use std::time::SystemTime;

/// The names in a directory, and the nodes that they lead to.
pub(super) type Names = BTreeMap<String, u64>;

/// A change of a directory that no fsync has reached.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) dir: u64,
    pub(super) name: String,
    pub(super) step: NameStep,
    /// The two changes of a rename share a number.
    pub(super) rename: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum NameStep {
    /// The name leads to this node, which had this date.
    Add(u64, SystemTime),
    /// It does not any more.
    Remove(u64, Removal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Unlink,
    Rmdir,
    /// After another name of the node was added in this directory.
    Rename(u64),
}

impl NameStep {
    pub(super) fn adds(&self) -> bool {
        matches!(self, Self::Add(..))
    }

    /// Changes the names of a directory.
    pub(super) fn apply(&self, names: &mut Names, name: &str) {
        match self {
            Self::Add(id, _) => {
                names.insert(name.into(), *id);
            }
            // The name may be another node's by now.
            Self::Remove(id, _) if names.get(name) == Some(id) => {
                names.remove(name);
            }
            Self::Remove(..) => {}
        }
    }
}
