//! What the clients of a campaign share: the tables, the payloads that were ever sent with their digests, and where each
//! client's backend is.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use super::transactions::{Heard, Seed};
use crate::support::twins::noise;

/// Clients at work at the same time.
pub const CLIENTS: usize = 5;

/// Bytes of a payload, and its SHA-256 in hexadecimal.
pub fn payload(rng: &mut StdRng) -> Vec<u8> {
    let longest = match rng.random_range(0..100) {
        0..60 => 2_000,
        60..90 => 20_000,
        90..99 => 100_000,
        _ => 1_000_000,
    };
    noise(rng.random_range(0..longest), rng.random())
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// Most wait for their WAL, some do not.
    Mixed,
    /// None waits for its WAL, which is written by the WAL writer, or when another commit flushes it.
    Asynchronous,
}

/// One campaign.
pub struct World {
    /// How a client reaches the server.
    pub config: tokio_postgres::Config,
    /// The backend of each client; 0 while it has none.
    pub desks: [AtomicI32; CLIENTS],
    /// What commits wait for.
    pub commits: Commits,
    /// Whether clients do what makes the server write its WAL, apart from the vacuum: prepare transactions, which hold back the
    /// horizon too, truncate tables, make databases and checkpoints.
    pub flushes: AtomicBool,
    seed: u64,
    next: AtomicI64,
    digests: Mutex<HashMap<Seed, String>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl World {
    /// For the server that is reached like this.
    pub fn new(config: tokio_postgres::Config, seed: u64, commits: Commits) -> Self {
        let (next, digests, counts) = (AtomicI64::new(1), Mutex::default(), Mutex::default());
        let flushes = AtomicBool::new(true);
        Self { config, desks: Default::default(), commits, flushes, seed, next, digests, counts }
    }

    /// What the client hears of a commit that is acknowledged.
    pub fn acknowledged(&self) -> Heard {
        if self.commits == Commits::Mixed { Heard::Durable } else { Heard::Acknowledged }
    }

    /// A source of random choices with a seed of its own.
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(self.next.fetch_add(1, SeqCst) as u64))
    }

    /// A payload that was never sent, and what it is known by from now on.
    pub fn payload(&self, rng: &mut StdRng) -> (Seed, Vec<u8>) {
        let (seed, bytes) = (self.next.fetch_add(1, SeqCst), payload(rng));
        let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        lock(&self.digests).insert(seed, digest);
        (seed, bytes)
    }

    /// Whether this is the digest of the payload with this number.
    pub fn is_digest_of(&self, digest: &str, seed: Seed) -> bool {
        lock(&self.digests).get(&seed).is_some_and(|known| known == digest)
    }

    /// Counts something that was done.
    pub fn count(&self, what: &str) {
        let mut counts = lock(&self.counts);
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        }
    }

    /// Everything that was counted.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (what, count) in &*lock(&self.counts) {
            let _ = write!(text, "{}{what} {count}", if text.is_empty() { "" } else { ", " });
        }
        text
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tables, functions and keys that the clients work with.
pub fn setup() -> String {
    let ordinary =
        |name: &str| format!("create table {name} (id bigint primary key, seed bigint not null, r rbytea);");
    let own: String = (0..CLIENTS).map(|client| ordinary(&format!("own_{client}"))).collect();
    format!(
        "{}{own}
         create table lists (id bigint primary key, seeds bigint[] not null, rs rbytea[]);
         create function keep(new_id bigint, new_seed bigint, payload bytea) returns void language plpgsql as $$
             declare v rbytea; begin
                 begin
                     v := rbytea_store(payload);
                     insert into shared values (-1, -1, payload), (-1, -1, payload);
                 exception when unique_violation then null; end;
                 insert into shared values (new_id, new_seed, v);
             end $$;
         create procedure hold(new_id bigint, new_seed bigint, payload bytea) language plpgsql as $$
             declare v rbytea; begin
                 v := rbytea_store(payload);
                 rollback;
                 insert into shared values (new_id, new_seed, v);
                 commit;
             end $$;",
        ordinary("shared"),
    )
}
