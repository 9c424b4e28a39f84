//! The vacuum on a store that is broken: each run ends with an error that says what is wrong, nothing is moved and nothing that
//! was not due is deleted (I10), and when the fault is gone the next run does its work.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tokio_postgres::error::SqlState;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::{BrokenStore, as_root, text};
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::store_files::StoreFiles;
use crate::support::volumes::Kind;

/// Rows to keep (1 to 10), garbage in LIVE, and files in TRASH that are due.
fn prepare(store: &BrokenStore) {
    store.cluster.set_conf("rbytea.trash_retention = 0");
    store.cluster.reload();
    acknowledged::prepare(&store.superuser);
    make_garbage(&store.superuser);
}

fn make_garbage(db: &crate::support::session::Session) {
    db.run(
        "insert into twins select n, payload(n), payload(n) from generate_series(1, 30) n on conflict do nothing",
    );
    db.run("delete from twins where n > 20");
    db.run("select rvacuum()");
    db.run("delete from twins where n > 10");
}

/// What there is in LIVE, and in LIVE or TRASH.
fn files(root: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut live, mut all) = (BTreeSet::new(), BTreeSet::new());
    for files in StoreFiles::walk(root).into_values() {
        live.extend(files.live.iter().cloned());
        all.extend(files.live.into_iter().chain(files.trash));
    }
    (live, all)
}

/// What a fault leaves of a run.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// Nothing.
    Everything,
    /// The purge, which comes first and can do its work.
    Moves,
}

/// A fault, and how it is repaired.
struct Fault<'a> {
    what: &'a str,
    code: SqlState,
    before: Before,
    make: &'a dyn Fn(),
    repair: &'a dyn Fn(),
}

