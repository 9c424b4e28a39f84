//! The list of roots that a cluster has written to: a missing store is noticed when its root is now another directory.

use crate::support::{COPY, THEM, US, commit, config, names, open, read};
use rbytea_memfs::{EIO, MemFs, Op};
use rbytea_store::file::fs::Fs;
use rbytea_store::{Backend, Config, Error, FileStore, Kind, Rights, RootRegistry, Writer};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const LIST: &str = "rbytea.stores";

/// A data directory, and a root that may be a mount point.
struct Cluster {
    dir: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(LIST)
    }

    fn registry(&self, root: &Path) -> Option<RootRegistry> {
        Some(RootRegistry {
            directory: self.dir.path().into(),
            file: LIST,
            rights: Rights::Private,
            root: root.into(),
        })
    }

    fn store(&self) -> FileStore {
        open(Config { registry: self.registry(&self.root()), ..config(&self.root()) }).unwrap()
    }

    /// Puts an empty directory in the place of the root.
    fn unmount(&self) {
        fs::rename(self.root(), self.dir.path().join("mounted")).unwrap();
        fs::create_dir(self.root()).unwrap();
    }

    fn mount(&self) {
        fs::remove_dir_all(self.root()).unwrap();
        fs::rename(self.dir.path().join("mounted"), self.root()).unwrap();
    }
}

#[track_caller]
fn is_missing<T: std::fmt::Debug>(result: Result<T, Error>, cluster: &Cluster) {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::StoreMissing { path } if *path == cluster.root()), "{error:?}");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.hint().unwrap().contains("mounted"));
}

#[test]
fn a_missing_store_is_not_written_to() {
    let cluster = Cluster::new();
    let payload = commit(&cluster.store(), 1, b"before");
    cluster.unmount();
    for _ in 0..2 {
        is_missing(Writer::begin(&cluster.store(), 2, None).map(drop), &cluster);
        is_missing(cluster.store().clone_database(5, &mut |_| ()).map(|cloned| cloned.present), &cluster);
        is_missing(cluster.store().check_owner(), &cluster);
        is_missing(cluster.store().check_present(), &cluster);
    }
    assert_eq!(names(cluster.store().fs(), ""), [""; 0], "what was written here would be gone later");
    cluster.mount();
    cluster.store().check_owner().unwrap();
    assert_eq!(read(&cluster.store(), &payload).unwrap(), b"before");
    commit(&cluster.store(), 2, b"after");
}

#[test]
fn a_process_that_has_written_before_notices_the_missing_store() {
    let cluster = Cluster::new();
    let store = cluster.store();
    commit(&store, 1, b"before");
    let cache = store.into_cache();
    cluster.unmount();
    is_missing(Writer::begin(&cluster.store().with_cache(cache), 2, None).map(drop), &cluster);
}

#[test]
fn adopting_a_missing_store_creates_it_anew() {
    let cluster = Cluster::new();
    commit(&cluster.store(), 1, b"left behind");
    cluster.unmount();
    assert_eq!(cluster.store().adopt().unwrap(), None);
    let payload = commit(&cluster.store(), 2, b"after");
    assert_eq!(read(&cluster.store(), &payload).unwrap(), b"after");
    assert_eq!(cluster.store().owner().unwrap(), Some(US));
}

#[test]
fn another_root_is_another_store() {
    let cluster = Cluster::new();
    commit(&cluster.store(), 1, b"here");
    let elsewhere = cluster.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let moved = || open(Config { registry: cluster.registry(&elsewhere), ..config(&elsewhere) }).unwrap();
    commit(&moved(), 1, b"there");
    fs::remove_file(elsewhere.join("OWNER")).unwrap();
    assert!(
        matches!(Writer::begin(&moved(), 2, None), Err(Error::StoreMissing { path }) if path == elsewhere)
    );
    commit(&cluster.store(), 2, b"both are remembered");
    fs::remove_file(cluster.root().join("OWNER")).unwrap();
    is_missing(Writer::begin(&cluster.store(), 3, None).map(drop), &cluster);
}

#[test]
fn the_first_write_to_an_existing_store_registers_its_root() {
    let cluster = Cluster::new();
    commit(&open(config(&cluster.root())).unwrap(), 1, b"of another data directory");
    let store = |owner| {
        let registry = cluster.registry(&cluster.root());
        open(Config { registry, owner, ..config(&cluster.root()) }).unwrap()
    };
    assert!(Writer::begin(&store(THEM), 1, None).is_err());
    assert!(!cluster.file().exists(), "another cluster has written nothing");
    commit(&store(COPY), 1, b"x");
    cluster.unmount();
    is_missing(Writer::begin(&cluster.store(), 2, None).map(drop), &cluster);
}

