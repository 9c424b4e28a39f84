//! Those that compete: each keeps payloads in its own way, one object for each client.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::BytesMut;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

use crate::cell::{Cell, Kind};
use crate::common::cluster::{Cluster, POSTGRES};
use crate::common::session::{Session, connect};
use crate::common::truncate_files;

/// The tables.
pub const SETUP: &str = "
    create extension rbytea;
    create table plain (id bigint primary key, c bytea);
    alter table plain alter c set storage external;
    create table compressed (id bigint primary key, c bytea);
    create table objects (id bigint primary key, o oid);
    create table files (id bigint primary key, c rbytea);
    create table logged (id bigint primary key, c rbytea);
    create table unverified (id bigint primary key, c rbytea);
    create table encrypted (id bigint primary key, c rbytea);
    create table nothing (id bigint primary key);";

impl Kind {
    /// Removes what the clients of a cell have stored: the next round begins with as much as this one.
    pub fn clear(self, cell: Cell, cluster: &Cluster, admin: &Session) {
        let table = match self {
            Self::Log | Self::Flush | Self::Limit => return,
            Self::Raw | Self::RawSyncfs | Self::Unsynced => {
                for client in 0..cell.clients {
                    truncate_files(&self.dir(client, cluster));
                }
                return;
            }
            Self::LargeObject => {
                admin.run("select count(lo_unlink(o)) from objects; truncate objects");
                admin.run("vacuum pg_largeobject");
                admin.run("vacuum pg_largeobject_metadata");
                return;
            }
            Self::Bytea => return admin.run("truncate plain"),
            Self::Compressed => return admin.run("truncate compressed"),
            Self::Rbytea => "files",
            Self::Logged => "logged",
            Self::Unverified => "unverified",
            Self::Encrypted => "encrypted",
        };
        admin.run(&format!("truncate {table}"));
        // Which is not in the way, and would take long if it were purged (see Retired).
        admin.run("select rvacuum()");
        for database in fs::read_dir(cluster.store()).unwrap().flatten() {
            let trash = database.path().join("TRASH");
            if trash.exists() {
                truncate_files(&trash);
            }
        }
    }

    /// Where a client keeps files without a server.
    fn dir(self, client: usize, cluster: &Cluster) -> PathBuf {
        cluster.dir().join(format!("{self:?}-{client}"))
    }
}

/// What a client stores: the same random bytes with the row's number in front.
pub struct Payload {
    bytes: Vec<u8>,
}

impl Payload {
    pub fn new(cell: Cell, client: usize) -> Self {
        let mut bytes = vec![0; cell.size];
        let mut random = StdRng::seed_from_u64(client as u64);
        if cell.compressible {
            // Three quarters are zeros.
            for line in bytes.chunks_mut(256) {
                let random_part = line.len() / 4;
                random.fill_bytes(&mut line[..random_part]);
            }
        } else {
            random.fill_bytes(&mut bytes);
        }
        Self { bytes }
    }

    fn numbered(&mut self, id: i64) -> &[u8] {
        self.bytes[..8].copy_from_slice(&id.to_le_bytes());
        &self.bytes
    }
}

/// One client of one kind.
pub struct Contestant {
    kind: Kind,
    client: usize,
    next: i64,
    way: Way,
}

enum Way {
    Files { dir: PathBuf, entries: File },
    Log(Ring),
    Server(Box<Link>),
}

struct Link {
    runtime: Runtime,
    client: Client,
    insert: Statement,
    select: Statement,
}

/// A file that is written over from its beginning to its end, again and again.
struct Ring {
    file: File,
    len: usize,
    at: usize,
}

impl Ring {
    /// Bytes at least.
    const LEN: usize = 64 << 20;
    const PAGE: usize = 8192;

    /// Long enough for `commit` bytes that are flushed together.
    fn new(dir: &Path, commit: usize) -> Self {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).open(dir.join("log")).unwrap();
        let len = commit.max(Self::LEN).next_multiple_of(1 << 20);
        for _ in 0..len >> 20 {
            file.write_all(&[0; 1 << 20]).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, len, at: 0 }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.len - self.at));
            self.file.write_all_at(now, self.at as u64).unwrap();
            self.at = (self.at + now.len()) % self.len;
            bytes = later;
        }
    }
}

/// Rows of the table that the limit reads.
const ROWS_OF_NOTHING: i64 = 100_000;

impl Contestant {
    pub fn new(kind: Kind, client: usize, cell: Cell, cluster: &Cluster) -> Self {
        let way = if kind.is_raw() {
            let dir = kind.dir(client, cluster);
            fs::create_dir_all(&dir).unwrap();
            if matches!(kind, Kind::Log | Kind::Flush) {
                Way::Log(Ring::new(&dir, if kind == Kind::Log { cell.size * cell.rows } else { 0 }))
            } else {
                Way::Files { entries: File::open(&dir).unwrap(), dir }
            }
        } else {
            // The connection shares the thread with its client: a reply needs no second one to be woken.
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let (client, insert, select) = runtime.block_on(Self::connect(kind, cell, cluster));
            Way::Server(Box::new(Link { runtime, client, insert, select }))
        };
        static CLIENTS: AtomicI64 = AtomicI64::new(0);
        // Every client has numbers of its own.
        Self { kind, client, next: CLIENTS.fetch_add(1, Ordering::Relaxed) * 1_000_000, way }
    }

