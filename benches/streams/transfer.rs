//! One payload in and out, in each way.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::Client;

use crate::common::cluster::Cluster;
use crate::common::session::runtime;
use crate::common::{median, truncate_files};
use crate::{
    Arguments, CHUNK, client, cluster, mark_memory, private_peak, random_file, seconds, settle, wire,
};

/// Longest bytea that is compared.
const BYTEA: u64 = 256 << 20;

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Possible,
    Wire,
    Copy,
    Append,
    Tool,
    Import,
    LargeObject,
    Bytea,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible: a socket and a file",
            Self::Wire => "possible: COPY of bytes in memory",
            Self::Copy => "COPY rbytea_upload; COPY of rbytea_chunks()",
            Self::Append => "rbytea_append(); rbytea_read()",
            Self::Tool => "rbytea put; rbytea get",
            Self::Import => "rbytea_import(); rbytea_export()",
            Self::LargeObject => "large object: \\lo_import; \\lo_export",
            Self::Bytea => "bytea of 256 MiB",
        }
    }
}

/// What all ways use.
struct Bed<'a> {
    cluster: &'a Cluster,
    client: Client,
    source: PathBuf,
    /// Its bytes.
    size: u64,
    /// The first 256 MiB of it.
    part: Bytes,
    scratch: PathBuf,
}

impl Bed<'_> {
    fn up(&self, way: Way) {
        match way {
            Way::Possible => wire::upload(&self.source, &self.scratch),
            Way::Wire => {}
            Way::Copy => runtime().block_on(copy_in(&self.client, &self.source)),
            Way::Append => runtime().block_on(append(&self.client, &self.source)),
            Way::Tool => {
                let arguments = ["put", "--quiet", "--table", "files", "--column", "c", "--set", "id=1"];
                run(tool(self.cluster).args(arguments).arg(&self.source));
            }
            Way::Import => {
                let path = self.source.to_str().unwrap();
                self.run("insert into files values (1, null, rbytea_import($1))", &[&path]);
            }
            Way::LargeObject => {
                run(psql(self.cluster).arg("-c").arg(format!("\\lo_import {}", self.source.display())));
                self.run("insert into objects select 1, max(oid) from pg_largeobject_metadata", &[]);
            }
            Way::Bytea => {
                let part = &self.part[..];
                self.run("insert into plain values (1, $1)", &[&part]);
            }
        }
    }

    fn down(&self, way: Way) {
        match way {
            Way::Possible => wire::download(&self.scratch),
            Way::Wire => {
                let sql = format!(
                    "copy (with b as materialized (select decode(repeat('ab', {CHUNK}), 'hex') as b)
                           select b from b, generate_series(1, {})) to stdout (format binary)",
                    self.size / CHUNK as u64
                );
                runtime().block_on(copy_out(&self.client, &sql));
            }
            Way::Copy => runtime().block_on(copy_out(
                &self.client,
                "copy (select chunk from files, rbytea_chunks(c)) to stdout (format binary)",
            )),
            Way::Append => runtime().block_on(read(&self.client)),
            Way::Tool => {
                run(tool(self.cluster).args([
                    "get", "--quiet", "--table", "files", "--column", "c", "--where", "id = 1", "-o", "-",
                ]));
            }
            Way::Import => {
                let path = self.scratch.with_extension("export");
                let path = path.to_str().unwrap();
                self.run("select rbytea_export(c, $1) from files", &[&path]);
            }
            Way::LargeObject => {
                let object: u32 =
                    runtime().block_on(self.client.query_one("select o from objects", &[])).unwrap().get(0);
                run(psql(self.cluster).arg("-c").arg(format!("\\lo_export {object} /dev/null")));
            }
            Way::Bytea => {
                let row = runtime().block_on(self.client.query_one("select c from plain", &[])).unwrap();
                assert_eq!(row.get::<_, &[u8]>(0).len(), self.part.len());
            }
        }
    }

    fn run(&self, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) {
        runtime().block_on(self.client.execute(sql, parameters)).unwrap();
    }

    /// The next way begins with as much as this one.
    fn clear(&self) {
        let admin = self.cluster.session();
        admin.run("truncate files; truncate plain");
        admin.run("select lo_unlink(o) from objects; truncate objects");
        admin.run("vacuum pg_largeobject");
        admin.run("select rvacuum()");
        for database in fs::read_dir(self.cluster.store()).unwrap().flatten() {
            let trash = database.path().join("TRASH");
            if trash.exists() {
                truncate_files(&trash);
            }
        }
        let _ = fs::remove_file(self.scratch.with_extension("export"));
        settle(self.cluster);
    }
}

