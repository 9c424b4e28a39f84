//! Payloads whose digests the test knows and no server does: the number of a row says what its bytes have to be.

use crate::evidence::Found;
use crate::support::judge::ledger::Ledger;
use crate::support::payload::Payload;
use crate::support::session::Session;
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

/// Inserts these rows, each in a transaction of its own.
pub fn store(db: &Session, numbers: impl IntoIterator<Item = i32>) {
    for n in numbers {
        db.execute("insert into p values ($1, $2)", &[&n, &payload(n)]);
    }
}

/// Compares the payload of every row of `p` with what its number says. Rows of `needed` that are not there at all are lost.
#[track_caller]
pub fn judge(db: &Session, needed: impl IntoIterator<Item = i32>) -> Found {
    let there: Vec<i32> = db.column("select n from p", &[]);
    Ledger::of(there.into_iter().chain(needed), payload).compare(db, "p")
}

/// The same where nothing may be missing: the number of payloads that were read.
#[track_caller]
pub fn assert_whole(db: &Session, needed: impl IntoIterator<Item = i32>) -> u64 {
    let found = judge(db, needed);
    assert_eq!((found.lost, found.dangling), (0, 0), "lost, dangling of {} payloads", found.cases);
    found.cases
}