/// Each run fails with the fault and works without it.
fn assert_runs_fail(store: &BrokenStore, faults: &[Fault<'_>]) -> Found {
    let db = &store.superuser;
    let mut sum = Found::default();
    for Fault { what, code, before, make, repair } in faults {
        let (live, all) = files(&store.root);
        for call in ["select rvacuum()", "select rvacuum_purge()"] {
            make();
            let outcome = db.try_run(call);
            repair();
            let error = outcome.expect_err(&format!("{what}: {call} has noticed nothing"));
            assert_eq!(error.code(), Some(code), "{what}: {call}: {error:?}");
            let (live_then, all_then) = files(&store.root);
            assert_eq!(live_then, live, "{what}: {call} has moved files");
            if *before == Before::Everything {
                assert_eq!(all_then, all, "{what}: {call} has deleted files");
            }
        }
        let found = acknowledged::judge(db, &store.root, &(1..=10).collect());
        sum.add(Found { cases: 2, ..found });
        make_garbage(db);
    }
    store.assert_repaired();
    sum
}

#[test]
fn nothing_is_moved_while_the_root_is_not_what_it_was() {
    let store = BrokenStore::whole();
    prepare(&store);
    let (root, away) = (&store.root, &store.cluster.dir().join("away"));
    let hide = || fs::rename(root, away).unwrap();
    let uid = store.cluster.installation().server_user.map_or(0, |(uid, _)| uid).to_string();
    let found = assert_runs_fail(
        &store,
        &[
            Fault {
                what: "no root",
                code: SqlState::CONFIG_FILE_ERROR,
                before: Before::Everything,
                make: &hide,
                repair: &|| fs::rename(away, root).unwrap(),
            },
            Fault {
                what: "a file in its place",
                code: SqlState::CONFIG_FILE_ERROR,
                before: Before::Everything,
                make: &|| {
                    hide();
                    fs::write(root, "").unwrap();
                },
                repair: &|| {
                    fs::remove_file(root).unwrap();
                    fs::rename(away, root).unwrap();
                },
            },
            Fault {
                what: "a link to nowhere",
                code: SqlState::CONFIG_FILE_ERROR,
                before: Before::Everything,
                make: &|| {
                    hide();
                    symlink("nowhere", root).unwrap();
                },
                repair: &|| {
                    fs::remove_file(root).unwrap();
                    fs::rename(away, root).unwrap();
                },
            },
            Fault {
                what: "an empty directory",
                code: SqlState::CONFIG_FILE_ERROR,
                before: Before::Everything,
                make: &|| {
                    hide();
                    fs::create_dir(root).unwrap();
                    store.own();
                },
                repair: &|| {
                    fs::remove_dir_all(root).unwrap();
                    fs::rename(away, root).unwrap();
                },
            },
            Fault {
                what: "another user's directory",
                code: SqlState::CONFIG_FILE_ERROR,
                before: Before::Everything,
                make: &|| as_root("chown", &["65534", text(root)]),
                repair: &|| as_root("chown", &[&uid, text(root)]),
            },
            Fault {
                what: "a directory without any right",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| fs::set_permissions(root, Permissions::from_mode(0o000)).unwrap(),
                repair: &|| fs::set_permissions(root, Permissions::from_mode(0o700)).unwrap(),
            },
        ],
    );
    proves(Promise::ErrorsLoseNothing, found);
}

#[test]
fn nothing_is_moved_in_directories_that_cannot_be_read_or_changed() {
    let store = BrokenStore::on(Kind::Ext4, 8 << 20, None);
    prepare(&store);
    let db = &store.superuser;
    let database = store.root.join(
        db.one::<u32>("select oid from pg_database where datname = current_database()", &[]).to_string(),
    );
    let trash = database.join("TRASH");
    let era = database.join("000000000000");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    // Not recursively: a file that cannot be changed could be moved all the same.
    let attribute = |change: &str| {
        let mut leaves: Vec<String> =
            fs::read_dir(&era).unwrap().map(|leaf| text(&leaf.unwrap().path()).to_owned()).collect();
        leaves.push(text(&trash).to_owned());
        let mut args = vec![change];
        args.extend(leaves.iter().map(String::as_str));
        as_root("chattr", &args);
    };
    let found = assert_runs_fail(
        &store,
        &[
            Fault {
                what: "read-only",
                code: SqlState::IO_ERROR,
                before: Before::Everything,
                make: &|| store.remount("ro"),
                repair: &|| store.remount("rw"),
            },
            Fault {
                what: "immutable directories",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| attribute("+i"),
                repair: &|| attribute("-i"),
            },
            Fault {
                what: "directories that only grow",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| attribute("+a"),
                repair: &|| attribute("-a"),
            },
            Fault {
                what: "a database that cannot be listed",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| mode(&database, 0o300),
                repair: &|| mode(&database, 0o700),
            },
            Fault {
                what: "a range of transactions that cannot be listed",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| mode(&era, 0o300),
                repair: &|| mode(&era, 0o700),
            },
            Fault {
                what: "a range of transactions that cannot be entered",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| mode(&era, 0o600),
                repair: &|| mode(&era, 0o700),
            },
            Fault {
                what: "a TRASH that cannot be listed",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| mode(&trash, 0o300),
                repair: &|| mode(&trash, 0o700),
            },
            Fault {
                what: "a TRASH that takes nothing and gives nothing",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Everything,
                make: &|| mode(&trash, 0o500),
                repair: &|| mode(&trash, 0o700),
            },
            Fault {
                what: "leaves that give nothing",
                code: SqlState::INSUFFICIENT_PRIVILEGE,
                before: Before::Moves,
                make: &|| {
                    for leaf in fs::read_dir(&era).unwrap() {
                        mode(&leaf.unwrap().path(), 0o500);
                    }
                },
                repair: &|| {
                    for leaf in fs::read_dir(&era).unwrap() {
                        mode(&leaf.unwrap().path(), 0o700);
                    }
                },
            },
        ],
    );
    proves(Promise::ErrorsLoseNothing, found);
}