fn tool(cluster: &Cluster) -> Command {
    cluster.client_command(cluster.tool("rbytea"))
}

fn psql(cluster: &Cluster) -> Command {
    let mut psql = cluster.client_command(cluster.tool("psql"));
    psql.args(["-X", "-q"]);
    psql
}

/// The most memory of the program, in bytes, as it was looked at last. (What wait4(2) says begins with the memory of whoever has forked it.)
fn run(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        if let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            most = line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024;
        }
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{command:?}: {ended}");
            return most;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

async fn begin(client: &Client) -> i64 {
    client.batch_execute("begin").await.unwrap();
    client.query_one("select rbytea_begin()", &[]).await.unwrap().get(0)
}

async fn finish(client: &Client, upload: i64) {
    client.execute("insert into files values (1, null, rbytea_finish($1))", &[&upload]).await.unwrap();
    client.batch_execute("commit").await.unwrap();
}

/// Bytes of a row that is copied in.
const COPIED: usize = 64 << 10;

/// COPY's binary format: postgresql.org/docs/current/sql-copy.html#id-1.9.55.9.4.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

async fn copy_in(client: &Client, source: &Path) {
    let upload = begin(client).await;
    let sink = client.copy_in("copy rbytea_upload from stdin (format binary)").await.unwrap();
    pin_mut!(sink);
    sink.send(Bytes::from_static(HEADER)).await.unwrap();
    let mut source = File::open(source).unwrap();
    loop {
        let mut row = BytesMut::with_capacity(COPIED + 32);
        row.put_i16(2);
        row.put_i32(8);
        row.put_i64(upload);
        row.put_i32(0);
        let head = row.len();
        row.resize(head + COPIED, 0);
        let len = fill(&mut source, &mut row[head..]);
        if len == 0 {
            break;
        }
        row[head - 4..head].copy_from_slice(&(len as i32).to_be_bytes());
        row.truncate(head + len);
        sink.send(row.freeze()).await.unwrap();
    }
    sink.send(Bytes::from_static(&[0xff, 0xff])).await.unwrap();
    sink.finish().await.unwrap();
    finish(client, upload).await;
}

async fn append(client: &Client, source: &Path) {
    let statement = client.prepare("select rbytea_append($1, $2)").await.unwrap();
    let upload = begin(client).await;
    let mut source = File::open(source).unwrap();
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = fill(&mut source, &mut chunk);
        if len == 0 {
            break;
        }
        client.query_one(&statement, &[&upload, &&chunk[..len]]).await.unwrap();
    }
    finish(client, upload).await;
}

/// Reads as much as there is room for; less at the end.
fn fill(source: &mut File, buf: &mut [u8]) -> usize {
    let mut len = 0;
    while len < buf.len() {
        match source.read(&mut buf[len..]).unwrap() {
            0 => break,
            read => len += read,
        }
    }
    len
}

async fn copy_out(client: &Client, sql: &str) {
    let stream = client.copy_out(sql).await.unwrap();
    pin_mut!(stream);
    while let Some(row) = stream.next().await {
        row.unwrap();
    }
}

async fn read(client: &Client) {
    let statement = client.prepare("select rbytea_read(c, $1, $2) from files").await.unwrap();
    let mut offset = 0;
    loop {
        let row = client.query_one(&statement, &[&offset, &(CHUNK as i32)]).await.unwrap();
        let len = row.get::<_, &[u8]>(0).len();
        offset += len as i64;
        if len < CHUNK {
            return;
        }
    }
}

