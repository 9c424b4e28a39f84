//! A process with the rights of the server's user puts other things into the store: links, pipes, sockets, devices, directories. Nothing
//! is read through them, nothing is written or deleted behind them, nothing hangs, and without them everything works as before.

use tokio_postgres::error::SqlState;

use crate::bad_input::planting::{ALL, BEHIND, Bed, Plant, READS, assert_refused};
use crate::evidence::{Promise, proves_by_assertions};

#[test]
fn in_place_of_a_payload() {
    let bed = Bed::new();
    let mut cases = 0;
    for plant in ALL {
        for session in bed.store.sessions() {
            let file = bed.store.file(session, "select uuid(v) from t where id = 1");
            bed.instead(&file, plant, || {
                for setting in ["checksum", "digest", "off"] {
                    session.run(&format!("set rbytea.verify = {setting}"));
                    // Copying a row only looks whether there is a file; an empty one it would find.
                    let reads = if matches!(plant, Plant::EmptyFile) { &READS[..5] } else { READS };
                    cases += assert_refused(session, reads, plant);
                }
                session.run("reset rbytea.verify");
                assert_eq!(
                    session.text("select convert_from(v, 'utf8') from t where id = 2"),
                    "second",
                    "{plant:?}"
                );
                // The vacuum may warn of it. It must not move or delete what the link leads to.
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
                    cases += assert_refused(
                        session,
                        &["insert into t values (3, 'third')", "select rbytea_store('x')"],
                        plant,
                    );
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
            fresh.run("set statement_timeout = '120s'");
            for sql in
                ["insert into t values (3, 'third')", "select rvacuum()", "select rbytea_adopt_store()"]
            {
                let error = fresh.error(sql);
                assert!(!format!("{error:?}").contains(BEHIND), "{plant:?}: {sql}: {error:?}");
                assert_ne!(*error.code(), SqlState::QUERY_CANCELED, "{plant:?}: {sql} hangs");
                assert_ne!(*error.code(), SqlState::INTERNAL_ERROR, "{plant:?}: {sql}: {error:?}");
                cases += 1;
            }
            assert_eq!(
                fresh.text("select convert_from(v, 'utf8') from t where id = 1"),
                "first",
                "{plant:?}: reading needs no OWNER"
            );
        });
    }
    bed.store.assert_repaired();
    proves_by_assertions(Promise::BadInput, cases);
}
