//! Things to plant in a store, and what has to be refused then.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio_postgres::error::SqlState;

use crate::support::broken_store::{BrokenStore, as_root, text};
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;

/// What the links lead to: a file outside of the store, as long as the payload that it pretends to be.
pub const BEHIND: &str = "paswd";

/// Kinds of things.
#[derive(Clone, Copy, Debug)]
pub enum Plant {
    AbsoluteLink,
    RelativeLink,
    LinkToNowhere,
    LinkToItself,
    LinkToDirectory,
    Fifo,
    Socket,
    Device,
    Directory,
    FullDirectory,
    EmptyFile,
}

pub const ALL: [Plant; 11] = [
    Plant::AbsoluteLink,
    Plant::RelativeLink,
    Plant::LinkToNowhere,
    Plant::LinkToItself,
    Plant::LinkToDirectory,
    Plant::Fifo,
    Plant::Socket,
    Plant::Device,
    Plant::Directory,
    Plant::FullDirectory,
    Plant::EmptyFile,
];

impl Plant {
    /// At this path, with `outside` as the directory that links lead to.
    pub fn at(self, path: &Path, outside: &Path) {
        match self {
            Self::AbsoluteLink => symlink(outside.join("file"), path).unwrap(),
            Self::RelativeLink => {
                let up = path.components().count() - outside.components().count();
                let relative: PathBuf = std::iter::repeat_n("..", up).collect();
                symlink(relative.join("outside/file"), path).unwrap();
                assert_eq!(fs::read_to_string(path).unwrap(), BEHIND, "the link leads nowhere");
            }
            Self::LinkToNowhere => symlink(outside.join("nowhere"), path).unwrap(),
            Self::LinkToItself => symlink(path.file_name().unwrap(), path).unwrap(),
            Self::LinkToDirectory => symlink(outside, path).unwrap(),
            Self::Fifo => as_root("mkfifo", &[text(path)]),
            Self::Socket => drop(UnixListener::bind(path).unwrap()),
            Self::Device => as_root("mknod", &[text(path), "c", "1", "5"]),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::FullDirectory => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("file"), BEHIND).unwrap();
            }
            Self::EmptyFile => fs::write(path, "").unwrap(),
        }
    }
}

/// A store beside a directory of other files.
pub struct Bed {
    pub store: BrokenStore,
    /// That directory.
    pub outside: PathBuf,
    /// The directory of the database.
    pub database: PathBuf,
}

impl Bed {
    pub fn new() -> Self {
        let store = BrokenStore::whole();
        let outside = store.cluster.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), BEHIND).unwrap();
        for session in store.sessions() {
            // A statement that hangs is cancelled here.
            session.run("set statement_timeout = '120s'");
        }
        let (oid, _) = StoreFiles::walk(&store.root).pop_first().unwrap();
        let database = store.root.join(oid.to_string());
        Self { store, outside, database }
    }

    /// Puts a thing in the place of what is there, runs `work`, and takes it away again.
    pub fn instead(&self, path: &Path, plant: Plant, work: impl FnOnce()) {
        // Out of sight of the store.
        let away = self.store.cluster.dir().join("away");
        let there = path.symlink_metadata().is_ok();
        if there {
            fs::rename(path, &away).unwrap();
        }
        plant.at(path, &self.outside);
        as_root("chown", &["-h", "--reference", text(&self.store.root), text(path)]);
        work();
        let planted = path.symlink_metadata().unwrap_or_else(|error| panic!("{plant:?} is gone: {error}"));
        if planted.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        if there {
            fs::rename(&away, path).unwrap();
        }
        self.assert_untouched(plant);
    }

    #[track_caller]
    pub fn assert_untouched(&self, plant: Plant) {
        assert_eq!(
            fs::read_to_string(self.outside.join("file")).unwrap(),
            BEHIND,
            "{plant:?}: written behind a link"
        );
        assert_eq!(
            fs::read_dir(&self.outside).unwrap().count(),
            1,
            "{plant:?}: files made or moved behind a link"
        );
    }
}

/// None of these statements answers with what it has not stored, and none takes longer than an error does.
#[track_caller]
pub fn assert_refused(session: &Session, statements: &[&str], plant: Plant) -> u64 {
    for sql in statements {
        match session.try_run(sql) {
            Ok(()) => {
                assert!(
                    !session.text(sql).contains(BEHIND),
                    "{plant:?}: {sql} reads the file that the link leads to"
                );
                panic!("{plant:?}: no error from {sql}");
            }
            Err(error) => {
                let code = error.code().cloned();
                let fitting = [
                    SqlState::IO_ERROR,
                    SqlState::DATA_CORRUPTED,
                    SqlState::UNDEFINED_FILE,
                    SqlState::CONFIG_FILE_ERROR,
                ];
                assert!(
                    code.as_ref().is_some_and(|code| fitting.contains(code)),
                    "{plant:?}: {sql}: {error:?}"
                );
                assert!(!error.to_string().contains(BEHIND));
            }
        }
    }
    statements.len() as u64
}

/// Ways to read the row 1.
pub const READS: &[&str] = &[
    "select convert_from(v, 'utf8') from t where id = 1",
    "select convert_from(substring(v from 1), 'utf8') from t where id = 1",
    "select convert_from(substring(v from 2 for 2), 'utf8') from t where id = 1",
    "select md5sum(v) from t where id = 1",
    "select sha256store(v) from t where id = 1",
    "create table u as select v from t where id = 1",
    "insert into t select 9, v from t where id = 1",
];
