//! Payloads whose digests the test knows and no server does: the number of a row says what its bytes have to be.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;

use crate::evidence::Found;
use crate::support::payload::Payload;
use crate::support::session::{Session, block_on};
use crate::support::twins::noise;

/// Rows of this table are judged.
pub const TABLE: &str = "create table p (n int primary key, r rbytea)";

/// The bytes of row `n`, of lengths that differ: empty ones, small ones, ones of many blocks.
pub fn payload(n: i32) -> Payload {
    let len = match n % 8 {
        0 => 0,
        1 => 120_000,
        k => 300 * k as usize + n as usize % 97,
    };
    Payload(noise(len, n as u64))
}

/// What is kept outside of the server.
fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Inserts these rows, each in a transaction of its own.
pub fn store(db: &Session, numbers: impl IntoIterator<Item = i32>) {
    for n in numbers {
        db.execute("insert into p values ($1, $2)", &[&n, &payload(n)]);
    }
}

/// Reads the payload of every row of `p` and compares digests. Rows of `needed` that are not there at all are lost.
#[track_caller]
pub fn judge(db: &Session, needed: impl IntoIterator<Item = i32>) -> Found {
    let mut found = Found::default();
    let there: BTreeSet<i32> = db.column("select n from p", &[]).into_iter().collect();
    for n in &there {
        found.cases += 1;
        match block_on(db.client().query_one("select r from p where n = $1", &[n])) {
            Ok(row) => {
                let Payload(bytes) = row.get(0);
                found.lost += u64::from(digest(&bytes) != digest(&payload(*n).0));
            }
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_FILE) => found.dangling += 1,
            Err(error) => panic!("row {n}: {error}"),
        }
    }
    found.lost += needed.into_iter().filter(|n| !there.contains(n)).count() as u64;
    found
}

/// The same where nothing may be missing: the number of payloads that were read.
#[track_caller]
pub fn assert_whole(db: &Session, needed: impl IntoIterator<Item = i32>) -> u64 {
    let found = judge(db, needed);
    assert_eq!((found.lost, found.dangling), (0, 0), "lost, dangling of {} payloads", found.cases);
    found.cases
}
