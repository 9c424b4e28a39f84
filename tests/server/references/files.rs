//! Files of the server for the tests of rbytea_import() and rbytea_export().

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::support::broken_store::own;
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::volumes::{Kind, Volume};

/// A directory of the server's user, in that of the cluster.
pub fn own_directory(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.dir().join(name);
    own(cluster, &path, |path| fs::create_dir(path));
    path
}

/// A file of the server's user with these bytes.
pub fn file(cluster: &Cluster, path: &Path, bytes: &[u8]) {
    own(cluster, path, |path| fs::write(path, bytes));
}

/// The names in a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An SQL literal of a path.
pub fn literal(path: &Path) -> String {
    format!("'{}'", path.to_str().unwrap().replace('\'', "''"))
}

/// A cluster whose store is on an XFS, where files share blocks; its database `source` has the extension. Files of the tests go to `files`
/// beside the store.
pub struct OnXfs {
    /// The cluster is stopped before the file system goes.
    pub cluster: Cluster,
    pub volume: Volume,
    /// Where it is mounted.
    pub at: PathBuf,
}

impl OnXfs {
    pub fn new(conf: &[&str]) -> Self {
        let mut cluster = Cluster::stopped_with(conf);
        let at = cluster.dir().join("xfs");
        own(&cluster, &at, |at| fs::create_dir(at));
        let volume = Volume::mounted(Kind::Xfs, &at, 512 << 20, None);
        own(&cluster, &at, |_| Ok(()));
        for name in ["store", "files"] {
            own(&cluster, &at.join(name), |path| fs::create_dir(path));
        }
        cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", at.join("store").display()));
        cluster.start();
        Self { cluster, volume, at }
    }

    /// The path of a file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.at.join("files").join(name)
    }

    /// A file of so many bytes that takes no space, an expression that imports it.
    pub fn sparse(&self, len: u64) -> String {
        let path = self.file(&format!("sparse{len}"));
        own(&self.cluster, &path, |path| File::create(path)?.set_len(len));
        format!("rbytea_import({})", literal(&path))
    }

    /// Where the payloads of the session's database are.
    pub fn directory(&self, db: &Session) -> PathBuf {
        self.at.join("store").join(db.database().to_string())
    }
}
