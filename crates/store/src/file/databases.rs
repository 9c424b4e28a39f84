//! The databases that share one root. Relies on the names of directories; looks for a missing payload in the other
//! databases, and changes nothing.

use super::fs::{EntryKind, Fs};
use super::layout::{database_dir, parse_database_dir};
use super::list::directory;
use super::paths::found;
use super::store::FileStore;
use crate::error::Result;
use crate::payload::PayloadId;

impl<F: Fs> FileStore<F> {
    /// OIDs of the databases that have a directory in the root, ascending.
    ///
    /// # Errors
    /// `Io`; the listing is void then (I10).
    pub(super) fn databases(&self) -> Result<Vec<u32>> {
        let mut databases = Vec::new();
        self.each("", &mut |entry| {
            databases.extend(directory(&entry).and_then(parse_database_dir));
            Ok(())
        })?;
        databases.sort_unstable();
        Ok(databases)
    }

    /// Another database of the same root that has the payload's file, LIVE or in TRASH: of a payload that is
    /// missing, where it may have come from.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn elsewhere(&self, id: &PayloadId) -> Result<Option<u32>> {
        for oid in self.databases()? {
            if oid == self.config.database {
                continue;
            }
            let directory = database_dir(oid);
            for path in [id.live_path(), id.trash_path()].map(|path| format!("{directory}/{path}")) {
                let stat = found(self.fs.stat(&path)).map_err(self.io("stat file", &path))?;
                if stat.is_some_and(|stat| stat.kind == EntryKind::File) {
                    return Ok(Some(oid));
                }
            }
        }
        Ok(None)
    }
}
