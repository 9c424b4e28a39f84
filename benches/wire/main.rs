//! What it costs that clients see bytea: reads of a payload as bytea (through the hook), as the type itself
//! (`rbytea.client_type = rbytea`) and from a column of type bytea; and a `SELECT 1` where the hook has nothing to do.
//! `make bench-wire` runs it and prints the tables, which docs/SPEED.md quotes. All contestants take turns in one run.
//!
//! Arguments, each optional: `rounds=15`, `sizes=4096,65536,1048576,16777216`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;

use std::time::Instant;

use common::cluster::Cluster;
use common::session::{Session, block_on};
use tokio_postgres::types::FromSql;
use tokio_postgres::{Statement, types::Type};

/// A turn reads about so many bytes, but at least and at most so many payloads.
const TURN: u64 = 64 << 20;
const READS: std::ops::RangeInclusive<u64> = 8..=2000;
/// Statements of a turn.
const STATEMENTS: usize = 5000;

/// The bytes of a result, whatever its type is.
struct Bytes(usize);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.len()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn main() {
    common::on_disk();
    let (mut rounds, mut sizes) = (15, vec![4 << 10, 64 << 10, 1 << 20, 16 << 20_u64]);
    // cargo bench adds --bench.
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.split_once('=') {
            Some(("rounds", number)) => rounds = number.parse().expect("a number"),
            Some(("sizes", list)) => {
                sizes = list.split(',').map(|size| size.parse().expect("a number")).collect();
            }
            _ => panic!("no such argument: {argument}"),
        }
    }
    println!("{}\n", common::machine());
    reads(&sizes, rounds);
    statements(rounds);
}

/// Prints what a read takes.
fn reads(sizes: &[u64], rounds: usize) {
    let cluster = Cluster::with_extension_and(&["shared_buffers = '1GB'", "max_wal_size = '8GB'"]);
    let db = cluster.session();
    println!("{}\n", db.text("select version()"));
    println!(
        "| median of {rounds} turns, µs a read | as bytea | as rbytea | bytea column | as bytea to as rbytea | as bytea to bytea column |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    db.run(
        "create table t (n int, r rbytea, b bytea); alter table t alter b set storage external;
         create function noise(bytes bigint) returns bytea language sql volatile as
         $$ select decode(string_agg(md5(random()::text), ''), 'hex') from generate_series(1, bytes / 16) $$",
    );
    for &size in sizes {
        let rows = (TURN / size).clamp(4, 64);
        db.run(&format!(
            "truncate t; insert into t select n, x, x from generate_series(1, {rows}) n, lateral (select noise({size} + 0 * n) as x offset 0) x"
        ));
        db.run("vacuum analyze t");
        let [hook, itself, column] = [(); 3].map(|()| cluster.session());
        itself.run("set rbytea.client_type = rbytea");
        let contestants = [(&hook, "r"), (&itself, "r"), (&column, "b")].map(|(session, column)| {
            let sql = format!("select {column} from t where n = $1");
            (session, block_on(session.client().prepare(&sql)).unwrap())
        });
        let reads = (TURN / size).clamp(*READS.start(), *READS.end());
        let mut times: [Vec<f64>; 3] = [const { Vec::new() }; 3];
        for round in 0..=rounds {
            for turn in 0..3 {
                let which = (round + turn) % 3;
                let (session, statement) = &contestants[which];
                let micros = read(session, statement, reads, rows, size);
                // The first turn of each warms up.
                if round > 0 {
                    times[which].push(micros);
                }
            }
        }
        let [hook, itself, column] = times.map(common::median);
        println!(
            "| {size} bytes | {hook:.0} | {itself:.0} | {column:.0} | {:.3} | {:.3} |",
            hook / itself,
            hook / column
        );
    }
}

/// Microseconds a read.
fn read(session: &Session, statement: &Statement, reads: u64, rows: u64, size: u64) -> f64 {
    let begin = Instant::now();
    block_on(async {
        for n in 0..reads {
            let row = i32::try_from(n % rows + 1).unwrap();
            let row = session.client().query_one(statement, &[&row]).await.unwrap();
            assert_eq!(row.get::<_, Bytes>(0).0 as u64, size);
        }
    });
    begin.elapsed().as_secs_f64() * 1e6 / reads as f64
}

/// Prints what a statement takes that has nothing to do with the type.
fn statements(rounds: usize) {
    let cluster = Cluster::with_extension();
    cluster.session().run("create database without");
    let bare = Cluster::running_with(&["shared_preload_libraries = ''"]);
    let sessions = [
        ("database with the extension", cluster.session()),
        ("the same, `client_type = rbytea`", cluster.session()),
        ("database without the extension", cluster.session_in("without")),
        ("server without the library", bare.session()),
    ];
    sessions[1].1.run("set rbytea.client_type = rbytea");
    let mut times: [Vec<f64>; 4] = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        for turn in 0..4 {
            let which = (round + turn) % 4;
            let client = sessions[which].1.client();
            let begin = Instant::now();
            block_on(async {
                for _ in 0..STATEMENTS {
                    client.simple_query("select 1").await.unwrap();
                }
            });
            if round > 0 {
                times[which].push(begin.elapsed().as_secs_f64() * 1e6 / STATEMENTS as f64);
            }
        }
    }
    println!(
        "\n| `SELECT 1`, median of {rounds} turns of {STATEMENTS} | µs a statement | to a server without the library |"
    );
    println!("|---|--:|--:|");
    let medians = times.map(common::median);
    for ((name, _), median) in sessions.iter().zip(medians) {
        println!("| {name} | {median:.2} | {:.3} |", median / medians[3]);
    }
}
