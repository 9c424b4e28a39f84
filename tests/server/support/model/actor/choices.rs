//! What a session chooses at random: numbers, bytes, tables, rows.

use rand::RngExt;

use super::Actor;
use crate::support::model::pairs::{Pair, Side};
use crate::support::model::trouble::Done;

impl Actor<'_> {
    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end.max(1))
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    /// A number for gen().
    pub fn seed(&mut self) -> i32 {
        self.rng.random_range(0..1 << 20)
    }

    /// Bytes of a payload: mostly few, now and then some hundred thousand.
    pub fn size(&mut self) -> u32 {
        let limit = match self.below(100) {
            0..20 => return self.one_of(&[0, 1, 2, 31, 77, 78, 79, 125, 126, 127, 1999, 2000, 8160]),
            20..50 => 100,
            50..80 => 3_000,
            80..94 => 20_000,
            94..98 => 100_000,
            _ => 300 << 10,
        };
        self.below(limit + 1)
    }

    /// A payload of random bytes, or of one byte often.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![self.below(256) as u8; self.size() as usize];
        if self.chance(0.8) {
            self.rng.fill(&mut bytes[..]);
        }
        bytes
    }

    /// A pair to write to, of those that `wanted` admits; in a transaction also one that was created on the way.
    pub fn pair(&mut self, wanted: impl Fn(&Pair) -> bool) -> Done<Pair> {
        if self.transaction.is_some()
            && self.chance(0.2)
            && let Some(created) = self.created()?
            && wanted(&created)
        {
            return Ok(created);
        }
        let pairs: Vec<Pair> = Pair::all().into_iter().filter(wanted).collect();
        Ok(pairs[self.below(pairs.len() as u32) as usize].clone())
    }

    /// A pair to copy from.
    pub fn source(&mut self) -> Done<Pair> {
        if self.chance(0.1) { Ok(Pair::shadow()) } else { self.pair(|_| true) }
    }

    /// A pair that was created on the way. In a transaction it is locked against DROP TABLE.
    pub fn created(&mut self) -> Done<Option<Pair>> {
        let created = "select substr(relname, 3)::int from pg_class where relname ~ '^x_[0-9]+$' order by 1";
        let numbers: Vec<i32> = self.rows(created, &[])?.iter().map(|row| row.get(0)).collect();
        if numbers.is_empty() {
            return Ok(None);
        }
        let pair = Pair::created(self.one_of(&numbers));
        if self.transaction.is_some() {
            let usual = std::mem::replace(&mut self.tolerates, &["42P01"]);
            let (table, twin) = (pair.on(Side::Real), pair.on(Side::Twin));
            self.run(&format!("lock table {table}, {twin} in access share mode"))?;
            self.tolerates = usual;
        }
        Ok(Some(pair))
    }

    /// Ids of up to `most` rows, locked against all other sessions: what happens to a row happens to its twin too.
    pub fn lock_rows(&mut self, pair: &Pair, most: u32) -> Done<Vec<i32>> {
        let (salt, limit) = (self.seed(), i64::from(1 + self.below(most)));
        let sql = format!(
            "select distinct id, hashint4(id + {salt}) from {} order by 2 limit {limit}",
            pair.on(Side::Twin)
        );
        let mut ids: Vec<i32> = self.rows(&sql, &[])?.iter().map(|row| row.get(0)).collect();
        ids.sort_unstable();
        self.rows("select pg_advisory_xact_lock($1, id) from unnest($2::int[]) id", &[&pair.key, &ids])?;
        Ok(ids)
    }
}