    async fn connect(kind: Kind, cell: Cell, cluster: &Cluster) -> (Client, Statement, Statement) {
        let client = connect(&cluster.config(POSTGRES, POSTGRES)).await;
        match kind {
            Kind::Encrypted => client.batch_execute("set rbytea.qss_mode = on").await.unwrap(),
            Kind::Unverified => client.batch_execute("set rbytea.verify = off").await.unwrap(),
            Kind::Logged => client.batch_execute("set rbytea.wal_payload_limit = -1").await.unwrap(),
            Kind::Limit => client
                .batch_execute(&format!(
                    "set plan_cache_mode = force_generic_plan;
                     insert into nothing select generate_series(1, {ROWS_OF_NOTHING}) on conflict do nothing"
                ))
                .await
                .unwrap(),
            _ => {}
        }
        let (insert, select) = kind.statements(cell.size);
        let insert = client.prepare(&insert).await.unwrap();
        let select = client.prepare(&select).await.unwrap();
        (client, insert, select)
    }

    pub fn client(&self) -> usize {
        self.client
    }

    /// The backend.
    pub fn pid(&self) -> i32 {
        match &self.way {
            Way::Server(link) => {
                link.runtime.block_on(link.client.query_one("select pg_backend_pid()", &[])).unwrap().get(0)
            }
            Way::Files { .. } | Way::Log(_) => unreachable!("files have no backend"),
        }
    }

    /// Runs a statement and throws its result away.
    pub fn run(&self, sql: &str) {
        if let Way::Server(link) = &self.way {
            link.runtime.block_on(link.client.batch_execute(sql)).unwrap();
        }
    }

    /// Stores so many payloads in one transaction and returns their numbers.
    pub fn commit(&mut self, rows: usize, payload: &mut Payload) -> Vec<i64> {
        let ids: Vec<i64> = (1..=rows as i64).map(|row| self.next + row).collect();
        self.next += rows as i64;
        match &mut self.way {
            Way::Log(ring) => {
                match self.kind {
                    Kind::Log => ids.iter().for_each(|id| ring.write(payload.numbered(*id))),
                    _ => ring.write(&[0; Ring::PAGE]),
                }
                ring.file.sync_data().unwrap();
            }
            Way::Files { dir, entries } if self.kind == Kind::Raw => {
                let files: Vec<File> = ids.iter().map(|id| write(dir, *id, payload)).collect();
                files.iter().for_each(|file| file.sync_data().unwrap());
                entries.sync_all().unwrap();
            }
            Way::Files { dir, entries } => {
                ids.iter().for_each(|id| drop(write(dir, *id, payload)));
                if self.kind == Kind::RawSyncfs {
                    rustix::fs::syncfs(entries).unwrap();
                }
            }
            Way::Server(link) => link.runtime.block_on(async {
                let Link { client, insert, .. } = &**link;
                if rows > 1 {
                    client.batch_execute("begin").await.unwrap();
                }
                for id in &ids {
                    client.execute(insert, &[id, &Bytes(payload.numbered(*id))]).await.unwrap();
                }
                if rows > 1 {
                    client.batch_execute("commit").await.unwrap();
                }
            }),
        }
        ids
    }

    /// Reads what was stored under a number, and looks at its two ends.
    pub fn read(&mut self, id: i64, payload: &Payload) {
        let (len, tail) = (payload.bytes.len(), &payload.bytes[payload.bytes.len() - 8..]);
        let check = |bytes: &[u8]| {
            assert!(
                bytes.len() == len && bytes[..8] == id.to_le_bytes() && &bytes[len - 8..] == tail,
                "{id}"
            );
        };
        match &self.way {
            Way::Files { dir, .. } => check(&fs::read(dir.join(id.to_string())).unwrap()),
            Way::Log(_) => unreachable!("a log is not read"),
            Way::Server(link) => link.runtime.block_on(async {
                let Link { client, select, .. } = &**link;
                if self.kind == Kind::Limit {
                    let row = client.query_one(select, &[&(id % ROWS_OF_NOTHING + 1)]).await.unwrap();
                    assert_eq!(row.get::<_, Bytes<'_>>(0).0.len(), len);
                } else {
                    check(client.query_one(select, &[&id]).await.unwrap().get::<_, Bytes<'_>>(0).0);
                }
            }),
        }
    }
}

fn write(dir: &Path, id: i64, payload: &mut Payload) -> File {
    let path = dir.join(id.to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    file.write_all(payload.numbered(id)).unwrap();
    file
}

/// A parameter or a result of type bytea or rbytea, in binary format and not copied more often than the client has to.
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

fn is_bytes(ty: &Type) -> bool {
    *ty == Type::BYTEA || ty.name() == "rbytea"
}

impl ToSql for Bytes<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        is_bytes(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        is_bytes(ty)
    }
}
