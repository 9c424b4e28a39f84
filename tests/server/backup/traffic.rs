//! Sessions that insert, delete and replace rows of `p`, and one that vacuums, while a backup is taken.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::backup::payloads::payload;
use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// Which rows there have to be.
#[derive(Default)]
pub struct Traffic {
    /// The last number that was given to a row; none is ever given twice.
    last: AtomicI32,
    /// Rows whose transaction has been acknowledged.
    committed: Mutex<BTreeSet<i32>>,
    /// Rows that a session has begun to delete.
    doomed: Mutex<BTreeSet<i32>>,
    /// Payloads that the vacuum has moved.
    moved: AtomicU32,
}

impl Traffic {
    /// Rows that are committed and that no session has begun to delete.
    pub fn committed(&self) -> BTreeSet<i32> {
        let committed = self.committed.lock().unwrap();
        committed.difference(&self.doomed.lock().unwrap()).copied().collect()
    }

    /// Those of these rows that no session has begun to delete since.
    pub fn spared(&self, mut rows: BTreeSet<i32>) -> BTreeSet<i32> {
        let doomed = self.doomed.lock().unwrap();
        rows.retain(|n| !doomed.contains(n));
        rows
    }

    /// Files that the vacuum has moved so far.
    pub fn moved(&self) -> u32 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Inserts so many rows before anything else happens.
    pub fn fill(&self, db: &Session, rows: usize) {
        for _ in 0..rows {
            self.insert(db);
        }
    }

    /// Runs `work` while two writers and the vacuum are busy; each has done something before it begins.
    pub fn during<T>(&self, cluster: &Cluster, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let busy = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (session, done, busy) = (cluster.session(), &done, &busy);
                scope.spawn(move || {
                    let mut turn = 0;
                    while !done.load(Ordering::Relaxed) {
                        self.turn(&session, writer + turn);
                        turn += 1;
                        if turn == 10 {
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let (session, finished, vacuuming) = (cluster.session(), &done, &busy);
            scope.spawn(move || {
                let mut told = false;
                while !finished.load(Ordering::Relaxed) {
                    // A horizon that moves during each of its attempts is a reason to give up, with nothing moved.
                    let run = session.try_run("select rvacuum()");
                    if let Err(error) = &run {
                        assert_eq!(error.code().map(|code| code.code()), Some("55000"), "{error}");
                    }
                    let moved: i64 = session.one(
                        "select coalesce(sum(trashed), 0)::int8 from rbytea.rbytea_vacuum_history where error is null",
                        &[],
                    );
                    self.moved.store(moved as u32, Ordering::Relaxed);
                    if !std::mem::replace(&mut told, true) {
                        vacuuming.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let _end = Ending(&done);
            crate::support::cluster::wait_until(crate::support::cluster::PATIENCE, || {
                busy.load(Ordering::Relaxed) == 3
            });
            let (moved, result) = (self.moved(), work());
            crate::support::cluster::wait_until(crate::support::cluster::PATIENCE, || self.moved() > moved);
            result
        })
    }

    fn insert(&self, db: &Session) -> i32 {
        let n = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        db.execute("insert into p values ($1, $2)", &[&n, &payload(n)]);
        self.committed.lock().unwrap().insert(n);
        n
    }

    fn turn(&self, db: &Session, turn: i32) {
        match turn % 4 {
            0 => {
                let n = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                db.run("begin");
                db.execute("insert into p values ($1, $2)", &[&n, &payload(n)]);
                db.run("rollback");
            }
            1 => {
                self.insert(db);
            }
            _ => self.delete_some(db),
        }
    }

    /// Deletes one of the older rows, or gives its place to another one.
    fn delete_some(&self, db: &Session) {
        let victim = {
            let committed = self.committed.lock().unwrap();
            let mut doomed = self.doomed.lock().unwrap();
            let Some(victim) = committed.iter().copied().find(|n| n % 3 != 0 && !doomed.contains(n)) else {
                return;
            };
            doomed.insert(victim);
            victim
        };
        if victim % 2 == 0 {
            db.execute("delete from p where n = $1", &[&victim]);
        } else {
            let n = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            db.execute("update p set n = $1, r = $2 where n = $3", &[&n, &payload(n), &victim]);
            self.committed.lock().unwrap().insert(n);
        }
    }
}

/// Ends the sessions also when `work` fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
