//! Somebody with the rights of the server's user plants other things in the store: links, pipes, sockets, devices, directories. Nothing
//! is read through them, nothing is written or deleted behind them, nothing hangs, and without them everything works as before.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio_postgres::error::SqlState;

use crate::broken_store::{BrokenStore, as_root, text};
use crate::evidence::{Promise, proves_by_assertions};
use crate::session::Session;
use crate::store_files::StoreFiles;

/// What stands behind the links: as long as the payload that it pretends to be, and none of anybody's business.
const BEHIND: &str = "paswd";

/// Kinds of things.
#[derive(Clone, Copy, Debug)]
enum Plant {
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

const ALL: [Plant; 11] = [
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
    fn at(self, path: &Path, outside: &Path) {
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
struct Bed {
    store: BrokenStore,
    outside: PathBuf,
    /// The directory of the database.
    database: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let store = BrokenStore::whole();
        let outside = store.cluster.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), BEHIND).unwrap();
        for session in store.sessions() {
            // Whatever hangs ends here.
            session.run("set statement_timeout = '20s'");
        }
        let (oid, _) = StoreFiles::walk(&store.root).pop_first().unwrap();
        let database = store.root.join(oid.to_string());
        Self { store, outside, database }
    }

    /// Puts a thing in the place of what is there, runs `work`, and takes it away again.
    fn instead(&self, path: &Path, plant: Plant, work: impl FnOnce()) {
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
        if planted.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        if there {
            fs::rename(&away, path).unwrap();
        }
        self.assert_untouched(plant);
    }

    #[track_caller]
    fn assert_untouched(&self, plant: Plant) {
        assert_eq!(fs::read_to_string(self.outside.join("file")).unwrap(), BEHIND, "{plant:?}: written behind a link");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1, "{plant:?}: files made or moved behind a link");
    }
}

/// None of these statements answers with what it has not stored, and none takes longer than an error does.
#[track_caller]
fn assert_refused(session: &Session, statements: &[&str], plant: Plant) -> u64 {
    for sql in statements {
        match session.try_run(sql) {
            Ok(()) => {
                assert!(!session.text(sql).contains(BEHIND), "{plant:?}: {sql} reads what is behind");
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
                assert!(code.as_ref().is_some_and(|code| fitting.contains(code)), "{plant:?}: {sql}: {error:?}");
                assert!(!error.to_string().contains(BEHIND));
            }
        }
    }
    statements.len() as u64
}

const READS: &[&str] = &[
    "select convert_from(v, 'utf8') from t where id = 1",
    "select convert_from(substring(v from 1), 'utf8') from t where id = 1",
    "select convert_from(substring(v from 2 for 2), 'utf8') from t where id = 1",
    "select md5sum(v) from t where id = 1",
    "select sha256store(v) from t where id = 1",
    "create table u as select v from t where id = 1",
    "insert into t select 9, v from t where id = 1",
];

#[test]
fn in_place_of_a_payload() {
    let bed = Bed::new();
    let mut cases = 0;
    for plant in ALL {
        for session in bed.store.sessions() {
            let file = bed.store.file(session, "select uuid(v) from t where id = 1");
            bed.instead(&file, plant, || {
                for setting in ["on", "off"] {
                    session.run(&format!("set rbytea.verify_digest = {setting}"));
                    // Copying a row only looks whether there is a file; an empty one it would find.
                    let reads = if matches!(plant, Plant::EmptyFile) { &READS[..5] } else { READS };
                    cases += assert_refused(session, reads, plant);
                }
                session.run("set rbytea.verify_digest = on");
                assert_eq!(session.text("select convert_from(v, 'utf8') from t where id = 2"), "second", "{plant:?}");
                // The vacuum may say what it thinks of it. It must not move or delete what is behind.
                let _ = bed.store.superuser.try_run("select rvacuum()");
                let _ = bed.store.superuser.try_run("select * from rvacuum_plan()");
                let _ = bed.store.superuser.try_run("select * from rbytea_check()");
            });
        }
    }
    bed.store.assert_repaired();
    proves_by_assertions(Promise::BadInput, cases);
}

