//! Things planted in TRASH or in its place, and second names of files outside: the vacuum moves and deletes nothing but what is its own.

use std::fs;

use tokio_postgres::error::SqlState;

use crate::bad_input::planting::{ALL, Bed, Plant, READS, assert_refused};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::broken_store::{as_root, text};

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
                        assert_ne!(
                            error.code(),
                            Some(&SqlState::INTERNAL_ERROR),
                            "{plant:?}: {call}: {error:?}"
                        );
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
        cases += assert_refused(
            session,
            &[READS[0], READS[3], "select sha256sum(v) from t where id = 1"],
            Plant::AbsoluteLink,
        );
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
