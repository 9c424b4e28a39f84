//! What has to be true after a crash, and in the end: by the clients' ledgers, by reading every payload, and by looking at
//! the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::ledger::{Key, Ledger, Rows, Seed};
use super::world::{CLIENTS, World};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::session::{Session, block_on};

/// What was found so far.
#[derive(Default)]
pub struct Verdict {
    /// Rows and prepared transactions that are not as they have to be.
    pub lost: u64,
    /// References that cannot be read.
    pub dangling: u64,
    /// Files that nobody needs and nobody collects.
    pub leaked: u64,
    /// Files that were needed, as of the last look at the disk.
    pub needed: u64,
    /// The first of all that.
    pub what: Vec<String>,
}

impl Verdict {
    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        self.lost + self.dangling + self.leaked == 0
    }

    /// Remembers the first ones.
    pub fn tell(&mut self, what: impl IntoIterator<Item = String>) {
        self.what.extend(what);
        self.what.truncate(40);
    }
}

/// Tables of ordinary rows.
fn ordinary() -> Vec<String> {
    (0..CLIENTS).map(|client| format!("own_{client}")).chain(["shared".to_owned()]).collect()
}

/// After a crash: every row against its digest and the ledgers.
pub fn after_a_crash(db: &Session, world: &World, ledgers: &mut [Ledger], verdict: &mut Verdict) {
    let rows = read_all(db, world, verdict);
    let prepared: BTreeSet<String> =
        db.column("select gid from pg_prepared_xacts", &[]).into_iter().collect();
    let known: BTreeSet<&String> = ledgers.iter().flat_map(|ledger| ledger.prepared.keys()).collect();
    let strange: Vec<_> = prepared.iter().filter(|gid| !known.contains(gid)).collect();
    verdict.lost += strange.len() as u64;
    verdict.tell(strange.iter().map(|gid| format!("{gid} had ended, and is prepared again")));

    let mut shares = vec![Rows::new(); ledgers.len()];
    for (key, seeds) in rows {
        shares[owner(&key)].insert(key, seeds);
    }
    for (ledger, share) in ledgers.iter_mut().zip(shares) {
        let losses = ledger.recover(&prepared, share);
        verdict.lost += losses.count;
        verdict.tell(losses.what);
    }
    let lost: i64 = db.one("select coalesce(sum(lost), 0)::bigint from rbytea_vacuum_history", &[]);
    if lost > 0 {
        verdict.dangling += lost as u64;
        verdict.tell(["the vacuum has met references whose file is nowhere".to_owned()]);
    }
}

/// While nobody is at work: the rows are exactly those of the ledgers.
pub fn at_rest(db: &Session, world: &World, ledgers: &[Ledger], verdict: &mut Verdict) {
    let found = read_all(db, world, verdict);
    let expected: Rows = ledgers.iter().flat_map(|ledger| ledger.rows().clone()).collect();
    let keys: BTreeSet<&Key> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = keys.into_iter().filter(|key| found.get(key) != expected.get(key)).collect();
    verdict.lost += differ.len() as u64;
    verdict.tell(differ.iter().map(|key| format!("at rest: {key:?} is not what its client knows")));
}

/// While nobody is at work: the extension's own check has nothing to say of any database.
pub fn check_is_silent(databases: &[Session], verdict: &mut Verdict) {
    for db in databases {
        let said = db.text("select relation, uuid, problem, path from rbytea_check(digest => true)");
        verdict.dangling += said.lines().count() as u64;
        verdict.tell(said.lines().map(|line| format!("rbytea_check(): {line}")));
    }
}

/// Ends every prepared transaction, one way or the other.
pub fn end_prepared(db: &Session, ledgers: &mut [Ledger], mut commits: impl FnMut() -> bool) -> u64 {
    let mut ended = 0;
    for ledger in ledgers {
        for gid in ledger.prepared.keys().cloned().collect::<Vec<_>>() {
            let commit = commits();
            db.run(&format!("{} prepared '{gid}'", if commit { "commit" } else { "rollback" }));
            ledger.ended(&gid, commit);
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
                    verdict.dangling += 1;
                    verdict.tell([format!("{table} {id} cannot be read: {error:?}")]);
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
            verdict.lost += 1;
            verdict.tell([format!("{table} {id} has other bytes than were stored: {seeds:?} {digests:?}")]);
        }
        rows.insert((table.to_owned(), id), seeds);
    }
    rows
}

