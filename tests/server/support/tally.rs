//! Counts what faults have cost: acknowledged payloads that do not read back, references without a file, files that stay for
//! ever. Nothing here stops at the first find, so that a test says how much was lost and not only that something was.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use crate::evidence::Found;
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::store_files::StoreFiles;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, name};

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

/// Compares `twins` with what was acknowledged (the numbers of its rows) and with the disk, after the vacuum has run as
/// often as it takes to move and to delete garbage. `others` are further columns with references, as `("v", "t")`.
#[track_caller]
pub fn judge(db: &Session, root: &Path, acknowledged: &BTreeSet<i32>, others: &[(&str, &str)]) -> Found {
    let mut found = Found::default();
    // A client hears of an error before its transaction has ended, and the vacuum leaves alone what may still be written.
    const WRITING: &str = "select exists (select from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid())";
    wait_until(PATIENCE, || !db.one::<bool>(WRITING, &[]));
    found.lost += lost(db, acknowledged);
    let mut references = BTreeSet::new();
    for (column, table) in [&[("r", "twins")], others].concat() {
        references.extend(db.column::<String>(
            &format!("select uuid({column})::text from {table} where uuid({column}) is not null"),
            &[],
        ));
    }
    let there = on_disk(db, root);
    found.dangling += report("references without a file", references.difference(&there));
    vacuum(db, root);
    found.lost += lost(db, acknowledged);
    let kept = on_disk(db, root);
    found.dangling += report("references without a file after the vacuum", references.difference(&kept));
    found.leaked += report("files that no row needs", kept.difference(&references));
    found.leaked += report("names that no payload has", strays(db, root).iter());
    found
}

/// Moves all garbage and deletes it, whatever the retention. On a disk that is full to the last block TRASH has room for some
/// files only; once these are deleted it has room for more. What others still look at is deleted when they have looked.
fn vacuum(db: &Session, root: &Path) {
    const FAILED: &str = "select count(*) from rbytea_vacuum_history where error is not null";
    const DEADLINE: Duration = Duration::from_secs(60);
    let end = Instant::now() + DEADLINE;
    let mut failures = 0;
    loop {
        let before: i64 = db.one(FAILED, &[]);
        match db.try_run("select rvacuum_purge()") {
            Ok(()) => {
                if files(db, root).trash.is_empty() && strays(db, root).is_empty() || Instant::now() > end {
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

/// Acknowledged rows that are missing or do not read back, and rows that nobody was told of.
pub fn lost(db: &Session, acknowledged: &BTreeSet<i32>) -> u64 {
    let rows = db.rows("select n, verdict(r, b) from twins", &[]);
    let mut there = BTreeSet::new();
    let mut damaged = Vec::new();
    for row in &rows {
        let (n, verdict): (i32, String) = (row.get(0), row.get(1));
        there.insert(n);
        if verdict != "intact" {
            damaged.push((n, verdict));
        }
    }
    report("payloads that do not read back", damaged.iter())
        + report("acknowledged rows that are missing", acknowledged.difference(&there))
        + report("rows that were not acknowledged", there.difference(acknowledged))
}

fn report<T: std::fmt::Debug>(what: &str, found: impl Iterator<Item = T>) -> u64 {
    let found: Vec<T> = found.collect();
    if !found.is_empty() {
        eprintln!("{what}: {found:?}");
    }
    found.len() as u64
}

/// The files of this database.
fn files(db: &Session, root: &Path) -> StoreFiles {
    let oid: u32 = db.one("select oid from pg_database where datname = current_database()", &[]);
    StoreFiles::walk(root).remove(&oid).unwrap_or_default()
}

/// The payloads of this database that have a file.
fn on_disk(db: &Session, root: &Path) -> BTreeSet<String> {
    let files = files(db, root);
    files.live.iter().chain(&files.trash).map(|file| name(file)).collect()
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

/// Paths in a directory; one that does not exist has none.
fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Adds what another case has found.
pub fn add(sum: &mut Found, more: Found) {
    sum.cases += more.cases;
    sum.lost += more.lost;
    sum.dangling += more.dangling;
    sum.leaked += more.leaked;
}
