//! The main job on real files, beside a table of plain `bytea`: load, compare checksums, read back, roll back,
//! vacuum, read out of TRASH, delete. `make demo` runs it; arguments are files or directories, by default
//! PostgreSQL's own programs and libraries. Starts a cluster of its own and removes it. Exits with 1 if anything
//! differs from what it must be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a demonstration fails by panicking"
)]

#[path = "../tests/server/support"]
mod support {
    pub mod cluster;
    pub mod installation;
    pub mod payload;
    pub mod session;
    pub mod store_files;
}

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, pin_mut};
use md5::Md5;
use sha2::{Digest, Sha256};

use support::cluster::Cluster;
use support::payload::Payload;
use support::session::{Session, block_on};

/// No value in PostgreSQL is larger than 1 GiB, and a message around it takes some room.
const LARGEST: u64 = (1 << 30) - (1 << 16);

/// How much of a file is in memory while it is sent, hashed or compared.
const CHUNK: usize = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Some(mut demo) = Demo::start(arguments) else {
        println!("no readable file to show anything with");
        return ExitCode::FAILURE;
    };
    demo.load();
    demo.compare_checksums();
    demo.read_back();
    demo.roll_back();
    demo.read_from_trash();
    demo.delete();
    demo.read_back();
    demo.finish()
}

/// The two tables that every step is shown for.
#[derive(Clone, Copy)]
enum Twin {
    Rbytea,
    Bytea,
}

impl Twin {
    const BOTH: [Self; 2] = [Self::Rbytea, Self::Bytea];

    fn ty(self) -> &'static str {
        match self {
            Self::Rbytea => "rbytea",
            Self::Bytea => "bytea",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Rbytea => "files",
            Self::Bytea => "files_bytea",
        }
    }
}

struct Demo {
    cluster: Cluster,
    db: Session,
    /// What is in the tables: path and size when it was loaded.
    files: BTreeMap<PathBuf, u64>,
    mismatches: usize,
}

impl Demo {
    // --- the steps ---------------------------------------------------------------------------------------

    fn start(arguments: Vec<PathBuf>) -> Option<Self> {
        let cluster = Cluster::with_extension();
        let installation = cluster.installation();
        let roots = if arguments.is_empty() {
            vec![installation.bindir.clone(), installation.pkglibdir.clone()]
        } else {
            arguments
        };
        let files = readable_files(&roots);
        if files.is_empty() {
            return None;
        }
        let db = cluster.session();
        for twin in Twin::BOTH {
            db.run(&format!("create table {} (name text primary key, body {})", twin.table(), twin.ty()));
        }
        println!("{}", db.one::<String>("select version()", &[]));
        println!(
            "{} files, {} bytes: {}\n",
            grouped(files.len() as u64),
            grouped(files.values().sum()),
            roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(" ")
        );
        Some(Self { cluster, db, files, mismatches: 0 })
    }

    fn load(&mut self) {
        self.heading("load every file, in binary, in one transaction");
        println!(
            "  {:<7} {:>8} {:>15} {:>15} {:>15} {:>8} {:>15} {:>8}",
            "type", "rows", "payload bytes", "table bytes", "WAL bytes", "files", "bytes in them", "seconds"
        );
        let files: Vec<(PathBuf, u64)> = self.files.clone().into_iter().collect();
        for twin in Twin::BOTH {
            let before = self.wal_position();
            let clock = Instant::now();
            let rows = self.copy_in(twin, "", &files);
            let seconds = clock.elapsed().as_secs_f64();
            let wal = self.wal_position() - before;
            self.check(rows == files.len() as u64, "not every file became a row");
            let (live, live_bytes) = match twin {
                Twin::Rbytea => self.live(),
                Twin::Bytea => (0, 0),
            };
            println!(
                "  {:<7} {:>8} {:>15} {:>15} {:>15} {:>8} {:>15} {:>8.2}",
                twin.ty(),
                grouped(rows),
                grouped(
                    self.number(&format!("select sum(octet_length(body))::bigint from {}", twin.table()))
                ),
                grouped(self.number(&format!("select pg_total_relation_size('{}')", twin.table()))),
                grouped(wal),
                grouped(live),
                grouped(live_bytes),
                seconds
            );
        }
        let header = self.number("select max(pg_column_size(body))::bigint from files");
        println!("  a value takes at most {header} bytes in its row");
        self.check(header <= 80, "a value takes more than 80 bytes in its row");
        let (live, live_bytes) = self.live();
        self.check(live == self.files.len() as u64, "the store does not hold one file for each row");
        self.check(
            live_bytes == self.files.values().sum(),
            "the files in the store do not add up to the payloads",
        );
    }