/// Uses up transaction ids until every file was born before all transactions: those that a crash has undone are given out
/// again, and until then their files are young.
pub fn outlive_births(cluster: &Cluster, db: &Session) {
    let birth = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        i64::from_str_radix(name.get(..16)?, 16).ok()
    };
    let youngest = cluster.live().into_iter().filter_map(birth).max().unwrap_or(0);
    while db.one::<i64>("select pg_current_xact_id()::text::bigint", &[]) <= youngest {}
}

/// Where to look for what nobody needs.
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

/// Calls `collect` until the disk has the files that rows need, and no other. What is left after a while has leaked.
pub fn everything_else_goes(
    cluster: &Cluster,
    databases: &[Session],
    verdict: &mut Verdict,
    among: Among,
    mut collect: impl FnMut(),
) {
    outlive_births(cluster, &databases[0]);
    let deadline = Instant::now() + among.patience();
    loop {
        collect();
        let disk = Disk::compare(cluster, databases, among);
        if disk.surplus.is_empty() && disk.missing.is_empty() {
            verdict.needed = disk.needed;
            return;
        }
        if Instant::now() > deadline {
            verdict.leaked += disk.surplus.len() as u64;
            verdict.dangling += disk.missing.len() as u64;
            verdict.tell(disk.surplus.iter().map(|path| format!("nobody collects {}", path.display())));
            verdict.tell(disk.missing.iter().map(|uuid| format!("{uuid} is not in its place")));
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The store beside the rows.
struct Disk {
    needed: u64,
    /// Files that no row of their database refers to, in LIVE, in TRASH, or anywhere else.
    surplus: Vec<PathBuf>,
    /// Payloads that rows refer to and that are not in LIVE.
    missing: Vec<String>,
}

impl Disk {
    fn compare(cluster: &Cluster, databases: &[Session], among: Among) -> Self {
        let mut references: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for db in databases {
            let oid = db.one("select oid from pg_database where datname = current_database()", &[]);
            references.insert(oid, uuids(db));
        }
        let mut surplus = Vec::new();
        let mut missing = references.clone();
        for (oid, files) in cluster.store_files() {
            let references = references.get(&oid);
            if references.is_none() && among == Among::Databases {
                continue;
            }
            for path in files.live {
                let uuid = path.file_name().unwrap().to_string_lossy()[17..].to_owned();
                if references.is_some_and(|references| references.contains(&uuid)) {
                    missing.get_mut(&oid).unwrap().remove(&uuid);
                } else {
                    surplus.push(path);
                }
            }
            surplus.extend(files.trash.into_iter().chain(files.strays));
        }
        if among != Among::Databases {
            let known =
                |name: &str| name == "OWNER" || name.parse().is_ok_and(|oid| references.contains_key(&oid));
            let root = fs::read_dir(cluster.store()).unwrap().map(|entry| entry.unwrap());
            surplus.extend(
                root.filter(|entry| !known(&entry.file_name().to_string_lossy())).map(|entry| entry.path()),
            );
        }
        Self {
            needed: references.values().map(|references| references.len() as u64).sum(),
            surplus,
            missing: missing.into_values().flatten().collect(),
        }
    }
}

/// The files that the rows of a database refer to.
fn uuids(db: &Session) -> BTreeSet<String> {
    let tables: Vec<String> = db.column(
        "select relname::text from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace
            and exists (select from pg_attribute where attrelid = c.oid and attname = 'r')",
        &[],
    );
    let mut all: Vec<String> = tables.iter().map(|table| format!("select uuid(r) u from {table}")).collect();
    if db.one::<bool>("select to_regclass('lists') is not null", &[]) {
        all.push("select uuid(v) from lists, unnest(rs) v".to_owned());
    }
    let all = all.join(" union ");
    db.column(&format!("select u::text from ({all}) a where u is not null"), &[]).into_iter().collect()
}
