//! A store beside the rows: which payloads have their file in its place, and what there is besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::references::uuids;
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::name;

/// The directories of some databases beside the references of their rows.
#[derive(Debug, Default)]
pub struct Disk {
    /// The number of payloads that rows refer to.
    pub needed: u64,
    /// Payloads that rows refer to and that are neither in LIVE nor in TRASH.
    pub nowhere: Vec<String>,
    /// Payloads that rows refer to and that are in TRASH alone.
    pub displaced: Vec<String>,
    /// Files in LIVE that no row refers to.
    pub garbage: Vec<PathBuf>,
    /// Files in TRASH that no row refers to.
    pub trash: Vec<PathBuf>,
    /// What has the name of no payload or lies in the wrong place, in the directories of these databases.
    pub strays: Vec<PathBuf>,
    /// What the root has besides OWNER, these directories, and what comes with a file system of its own.
    pub others: Vec<PathBuf>,
}

impl Disk {
    /// Looks at the databases of these sessions.
    #[track_caller]
    pub fn of(root: &Path, sessions: &[&Session]) -> Self {
        Self::compare(root, &sessions.iter().map(|db| (db.database(), uuids(db))).collect())
    }

    /// Looks at these databases, whose rows refer to these payloads.
    pub fn compare(root: &Path, references: &BTreeMap<u32, BTreeSet<String>>) -> Self {
        let mut disk = Self::default();
        let mut all = StoreFiles::walk(root);
        for (oid, needed) in references {
            let StoreFiles { live, trash, strays } = all.remove(oid).unwrap_or_default();
            let named = |files: &[PathBuf]| files.iter().map(|file| name(file)).collect::<BTreeSet<_>>();
            let (in_live, in_trash) = (named(&live), named(&trash));
            let unneeded =
                |files: Vec<PathBuf>| files.into_iter().filter(|file| !needed.contains(&name(file)));
            disk.needed += needed.len() as u64;
            let missing: Vec<String> = needed.difference(&in_live).cloned().collect();
            let (displaced, nowhere): (Vec<_>, Vec<_>) =
                missing.into_iter().partition(|uuid| in_trash.contains(uuid));
            disk.displaced.extend(displaced);
            disk.nowhere.extend(nowhere);
            disk.garbage.extend(unneeded(live));
            disk.trash.extend(unneeded(trash));
            disk.strays.extend(strays);
        }
        let of_databases = |name: &str| name.parse().is_ok_and(|oid| references.contains_key(&oid));
        disk.others = entries(root)
            .into_iter()
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                !["OWNER", "lost+found"].contains(&name) && !of_databases(name)
            })
            .collect();
        disk
    }

    /// Payloads that rows refer to and that are not in their place in LIVE.
    pub fn missing(&self) -> Vec<&String> {
        self.nowhere.iter().chain(&self.displaced).collect()
    }
}

/// Paths in a directory; one that does not exist has none.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Uses up transaction ids until every file was born before all transactions: those that a crash or a restore has undone are given out
/// again, and until then the files of the time before are young. Returns the last birth.
pub fn outlive_births(root: &Path, db: &Session) -> u64 {
    let birth = |file: PathBuf| u64::from_str_radix(file.file_name()?.to_str()?.get(..16)?, 16).ok();
    let live = StoreFiles::walk(root).into_values().flat_map(|files| files.live);
    let last = live.filter_map(birth).max().unwrap_or_default();
    db.run(&format!(
        "do $$ begin
             while pg_current_xact_id() <= '{last}'::xid8 loop commit; end loop;
         end $$"
    ));
    last
}

/// Vacuums the session's database; the number of its files in LIVE that no row refers to then.
#[track_caller]
pub fn garbage_after_vacuum(root: &Path, db: &Session) -> u64 {
    db.run("select rvacuum()");
    Disk::of(root, &[db]).garbage.len() as u64
}