    fn compare_checksums(&mut self) {
        self.heading("compare md5sum(body), sha256sum(body) and len(body) with the files on disk");
        let clock = Instant::now();
        let rows = self
            .db
            .rows("select name, md5sum(body), sha256sum(body), len(body) from files order by name", &[]);
        let seconds = clock.elapsed().as_secs_f64();
        let mut same = 0;
        for row in &rows {
            let name: String = row.get(0);
            let in_table: (String, String, i64) = (row.get(1), row.get(2), row.get(3));
            let on_disk = checksums(Path::new(&name)).unwrap();
            let equal = in_table == on_disk;
            same += u64::from(equal);
            self.check(equal, &format!("{name}: {in_table:?} in the table, {on_disk:?} on disk"));
        }
        println!(
            "  {} of {} agree ({seconds:.2} s in the server)",
            grouped(same),
            grouped(rows.len() as u64)
        );
        self.check(rows.len() == self.files.len(), "the number of rows is not the number of files");
    }

    fn read_back(&mut self) {
        self.heading("read every value back and compare its bytes with the file on disk");
        for twin in Twin::BOTH {
            let sql = format!("select body from {} where name = $1", twin.table());
            let mut same = 0;
            let mut seconds = 0.0;
            for path in self.files.keys().cloned().collect::<Vec<_>>() {
                let clock = Instant::now();
                let Payload(bytes) = self.db.one(&sql, &[&name(&path)]);
                seconds += clock.elapsed().as_secs_f64();
                let equal = equals_file(&bytes, &path).unwrap();
                same += u64::from(equal);
                self.check(equal, &format!("{} is not what was stored", path.display()));
            }
            println!("  {:<7} {} values equal ({seconds:.2} s)", twin.ty(), grouped(same));
        }
    }

    fn roll_back(&mut self) {
        self.heading("insert some of them again and roll back");
        let some: Vec<(PathBuf, u64)> = self.files.clone().into_iter().take(10).collect();
        let (before, _) = self.live();
        self.db.run("begin");
        let rows = self.copy_in(Twin::Rbytea, "again: ", &some);
        self.db.run("rollback");
        let (after, _) = self.live();
        println!("  {rows} rows rolled back; the files of the store went from {before} to {after}");
        self.check(after == before + rows, "an abort is expected to leave its files to the vacuum");

        println!("  rvacuum_plan() says:");
        let plan = self.db.text("select * from rvacuum_plan()");
        for line in plan.lines().take(5) {
            println!("    {line}");
        }
        self.check(
            plan.lines().count() as u64 == rows,
            "the plan does not name just the files of the aborted transaction",
        );
        self.vacuum(rows);
        self.check(self.live().0 == before, "the files of the aborted transaction are still in their place");
    }

    fn read_from_trash(&mut self) {
        self.heading("read a payload out of TRASH");
        let Some(path) = self.files.keys().next_back().cloned() else { return };
        let uuid: String = self.db.one("select uuid(body)::text from files where name = $1", &[&name(&path)]);
        let Some((live, trash)) = self.place_of(&uuid) else {
            self.check(false, &format!("{}: its payload is not in the store", path.display()));
            return;
        };
        fs::rename(&live, &trash).unwrap();
        println!("  moved the payload of {} to TRASH by hand", path.display());

        let Payload(bytes) = self.db.one("select body from files where name = $1", &[&name(&path)]);
        let equal = equals_file(&bytes, &path).unwrap();
        self.check(equal, "what was read out of TRASH is not what was stored");
        println!("  read it: {} bytes{}", grouped(bytes.len() as u64), if equal { ", equal" } else { "" });

        self.vacuum(0);
        self.check(
            live.exists() && !trash.exists(),
            "the vacuum did not bring back a file that a row refers to",
        );
    }

    fn delete(&mut self) {
        self.heading("delete a row");
        let Some(path) = self.files.keys().next().cloned() else { return };
        for twin in Twin::BOTH {
            let deleted =
                self.db.execute(&format!("delete from {} where name = $1", twin.table()), &[&name(&path)]);
            self.check(deleted == 1, "the row to be deleted was not there");
        }
        self.files.remove(&path);
        println!("  {} deleted", path.display());
        self.vacuum(1);
        self.check(self.live().0 == self.files.len() as u64, "not every row has its one file");
    }

    fn finish(self) -> ExitCode {
        let Self { cluster, db, mismatches, .. } = self;
        drop(db);
        drop(cluster);
        match mismatches {
            0 => {
                println!("\nEverything is as it must be. The server is stopped and its directory removed.");
                ExitCode::SUCCESS
            }
            _ => {
                println!("\n{mismatches} mismatches.");
                ExitCode::FAILURE
            }
        }
    }

    // --- what they are made of ---------------------------------------------------------------------------

    /// Runs the vacuum, which must move `expected` files to TRASH, and says what moved.
    fn vacuum(&mut self, expected: u64) {
        self.db.notices();
        let trash = self.trash();
        let moved = self.number("select rvacuum()");
        let restored = (trash + moved).saturating_sub(self.trash());
        println!(
            "  rvacuum(): {moved} moved to TRASH, {restored} restored; {} files in the store, {} in TRASH",
            self.live().0,
            self.trash()
        );
        for notice in self.db.notices() {
            println!("    {}: {}", notice.severity(), notice.message());
        }
        self.check(moved == expected, &format!("the vacuum should have moved {expected}"));
    }

