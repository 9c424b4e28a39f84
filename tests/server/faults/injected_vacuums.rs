//! Every system call of the vacuum fails, one at a time, in a backend of a real server: the run ends with an error, nothing that
//! is needed is moved or deleted, and the next run does its work.

use std::fs;

use crate::evidence::{Promise, proves};
use crate::faults::bed::{Bed, CALLS, SHARED_CALLS, Scenario, insert};
use crate::support::store_files::StoreFiles;
use crate::support::volumes::Kind;

/// A run makes TRASH, and opens the directory of the database `postgres` for that, whether it needs it or not.
const TRASH_IN_ADVANCE: &[&str] =
    &["\"TRASH\", 0700", "\"5\", {flags=O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH|O_DIRECTORY,"];

fn run(kind: Kind, scenario: &Scenario<'_>) {
    let mut bed = Bed::on(kind);
    bed.run(scenario, CALLS, false);
    bed.run(scenario, SHARED_CALLS, true);
    proves(Promise::ErrorsLoseNothing, bed.found());
}

/// Garbage in LIVE, and in TRASH what is due.
fn make_garbage(bed: &mut Bed, moved: i32, lying: i32) {
    for (rows, vacuum) in
        [(moved, "select rvacuum()"), (lying, "select 1")].into_iter().filter(|(rows, _)| *rows > 0)
    {
        let numbers = bed.take(rows);
        bed.db().run(&insert(&numbers));
        bed.db().run(&format!("delete from twins where n >= {}", numbers.start));
        bed.db().run(vacuum);
    }
}

#[test]
fn every_failing_call_of_a_vacuum() {
    let scenario = Scenario {
        name: "vacuum",
        begin: &|bed| {
            make_garbage(bed, 2, 2);
            "select rvacuum()".into()
        },
        end: &|_, _| (),
        tolerates: TRASH_IN_ADVANCE,
    };
    run(Kind::Tmpfs, &scenario);
}

/// One syncfs for all moves.
#[test]
fn every_failing_call_of_a_vacuum_of_many_directories() {
    let scenario = Scenario {
        name: "vacuum of many",
        begin: &|bed| {
            make_garbage(bed, 0, 12);
            // As before the first run of all, except after a case that has left something there.
            let trash = bed
                .store
                .root
                .join(bed.db().text("select oid from pg_database where datname = 'postgres'"))
                .join("TRASH");
            let _ = fs::remove_dir(trash);
            "select rvacuum()".into()
        },
        end: &|_, _| (),
        tolerates: TRASH_IN_ADVANCE,
    };
    run(Kind::Ext4, &scenario);
}

#[test]
fn every_failing_call_of_a_purge() {
    let scenario = Scenario {
        name: "purge",
        begin: &|bed| {
            make_garbage(bed, 3, 0);
            "select rvacuum_purge()".into()
        },
        end: &|_, _| (),
        tolerates: TRASH_IN_ADVANCE,
    };
    run(Kind::Tmpfs, &scenario);
}

/// TRASH → LIVE by the vacuum itself.
#[test]
fn every_failing_call_of_a_vacuum_that_brings_a_file_back() {
    let scenario = Scenario {
        name: "vacuum that restores",
        begin: &|bed| {
            make_garbage(bed, 1, 1);
            let uuid = bed.db().text("select uuid(r) from twins where n = 1");
            let files = StoreFiles::walk(&bed.store.root);
            let live = files
                .values()
                .flat_map(|files| &files.live)
                .find(|file| file.to_str().unwrap().ends_with(&uuid));
            if let Some(file) = live {
                let trash = file.ancestors().nth(3).unwrap().join("TRASH");
                fs::rename(file, trash.join(file.file_name().unwrap())).unwrap();
            }
            "select rvacuum()".into()
        },
        end: &|_, _| (),
        tolerates: TRASH_IN_ADVANCE,
    };
    run(Kind::Tmpfs, &scenario);
}

/// A database that was dropped goes to the root's TRASH and is deleted there.
#[test]
fn every_failing_call_of_a_vacuum_of_a_dropped_database() {
    let scenario = Scenario {
        name: "vacuum of a dropped database",
        begin: &|bed| {
            // A directory of a database that there is not: what DROP DATABASE leaves.
            let oid = 4_000_000_000 + i64::from(bed.take(1).start);
            let dropped = bed.store.root.join(oid.to_string());
            let file = StoreFiles::walk(&bed.store.root)
                .into_values()
                .find_map(|files| files.live.first().cloned())
                .unwrap();
            let leaf =
                dropped.join(file.strip_prefix(file.ancestors().nth(3).unwrap()).unwrap().parent().unwrap());
            fs::create_dir_all(&leaf).unwrap();
            fs::hard_link(&file, leaf.join(file.file_name().unwrap())).unwrap();
            crate::support::broken_store::as_root(
                "chown",
                &["-R", "--reference", file.to_str().unwrap(), dropped.to_str().unwrap()],
            );
            "select rvacuum()".into()
        },
        end: &|_, _| (),
        tolerates: TRASH_IN_ADVANCE,
    };
    run(Kind::Tmpfs, &scenario);
}

#[test]
fn every_failing_call_of_a_plan() {
    let scenario = Scenario {
        name: "plan",
        begin: &|bed| {
            make_garbage(bed, 1, 1);
            "select count(*) from rvacuum_plan()".into()
        },
        end: &|_, _| (),
        tolerates: TRASH_IN_ADVANCE,
    };
    run(Kind::Tmpfs, &scenario);
}