#[test]
fn checks_register_nothing() {
    let cluster = Cluster::new();
    let store = cluster.store();
    store.check_owner().unwrap();
    store.check_present().unwrap();
    assert!(!cluster.file().exists());
}

#[test]
fn the_list_is_private_and_written_whole() {
    let cluster = Cluster::new();
    for _ in 0..2 {
        commit(&cluster.store(), 1, b"x");
        let json: Vec<PathBuf> = serde_json::from_slice(&fs::read(cluster.file()).unwrap()).unwrap();
        assert_eq!(json, [cluster.root()]);
    }
    assert_eq!(fs::metadata(cluster.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(cluster.dir.path()).unwrap().count(), 2, "the list and the root");
}

#[test]
fn a_damaged_list_is_an_error_only_where_the_store_may_be_missing() {
    let cluster = Cluster::new();
    let payload = commit(&cluster.store(), 1, b"x");
    fs::write(cluster.file(), b"[\"").unwrap();
    assert_eq!(read(&cluster.store(), &payload).unwrap(), b"x");
    cluster.unmount();
    let error = Writer::begin(&cluster.store(), 2, None).map(drop).unwrap_err();
    assert!(matches!(error, Error::RegistryCorrupt { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Corrupted);
    cluster.mount();
    commit(&cluster.store(), 2, b"the list is written anew");
    cluster.unmount();
    is_missing(Writer::begin(&cluster.store(), 3, None).map(drop), &cluster);
}

#[test]
fn a_list_that_is_a_symbolic_link_is_read() {
    let cluster = Cluster::new();
    commit(&cluster.store(), 1, b"x");
    let moved = cluster.dir.path().join("moved");
    fs::rename(cluster.file(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, cluster.file()).unwrap();
    assert!(cluster.registry(&cluster.root()).unwrap().contains().unwrap());
    commit(&cluster.store(), 2, b"the root is in the list");
}

#[test]
fn an_error_about_the_list_names_the_list_alone() {
    let cluster = Cluster::new();
    let registry = cluster.registry(&cluster.root()).unwrap();
    fs::create_dir(cluster.file()).unwrap();
    let missing = RootRegistry { directory: cluster.dir.path().join("missing"), ..registry.clone() };
    for registry in [registry, missing] {
        let error = registry.contains().unwrap_err();
        assert_eq!(error.path(), Some(Path::new(LIST)), "{error}");
    }
}

/// OWNER is missing at the first lookup, and then another backend writes it and registers the root.
#[test]
fn a_store_that_another_backend_is_creating_is_not_missing() {
    let cluster = Cluster::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        commit(&cluster.store(), 1, b"x");
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            cluster.store().check_present().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

#[test]
fn the_owner_is_durable_before_the_root_is_registered() {
    let fs = MemFs::new();
    let registry =
        RootRegistry { directory: "/data".into(), file: LIST, rights: Rights::Private, root: "root".into() };
    let store = |fs: &MemFs| {
        let config = Config { registry: Some(registry.clone()), ..config(Fs::root(fs)) };
        FileStore::with_fs(fs.clone(), config)
    };
    // OWNER is renamed and its directory not synced, as when another process has got so far.
    fs.fail(Op::SyncDir, 1, EIO);
    Writer::begin(&store(&fs), 1, None).map(drop).unwrap_err();
    assert!(!registry.contains_on(&fs).unwrap());
    fs.heal();
    Writer::begin(&store(&fs), 1, None).map(drop).unwrap();
    assert!(registry.contains_on(&fs.after_crash()).unwrap());
    Writer::begin(&store(&fs.after_crash()), 2, None).map(drop).unwrap();
}

#[test]
fn roots_that_are_not_utf8_are_distinguished() {
    use std::os::unix::ffi::OsStrExt;
    let cluster = Cluster::new();
    let roots = [&b"caf\xe9"[..], b"caf\xe8", b"caf\\xE9"]
        .map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)));
    for (index, root) in roots.iter().enumerate() {
        let registry = cluster.registry(root).unwrap();
        assert!(!registry.contains().unwrap(), "{index}");
        registry.add(cluster.store().fs(), true).unwrap();
        assert!(registry.contains().unwrap());
    }
}