    /// Streams files into a table by COPY in binary format, a chunk at a time; the number of rows.
    fn copy_in(&self, twin: Twin, prefix: &str, files: &[(PathBuf, u64)]) -> u64 {
        block_on(async {
            let sink = self
                .db
                .client()
                .copy_in::<_, Bytes>(&format!(
                    "copy {} (name, body) from stdin (format binary)",
                    twin.table()
                ))
                .await
                .unwrap();
            pin_mut!(sink);
            let mut out = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
            for (path, size) in files {
                let name = format!("{prefix}{}", name(path));
                out.put_i16(2);
                out.put_i32(name.len().try_into().unwrap());
                out.put_slice(name.as_bytes());
                out.put_i32((*size).try_into().unwrap());
                let mut file = File::open(path).unwrap();
                let mut left = *size;
                while left > 0 {
                    let chunk = left.min(CHUNK as u64) as usize;
                    let start = out.len();
                    out.resize(start + chunk, 0);
                    file.read_exact(&mut out[start..]).unwrap_or_else(|error| {
                        panic!("{} changed while it was read: {error}", path.display())
                    });
                    left -= chunk as u64;
                    sink.feed(out.split().freeze()).await.unwrap();
                }
            }
            out.put_i16(-1);
            sink.send(out.freeze()).await.unwrap();
            sink.finish().await.unwrap()
        })
    }

    /// Where the payload with this uuid lies, and where it would lie in TRASH.
    fn place_of(&self, uuid: &str) -> Option<(PathBuf, PathBuf)> {
        for (oid, files) in self.cluster.store_files() {
            if let Some(live) = files.find(uuid) {
                let trash = self.cluster.store().join(oid.to_string()).join("TRASH").join(live.file_name()?);
                return Some((live.clone(), trash));
            }
        }
        None
    }

    /// The number of files in their place, and their bytes.
    fn live(&self) -> (u64, u64) {
        let live = self.cluster.live();
        (live.len() as u64, live.iter().map(|path| fs::metadata(path).unwrap().len()).sum())
    }

    fn trash(&self) -> u64 {
        self.cluster.trash().len() as u64
    }

    fn wal_position(&self) -> u64 {
        self.number("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
    }

    fn number(&self, sql: &str) -> u64 {
        self.db.one::<Option<i64>>(sql, &[]).unwrap_or_default().try_into().unwrap()
    }

    fn heading(&self, step: &str) {
        println!("- {step}");
    }

    fn check(&mut self, ok: bool, what: &str) {
        if !ok {
            self.mismatches += 1;
            println!("  MISMATCH: {what}");
        }
    }
}

/// The regular, readable files among and below these, with their sizes; says what it leaves out.
fn readable_files(roots: &[PathBuf]) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let mut left: BTreeSet<PathBuf> = roots.iter().cloned().collect();
    while let Some(path) = left.pop_first() {
        match size_of(&path) {
            Ok(Kind::Directory(entries)) => left.extend(entries),
            Ok(Kind::File(size)) => drop(files.insert(path, size)),
            Ok(Kind::Other) => {}
            Err(why) => println!("left out: {}: {why}", path.display()),
        }
    }
    files
}

enum Kind {
    Directory(Vec<PathBuf>),
    File(u64),
    Other,
}

fn size_of(path: &Path) -> io::Result<Kind> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        return Ok(Kind::Directory(
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?,
        ));
    }
    if !metadata.is_file() {
        return Ok(Kind::Other);
    }
    if metadata.len() > LARGEST {
        return Err(io::Error::other("larger than a value can be"));
    }
    if path.to_str().is_none() {
        return Err(io::Error::other("its name is not UTF-8"));
    }
    File::open(path)?;
    Ok(Kind::File(metadata.len()))
}

/// A path as a value of type text.
fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// MD5, SHA-256 and size of a file.
fn checksums(path: &Path) -> io::Result<(String, String, i64)> {
    let (mut md5, mut sha256, mut size) = (Md5::new(), Sha256::new(), 0);
    for_each_chunk(path, |chunk| {
        md5.update(chunk);
        sha256.update(chunk);
        size += chunk.len() as i64;
    })?;
    Ok((hex(&md5.finalize()), hex(&sha256.finalize()), size))
}

/// True if the file holds just these bytes.
fn equals_file(bytes: &[u8], path: &Path) -> io::Result<bool> {
    let (mut rest, mut equal) = (bytes, true);
    for_each_chunk(path, |chunk| match rest.strip_prefix(chunk) {
        Some(after) => rest = after,
        None => equal = false,
    })?;
    Ok(equal && rest.is_empty())
}

fn for_each_chunk(path: &Path, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 1234567 as 1 234 567
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
