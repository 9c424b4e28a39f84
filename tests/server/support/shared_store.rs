//! A primary whose store lies outside of its data directory, at an absolute path, so that its standbys and copies use the same.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;

/// A running primary with the table `t (n int primary key, r rbytea)`, and the root of its store.
pub fn primary(conf: &[&str]) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::stopped_with(conf);
    let root = cluster.dir().join("store");
    fs::create_dir(&root).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        chown(&root, Some(uid), Some(gid)).unwrap();
    }
    cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", root.display()));
    cluster.start();
    cluster.session().run("create extension rbytea; create table t (n int primary key, r rbytea)");
    (cluster, root)
}

/// Everything below a directory: what it is, its mode, owner, inode, size and dates of last change, and the digest of its content.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let digest =
            if about.is_file() { blake3::hash(&fs::read(&path).unwrap()).to_string() } else { String::new() };
        let dates = (about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec());
        let shown =
            format!("{:o} {} {} {} {dates:?} {digest}", about.mode(), about.uid(), about.ino(), about.len());
        if about.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, shown);
    }
    all
}

/// LIVE and TRASH of all databases together.
pub fn counts(root: &Path) -> (usize, usize) {
    let files = StoreFiles::walk(root).into_values();
    files.fold((0, 0), |(live, trash), files| (live + files.live.len(), trash + files.trash.len()))
}

/// Waits until a standby of whatever degree has replayed what this primary has written.
#[track_caller]
pub fn replayed(primary: &Session, standby: &Session) {
    let now: String = primary.one("select pg_current_wal_lsn()::text", &[]);
    let replayed = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    wait_until(PATIENCE, || standby.one(replayed, &[&now]));
}