/// The table of rates.
pub fn speed(arguments: &Arguments) {
    let size = arguments.size;
    let cluster = cluster();
    let source = random_file(cluster.dir(), size);
    readable(&source);
    let mut part = vec![0; BYTEA.min(size) as usize];
    File::open(&source).unwrap().read_exact(&mut part).unwrap();
    let bed = Bed {
        cluster: &cluster,
        client: client(&cluster).0,
        scratch: cluster.data().join("scratch"),
        source,
        size,
        part: part.into(),
    };
    let ways = [
        Way::Possible,
        Way::Wire,
        Way::Copy,
        Way::Append,
        Way::Tool,
        Way::Import,
        Way::LargeObject,
        Way::Bytea,
    ];
    let ways: Vec<Way> =
        ways.into_iter().filter(|&way| way != Way::Tool || cluster.tool("rbytea").exists()).collect();
    let mut taken: Vec<(Vec<f64>, Vec<f64>)> = ways.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for round in 0..=arguments.rounds {
        for (&way, (ups, downs)) in ways.iter().zip(&mut taken) {
            settle(&cluster);
            let bytes = if way == Way::Bytea { BYTEA.min(size) } else { size } as f64;
            let up = bytes / seconds(|| bed.up(way));
            let down = bytes / seconds(|| bed.down(way));
            eprintln!("{round}: {}: {:.0} {:.0}", way.name(), up / 1e6, down / 1e6);
            if round > 0 {
                ups.push(up);
                downs.push(down);
            }
            bed.clear();
        }
    }
    println!(
        "| {} MiB, median of {} rounds | in, MB/s | of what is possible | out, MB/s | of what is possible |",
        size >> 20,
        arguments.rounds
    );
    println!("|---|--:|--:|--:|--:|");
    let (possible_up, possible_down) = taken[0].clone();
    for (way, (ups, downs)) in ways.iter().zip(&taken) {
        let ratio =
            |own: &[f64], other: &[f64]| median(own.iter().zip(other).map(|(own, other)| own / other));
        if way == &Way::Wire {
            let down = median(downs.iter().copied()) / 1e6;
            println!("| {} | | | {down:.0} | {:.2} |", way.name(), ratio(downs, &possible_down));
            continue;
        }
        println!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.2} |",
            way.name(),
            median(ups.iter().copied()) / 1e6,
            ratio(ups, &possible_up),
            median(downs.iter().copied()) / 1e6,
            ratio(downs, &possible_down),
        );
    }
    println!();
}

/// The table of memory.
pub fn memory(arguments: &Arguments) {
    let cluster = cluster();
    let source = random_file(cluster.dir(), arguments.large);
    readable(&source);
    println!(
        "| {} MiB, private memory in MiB | server, in | server, out | client, in | client, out |",
        arguments.large >> 20
    );
    println!("|---|--:|--:|--:|--:|");
    for way in [Way::Copy, Way::Append, Way::Import, Way::Tool] {
        if way == Way::Tool && !cluster.tool("rbytea").exists() {
            continue;
        }
        let (client, pid) = client(&cluster);
        let scratch = cluster.data().join("scratch");
        let size = arguments.large;
        let bed =
            Bed { cluster: &cluster, client, source: source.clone(), size, part: Bytes::new(), scratch };
        let peaks: Vec<(String, String)> = [true, false]
            .map(|up| {
                if way == Way::Tool {
                    return tool_memory(&bed, up);
                }
                mark_memory(pid);
                if up {
                    bed.up(way)
                } else {
                    bed.down(way)
                }
                (mib(private_peak(pid)), "–".to_owned())
            })
            .into();
        let digest = cluster.session().text("select sha256sum(c) from files");
        assert_eq!(digest, sha256(&source), "{}", way.name());
        println!("| {} | {} | {} | {} | {} |", way.name(), peaks[0].0, peaks[1].0, peaks[0].1, peaks[1].1);
        bed.clear();
    }
    println!();
}

/// The tool's backend is seen in what the server says of it when it ends.
fn tool_memory(bed: &Bed<'_>, up: bool) -> (String, String) {
    let mut command = tool(bed.cluster);
    if up {
        command
            .args(["put", "--quiet", "--table", "files", "--column", "c", "--set", "id=1"])
            .arg(&bed.source);
    } else {
        command.args(["get", "--quiet", "--table", "files", "--column", "c", "--where", "id = 1", "-o", "-"]);
    }
    ("–".to_owned(), mib(run(&mut command)))
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// The server's user reads it.
fn readable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}