/// In the place of a directory of the store, or of OWNER.
#[test]
fn in_place_of_directories_and_of_owner() {
    let bed = Bed::new();
    let session = &bed.store.superuser;
    let file = bed.store.file(session, "select uuid(v) from t where id = 1");
    let leaf = file.parent().unwrap().to_owned();
    let range = leaf.parent().unwrap().to_owned();
    let mut cases = 0;
    for plant in ALL.into_iter().filter(|plant| !matches!(plant, Plant::Directory | Plant::FullDirectory)) {
        for directory in [&leaf, &range, &bed.database] {
            bed.instead(directory, plant, || {
                cases += assert_refused(session, READS, plant);
                if directory != &leaf {
                    cases += assert_refused(session, &["insert into t values (3, 'third')", "select rbytea_store('x')"], plant);
                }
                let _ = session.try_run("select rvacuum()");
                let _ = session.try_run("select * from rbytea_check()");
            });
        }
        bed.store.assert_repaired();
    }
    for plant in ALL {
        bed.instead(&bed.store.root.join("OWNER"), plant, || {
            let fresh = bed.store.cluster.session();
            fresh.run("set statement_timeout = '20s'");
            for sql in ["insert into t values (3, 'third')", "select rvacuum()", "select rbytea_adopt_store()"] {
                let error = fresh.error(sql);
                assert!(!format!("{error:?}").contains(BEHIND), "{plant:?}: {sql}: {error:?}");
                assert_ne!(*error.code(), SqlState::QUERY_CANCELED, "{plant:?}: {sql} hangs");
                assert_ne!(*error.code(), SqlState::INTERNAL_ERROR, "{plant:?}: {sql}: {error:?}");
                cases += 1;
            }
            assert_eq!(fresh.text("select convert_from(v, 'utf8') from t where id = 1"), "first", "{plant:?}: reading needs no OWNER");
        });
    }
    bed.store.assert_repaired();
    proves_by_assertions(Promise::BadInput, cases);
}

/// In the place of TRASH, and within it: nothing leaves the store through it.
#[test]
fn in_place_of_trash_and_in_it() {
    let bed = Bed::new();
    let session = &bed.store.superuser;
    let trash = bed.database.join("TRASH");
    let mut cases = 0;
    for plant in ALL.into_iter().filter(|plant| !matches!(plant, Plant::Directory | Plant::FullDirectory)) {
        session.run("insert into t values (7, 'seventh'); delete from t where id = 7");
        bed.instead(&trash, plant, || {
            for call in ["rvacuum()", "rvacuum_purge()"] {
                let error = session.error(&format!("select {call}"));
                assert_ne!(*error.code(), SqlState::QUERY_CANCELED, "{plant:?}: {call} hangs");
                assert_ne!(*error.code(), SqlState::INTERNAL_ERROR, "{plant:?}: {call}: {error:?}");
                cases += 1;
            }
        });
        bed.store.assert_repaired();
    }
    session.run("select rvacuum()");
    assert!(trash.is_dir());
    // Names of payloads and other names.
    let id = "00000000000002ff-0f9dd2f9-1c4c-4b8e-a3b0-0d9a70e6dd55";
    for plant in ALL {
        for name in [id, "x", "..."] {
            bed.instead(&trash.join(name), plant, || {
                for call in ["select rvacuum()", "select rvacuum_purge()", "select * from rbytea_check()"] {
                    if let Err(error) = session.try_run(call) {
                        assert_ne!(error.code(), Some(&SqlState::QUERY_CANCELED), "{plant:?}: {call} hangs");
                        assert_ne!(error.code(), Some(&SqlState::INTERNAL_ERROR), "{plant:?}: {call}: {error:?}");
                    }
                    cases += 1;
                }
                // An empty file under a payload's name is a payload that nothing refers to.
                if matches!(plant, Plant::EmptyFile) && !trash.join(name).exists() {
                    plant.at(&trash.join(name), &bed.outside);
                }
            });
        }
    }
    bed.store.assert_repaired();
    proves_by_assertions(Promise::BadInput, cases);
}

/// A second name of a file outside: it is not what was stored, and the vacuum does not write to it.
#[test]
fn hard_links() {
    let bed = Bed::new();
    // Otherwise the server cannot even give it a date.
    as_root("chown", &["--reference", text(&bed.store.root), text(&bed.outside.join("file"))]);
    let mut cases = 0;
    for session in bed.store.sessions() {
        let file = bed.store.file(session, "select uuid(v) from t where id = 1");
        let away = bed.store.cluster.dir().join("away");
        fs::rename(&file, &away).unwrap();
        fs::hard_link(bed.outside.join("file"), &file).unwrap();
        cases += assert_refused(session, &[READS[0], READS[3], "select sha256sum(v) from t where id = 1"], Plant::AbsoluteLink);
        session.run("delete from t where id = 1");
        bed.store.superuser.run("select rvacuum()");
        bed.store.superuser.run("select rvacuum_purge()");
        bed.assert_untouched(Plant::AbsoluteLink);
        session.run("insert into t values (1, 'first')");
        fs::remove_file(&away).unwrap();
    }
    bed.store.assert_repaired();
    proves_by_assertions(Promise::BadInput, cases);
}
