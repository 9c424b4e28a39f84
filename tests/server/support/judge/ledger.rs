//! What was stored, kept outside of the server: the digest of each payload by the number of its row. A server that reads back what
//! it has stored is compared with this, never with itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use tokio_postgres::error::SqlState;

use crate::evidence::Found;
use crate::support::payload::Payload;
use crate::support::session::{Session, block_on};
use crate::support::twins::noise;

/// Digests of what the rows of one table hold, by the column `n`.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<i32, blake3::Hash>);

impl Ledger {
    /// What rows with these numbers hold, if each has the payload of its number.
    pub fn of(numbers: impl IntoIterator<Item = i32>, payload: impl Fn(i32) -> Payload) -> Self {
        Self(numbers.into_iter().map(|n| (n, blake3::hash(&payload(n).0))).collect())
    }

    /// Runs a statement with the parameters `$1`, a row's number, and `$2`, a new payload for it, and notes the payload.
    #[track_caller]
    pub fn store(&mut self, db: &Session, sql: &str, n: i32) {
        let at = u64::from(n.unsigned_abs()) * 31 + self.0.len() as u64;
        // Small, about a page, and larger than what is read at once.
        let len = [0, 1, 78, 900, 8192, 70_001, 300_000][n.unsigned_abs() as usize % 7];
        let payload = Payload(noise(len, at));
        assert_eq!(db.execute(sql, &[&n, &payload]), 1, "{sql} has not changed one row");
        self.0.insert(n, blake3::hash(&payload.0));
    }

    /// Inserts rows `(n, r)` with these numbers.
    #[track_caller]
    pub fn insert(&mut self, db: &Session, table: &str, numbers: RangeInclusive<i32>) {
        for n in numbers {
            self.store(db, &format!("insert into {table} (n, r) values ($1, $2)"), n);
        }
    }

    /// Inserts a row; false if that was not acknowledged.
    pub fn try_insert(&mut self, db: &Session, table: &str, n: i32) -> bool {
        let payload = Payload(noise(900, u64::from(n.unsigned_abs())));
        let sql = format!("insert into {table} (n, r) values ($1, $2)");
        let acknowledged = block_on(db.client().execute(&sql, &[&n, &payload])).is_ok();
        if acknowledged {
            self.0.insert(n, blake3::hash(&payload.0));
        }
        acknowledged
    }

    /// Gives these rows other payloads.
    #[track_caller]
    pub fn update(&mut self, db: &Session, table: &str, numbers: RangeInclusive<i32>) {
        for n in numbers {
            self.store(db, &format!("update {table} set r = $2 where n = $1"), n);
        }
    }

    /// Deletes rows.
    #[track_caller]
    pub fn delete(&mut self, db: &Session, table: &str, numbers: RangeInclusive<i32>) {
        for n in numbers {
            assert_eq!(db.execute(&format!("delete from {table} where n = $1"), &[&n]), 1);
            self.0.remove(&n);
        }
    }

    /// The rows that another table should have: those whose numbers this accepts.
    pub fn only(&self, which: impl Fn(i32) -> bool) -> Self {
        Self(self.0.iter().filter(|(n, _)| which(**n)).map(|(n, digest)| (*n, *digest)).collect())
    }

    /// The rows of two tables in one.
    pub fn with(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }

    /// Notes that the row `to` has what the row `from` has.
    pub fn copied(&mut self, from: i32, to: i32) {
        self.0.insert(to, self.0[&from]);
    }

    /// Whether this is the payload of that row.
    pub fn is(&self, n: i32, payload: &Payload) -> bool {
        self.0.get(&n).is_some_and(|digest| blake3::hash(&payload.0) == *digest)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of different payloads.
    pub fn distinct(&self) -> usize {
        self.0.values().map(|digest| *digest.as_bytes()).collect::<BTreeSet<_>>().len()
    }

    /// Reads every row of the table in binary format and compares it. Rows too many count as lost ones: no client has inserted them.
    #[track_caller]
    pub fn compare(&self, db: &Session, table: &str) -> Found {
        let mut found = Found { cases: self.0.len() as u64, ..Found::default() };
        let numbers: Vec<i32> = db.column(&format!("select n from {table} order by n"), &[]);
        let surplus = numbers.iter().filter(|n| !self.0.contains_key(n)).count();
        let missing = self.0.keys().filter(|n| !numbers.contains(n)).count();
        found.lost += (surplus + missing + duplicates(&numbers)) as u64;
        for (n, digest) in &self.0 {
            let read = block_on(db.client().query(&format!("select r from {table} where n = $1"), &[n]));
            match read {
                Ok(rows) => {
                    let same = rows.iter().all(|row| {
                        row.get::<_, Option<Payload>>(0).is_some_and(|read| blake3::hash(&read.0) == *digest)
                    });
                    found.lost += u64::from(!same);
                }
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_FILE) => found.dangling += 1,
                Err(_) => found.lost += 1,
            }
        }
        found
    }

    /// Fails unless every row is there with its payload; returns the number of rows.
    #[track_caller]
    pub fn assert_equal(&self, db: &Session, table: &str) -> u64 {
        let found = self.compare(db, table);
        assert_eq!((found.lost, found.dangling), (0, 0), "{table} is not what was stored: {found:?}");
        found.cases
    }
}

fn duplicates(sorted: &[i32]) -> usize {
    sorted.windows(2).filter(|pair| pair[0] == pair[1]).count()
}
