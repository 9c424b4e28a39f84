//! A cluster with a table for files, and files for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::cluster::Cluster;
use crate::support::twins::noise;

/// What a command for the table `files` begins with.
pub const PUT: [&str; 7] = ["put", "--table", "files", "--column", "content", "--name-column", "name"];

/// The same for `get`.
pub const GET: [&str; 7] = ["get", "--table", "files", "--column", "content", "--name-column", "name"];

/// The same without names.
pub const PUT_UNNAMED: [&str; 5] = ["put", "-t", "files", "-c", "content"];

/// A running server whose database has the extension and the empty table `files (id, name, kind, content)`.
pub fn cluster_with_files() -> Cluster {
    let cluster = Cluster::with_extension();
    cluster.session().run(
        "create table files (id bigint generated always as identity primary key, name text, kind text default 'none', content rbytea)",
    );
    cluster
}

/// Names with directories, blanks and quotes, and payloads of none to more than one piece.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let sizes = [0, 1, 4096, 300_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000];
    let names = ["empty", "a/one", "a/b/Zwölf ж", "it's \"odd\" \\", "-dash", "z/full", "z/over", "z/more"];
    let files: BTreeMap<_, _> =
        names.iter().zip(sizes).map(|(name, size)| ((*name).to_owned(), noise(size, size as u64))).collect();
    for (name, bytes) in &files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    files
}

/// The files below a directory, with what they have.
pub fn read_tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}
