//! What a client knows by itself of the rows that it alone changes: which transactions the server has acknowledged, in
//! their order, and whose outcome it was not told. After a crash the rows must be those that some allowed
//! number of these transactions leaves.

use std::collections::{BTreeMap, BTreeSet};

/// What a payload is made from; no two payloads have the same.
pub type Seed = i64;

/// A table and an id.
pub type Key = (String, i64);

/// Rows and their payloads: one in an ordinary row, several in a row with an array.
pub type Rows = BTreeMap<Key, Vec<Seed>>;

/// Rows that come, change or go.
pub type Changes = Vec<(Key, Option<Vec<Seed>>)>;

/// What the client heard of the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has been committed, and no crash may take it back.
    Durable,
    /// It has been committed with `synchronous_commit = off`: a crash may take it back, and what came after it.
    Acknowledged,
    /// Nothing: the connection broke. It has happened as a whole, or not at all.
    Nothing,
}

/// A prepared transaction.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What it will change.
    pub changes: Changes,
    /// PREPARE TRANSACTION was acknowledged.
    pub acknowledged: bool,
    /// The connection broke during this second phase: true for COMMIT PREPARED.
    pub ending: Option<bool>,
}

/// The transactions of one client, and the rows that they leave.
#[derive(Default)]
pub struct Transactions {
    /// As the last crash has left the rows.
    base: Rows,
    /// What has been committed since, or may have been.
    since: Vec<(Changes, Heard)>,
    /// The rows after all of that.
    now: Rows,
    /// Prepared transactions by their names.
    pub prepared: BTreeMap<String, Prepared>,
    ids: i64,
}

impl Transactions {
    /// An id that no row of this client has had.
    pub fn id(&mut self) -> i64 {
        self.ids += 1;
        self.ids
    }

    /// The rows as the client has to see them.
    pub fn rows(&self) -> &Rows {
        &self.now
    }

    /// Rows that prepared transactions have locked.
    pub fn frozen(&self) -> BTreeSet<Key> {
        let changes = self.prepared.values().flat_map(|prepared| &prepared.changes);
        changes.map(|(key, _)| key.clone()).collect()
    }

    /// The end of a transaction.
    pub fn committed(&mut self, changes: Changes, heard: Heard) {
        if !changes.is_empty() {
            apply(&mut self.now, &changes);
            self.since.push((changes, heard));
        }
    }

    /// The second phase of a prepared transaction was acknowledged. It is durable, however the session commits.
    pub fn ended(&mut self, gid: &str, commit: bool) {
        if let Some(prepared) = self.prepared.remove(gid)
            && commit
        {
            self.committed(prepared.changes, Heard::Durable);
        }
    }

    /// After a crash: compares with the transactions that are still prepared, and with the rows that are there. What is there
    /// is what the client goes on from. Returns a line for each row and prepared transaction that is not as it has to be.
    pub fn recover(&mut self, prepared: &BTreeSet<String>, found: Rows) -> Vec<String> {
        let mut losses = self.recover_prepared(prepared);
        let durable =
            self.since.iter().rposition(|(_, heard)| *heard == Heard::Durable).map_or(0, |at| at + 1);
        let mut state = self.base.clone();
        let mut nearest = None;
        for done in 0..=self.since.len() {
            if done > 0 {
                apply(&mut state, &self.since[done - 1].0);
            }
            if done >= durable {
                let different = differences(&state, &found);
                let better = nearest.as_ref().is_none_or(|nearest: &Vec<_>| different.len() < nearest.len());
                if better {
                    nearest = Some(different);
                }
            }
        }
        losses.extend(nearest.unwrap_or_default());
        self.since.clear();
        self.now = found.clone();
        self.base = found;
        losses
    }

    fn recover_prepared(&mut self, found: &BTreeSet<String>) -> Vec<String> {
        let mut losses = Vec::new();
        for (gid, prepared) in std::mem::take(&mut self.prepared) {
            if found.contains(&gid) {
                let known = Prepared { acknowledged: true, ending: None, ..prepared };
                self.prepared.insert(gid, known);
                continue;
            }
            match prepared.ending {
                // It has been committed just before the crash, as a whole.
                Some(true) => self.committed(prepared.changes, Heard::Durable),
                Some(false) => {}
                None if prepared.acknowledged => {
                    losses.push(format!("prepared transaction {gid} is gone"));
                }
                None => {}
            }
        }
        losses
    }
}

fn apply(rows: &mut Rows, changes: &Changes) {
    for (key, seeds) in changes {
        match seeds {
            Some(seeds) => rows.insert(key.clone(), seeds.clone()),
            None => rows.remove(key),
        };
    }
}

/// The rows with changes that are not committed yet.
pub fn with(rows: &Rows, changes: &Changes) -> Rows {
    let mut rows = rows.clone();
    apply(&mut rows, changes);
    rows
}

/// A line for each row that differs.
fn differences(expected: &Rows, found: &Rows) -> Vec<String> {
    let keys: BTreeSet<&Key> = expected.keys().chain(found.keys()).collect();
    let differing = keys.into_iter().filter(|key| expected.get(key) != found.get(key));
    differing
        .map(|key| {
            let (table, id) = key;
            format!("{table} {id}: expected {:?}, found {:?}", expected.get(key), found.get(key))
        })
        .collect()
}
