//! What has to be true after a crash, and in the end: by what the clients know of their transactions, by reading every payload, and
//! by looking at the disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::transactions::{Key, Rows, Seed, Transactions};
use super::world::{CLIENTS, World};
use crate::support::cluster::PATIENCE;
use crate::support::judge::Verdict;
use crate::support::judge::disk::{Disk, outlive_births};
use crate::support::session::{Session, block_on};

/// Tables of ordinary rows.
fn ordinary() -> Vec<String> {
    (0..CLIENTS).map(|client| format!("own_{client}")).chain(["shared".to_owned()]).collect()
}

/// After a crash: every row against its digest, and the rows of each client against its transactions.
pub fn after_a_crash(db: &Session, world: &World, of_clients: &mut [Transactions], verdict: &mut Verdict) {
    let rows = read_all(db, world, verdict);
    let prepared: BTreeSet<String> =
        db.column("select gid from pg_prepared_xacts", &[]).into_iter().collect();
    let known: BTreeSet<&String> =
        of_clients.iter().flat_map(|transactions| transactions.prepared.keys()).collect();
    let strange: Vec<_> = prepared.iter().filter(|gid| !known.contains(gid)).collect();
    verdict.lost(strange.iter().map(|gid| format!("{gid} had ended, and is prepared again")));

    let mut shares = vec![Rows::new(); of_clients.len()];
    for (key, seeds) in rows {
        shares[owner(&key)].insert(key, seeds);
    }
    for (transactions, share) in of_clients.iter_mut().zip(shares) {
        verdict.lost(transactions.recover(&prepared, share));
    }
    let lost: i64 = db.one("select coalesce(sum(lost), 0)::bigint from rbytea.rbytea_vacuum_history", &[]);
    verdict.dangling((0..lost).map(|_| "the vacuum has met a reference whose file is nowhere".to_owned()));
}

/// While no client is at work: the rows are exactly those that the clients know.
pub fn at_rest(db: &Session, world: &World, of_clients: &[Transactions], verdict: &mut Verdict) {
    let found = read_all(db, world, verdict);
    let expected: Rows = of_clients.iter().flat_map(|transactions| transactions.rows().clone()).collect();
    let keys: BTreeSet<&Key> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = keys.into_iter().filter(|key| found.get(key) != expected.get(key)).collect();
    verdict.lost(differ.iter().map(|key| format!("at rest: {key:?} is not what its client knows")));
}

/// While no client is at work: the extension's own check has nothing to say of any database.
pub fn check_is_silent(databases: &[Session], verdict: &mut Verdict) {
    for db in databases {
        let said = db.text("select relation, uuid, problem, path from rbytea_check(digest => true)");
        verdict.dangling(said.lines().map(|line| format!("rbytea_check(): {line}")));
    }
}

/// Ends every prepared transaction, one way or the other.
pub fn end_prepared(db: &Session, of_clients: &mut [Transactions], mut commits: impl FnMut() -> bool) -> u64 {
    let mut ended = 0;
    for transactions in of_clients {
        for gid in transactions.prepared.keys().cloned().collect::<Vec<_>>() {
            let commit = commits();
            db.run(&format!("{} prepared '{gid}'", if commit { "commit" } else { "rollback" }));
            transactions.ended(&gid, commit);
            ended += 1;
        }
    }
    ended
}

/// Whose row it is.
fn owner((_, id): &Key) -> usize {
    usize::try_from(*id).unwrap_or(0) % CLIENTS
}

/// All rows of the clients.
fn read_all(db: &Session, world: &World, verdict: &mut Verdict) -> Rows {
    let lists = "array(select sha256sum(v) from unnest(rs) with ordinality u (v, n) order by n)";
    let mut rows = read(db, world, "lists", "seeds", lists, verdict);
    for table in ordinary() {
        rows.extend(read_table(db, world, &table, verdict));
    }
    rows
}

/// The rows of an ordinary table.
pub fn read_table(db: &Session, world: &World, table: &str, verdict: &mut Verdict) -> Rows {
    read(db, world, table, "array[seed]", "array[sha256sum(r)]", verdict)
}

/// Rows with the numbers of their payloads, each payload read and compared with its digest.
fn read(db: &Session, world: &World, table: &str, seeds: &str, digests: &str, verdict: &mut Verdict) -> Rows {
    let read = |which: &str| {
        let sql = format!("select id, {seeds}, {digests} from {table} where {which}");
        block_on(db.client().query(&sql, &[]))
    };
    let found = read("true").unwrap_or_else(|_| {
        // One by one, to know which.
        let ids: Vec<i64> = db.column(&format!("select id from {table}"), &[]);
        let mut found = Vec::new();
        for id in ids {
            match read(&format!("id = {id}")) {
                Ok(row) => found.extend(row),
                Err(error) => {
                    verdict.dangling([format!("{table} {id} cannot be read: {error:?}")]);
                }
            }
        }
        found
    });
    let mut rows = Rows::new();
    for row in found {
        let (id, seeds, digests): (i64, Vec<Seed>, Vec<Option<String>>) =
            (row.get(0), row.get(1), row.get(2));
        let right = |(seed, digest): (&Seed, &Option<String>)| {
            digest.as_ref().is_some_and(|digest| world.is_digest_of(digest, *seed))
        };
        if seeds.len() != digests.len() || !seeds.iter().zip(&digests).all(right) {
            verdict.lost([format!("{table} {id} has other bytes than were stored: {seeds:?} {digests:?}")]);
        }
        rows.insert((table.to_owned(), id), seeds);
    }
    rows
}

/// Where to look for files that no row refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// In the directories of the databases that there are.
    Databases,
    /// In the whole store.
    All,
    /// There, and nothing will change any more.
    AllNow,
}

impl Among {
    fn patience(self) -> Duration {
        if self == Self::AllNow { Duration::ZERO } else { PATIENCE }
    }
}

/// Calls `collect` until the disk has the files that rows need, and no other; how many these are. What is left after a while has
/// leaked.
pub fn everything_else_goes(
    root: &Path,
    databases: &[Session],
    verdict: &mut Verdict,
    among: Among,
    mut collect: impl FnMut(),
) -> u64 {
    outlive_births(root, &databases[0]);
    let databases: Vec<&Session> = databases.iter().collect();
    let deadline = Instant::now() + among.patience();
    loop {
        collect();
        let mut disk = Disk::of(root, &databases);
        if among == Among::Databases {
            disk.others.clear();
        }
        let surplus = [&disk.garbage, &disk.trash, &disk.strays, &disk.others].into_iter().flatten();
        let surplus: Vec<String> =
            surplus.map(|path| format!("the vacuum does not collect {}", path.display())).collect();
        let missing = disk.missing();
        let done = surplus.is_empty() && missing.is_empty();
        if done || Instant::now() > deadline {
            verdict.leaked(surplus);
            verdict.dangling(missing.iter().map(|uuid| format!("{uuid} is not in its place")));
            return disk.needed;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
