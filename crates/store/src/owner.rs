//! Whose store it is (I9): a cluster.

use std::fmt;

/// A cluster: what distinguishes it from its clones and its promoted standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId {
    /// `system_identifier` of pg_control.
    pub system_identifier: u64,
    /// The timeline it is on; 0 in recovery. In OWNER, too: the store is of this data directory on whichever timeline it ends up.
    pub timeline: u32,
    /// Its data directory.
    pub data_directory: DataDirectory,
}

/// A data directory, known by a file in it that is written once (PG_VERSION). A base backup that was started
/// without archive recovery shares identifier and timeline with the cluster that it was taken from; this it
/// does not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataDirectory {
    /// Inode of the file.
    pub inode: u64,
    /// When the file was created: nanoseconds since 1970, 0 where the file system does not know.
    pub created: u64,
}

impl OwnerId {
    /// Whether this is the data directory of `other` on any timeline.
    pub fn is_on_any_timeline(&self, other: &Self) -> bool {
        self.timeline == 0 && Self { timeline: 0, ..*other } == *self
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system_identifier, timeline, data_directory: DataDirectory { inode, created } } = self;
        write!(
            f,
            "system identifier {system_identifier}, timeline {timeline}, data directory {inode}-{created}"
        )
    }
}
