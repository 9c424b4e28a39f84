//! Counts what faults have cost by the table `twins`: a row's payload has to be what its twin with plain bytea is, and the rows have to
//! be those that were acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use super::Verdict;
use super::disk::{Disk, entries};
use super::references::uuids;
use crate::evidence::Found;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::PAYLOAD_FUNCTION;

/// What a test has to have in its database: the function `payload`, and what comes with `prepare_table`.
pub fn prepare(db: &Session) {
    db.run(PAYLOAD_FUNCTION);
    prepare_table(db);
}

/// The table `twins`, and a function that reads where an error is possible.
pub fn prepare_table(db: &Session) {
    db.run(
        "create function verdict(r rbytea, b bytea) returns text language plpgsql as $$
         begin
             if r::bytea is not distinct from b then return 'intact'; end if;
             return 'other bytes';
         exception when others then return sqlstate || ': ' || sqlerrm;
         end $$;
         create table twins (n int primary key, b bytea, r rbytea)",
    );
}

/// Compares `twins` with what was acknowledged (the numbers of its rows), and the references of all tables of this database with the
/// disk, before and after the vacuum has run as often as it takes to move and to delete garbage.
#[track_caller]
pub fn judge(db: &Session, root: &Path, acknowledged: &BTreeSet<i32>) -> Found {
    judge_after(Duration::from_secs(60), db, root, acknowledged)
}

/// The same with another time after which what is still there has leaked.
#[track_caller]
pub fn judge_after(time: Duration, db: &Session, root: &Path, acknowledged: &BTreeSet<i32>) -> Found {
    let mut verdict = Verdict::default();
    // A client hears of an error before its transaction has ended, and the vacuum leaves alone what may still be written.
    const WRITING: &str = "select exists (select from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid())";
    wait_until(PATIENCE, || !db.one::<bool>(WRITING, &[]));
    find_lost(db, acknowledged, &mut verdict);
    let references = BTreeMap::from([(db.database(), uuids(db))]);
    let disk = Disk::compare(root, &references);
    verdict.dangling(disk.nowhere.iter().map(|uuid| format!("{uuid} has no file")));
    vacuum(db, root, time);
    find_lost(db, acknowledged, &mut verdict);
    let Disk { nowhere, garbage, trash, .. } = Disk::compare(root, &references);
    verdict.dangling(nowhere.iter().map(|uuid| format!("{uuid} has no file after the vacuum")));
    verdict.leaked(garbage.iter().chain(&trash).map(|path| format!("no row needs {}", path.display())));
    verdict
        .leaked(strays(db, root).iter().map(|path| format!("no payload has the name of {}", path.display())));
    told(&verdict)
}

/// Moves all garbage and deletes it, whatever the retention. On a disk that is full to the last block TRASH has room for some
/// files only; once these are deleted it has room for more. What others still look at is deleted when they have looked.
fn vacuum(db: &Session, root: &Path, time: Duration) {
    const FAILED: &str = "select count(*) from rbytea.rbytea_vacuum_history where error is not null";
    let end = Instant::now() + time;
    let mut failures = 0;
    loop {
        let before: i64 = db.one(FAILED, &[]);
        match db.try_run("select rvacuum_purge()") {
            Ok(()) => {
                if trash(db, root).is_empty() && strays(db, root).is_empty() || Instant::now() > end {
                    return;
                }
            }
            Err(error) if error.code() == Some(&SqlState::DISK_FULL) && failures < 2 => {
                failures += 1;
                // Another process writes down what has been moved, and only then it can be deleted.
                wait_until(PATIENCE, || db.one::<i64>(FAILED, &[]) > before);
            }
            Err(error) => panic!("the vacuum failed after {failures} failures: {error:?}"),
        }
    }
}

/// Acknowledged rows that are missing or do not read back, and rows that were never acknowledged.
pub fn lost(db: &Session, acknowledged: &BTreeSet<i32>) -> u64 {
    let mut verdict = Verdict::default();
    find_lost(db, acknowledged, &mut verdict);
    told(&verdict).lost
}

fn find_lost(db: &Session, acknowledged: &BTreeSet<i32>, verdict: &mut Verdict) {
    let rows = db.rows("select n, verdict(r, b) from twins", &[]);
    let rows: BTreeMap<i32, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let damaged = rows.iter().filter(|(_, verdict)| *verdict != "intact");
    verdict.lost(damaged.map(|(n, verdict)| format!("row {n} does not read back: {verdict}")));
    let missing = acknowledged.iter().filter(|n| !rows.contains_key(n));
    verdict.lost(missing.map(|n| format!("row {n} was acknowledged and is missing")));
    let surplus = rows.keys().filter(|n| !acknowledged.contains(n));
    verdict.lost(surplus.map(|n| format!("row {n} was not acknowledged and is there")));
}

/// The counts, after the test's output has the finds.
fn told(verdict: &Verdict) -> Found {
    if !verdict.is_good() {
        eprintln!("{}", verdict.text());
    }
    verdict.found()
}

/// The files in TRASH of this database.
fn trash(db: &Session, root: &Path) -> Vec<PathBuf> {
    StoreFiles::walk(root).remove(&db.database()).unwrap_or_default().trash
}

/// What the store never gives a name to, or takes away again: in the root, and below the directories of databases.
fn strays(db: &Session, root: &Path) -> Vec<PathBuf> {
    let strays = StoreFiles::walk(root).into_values().flat_map(|files| files.strays);
    let databases = db.column::<u32>("select oid from pg_database", &[]);
    let in_root = entries(root).into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !["OWNER", "TRASH", "lost+found"].contains(&name)
            && !name.parse().is_ok_and(|oid| databases.contains(&oid))
    });
    strays.chain(in_root).chain(entries(&root.join("TRASH"))).collect()
}
