//! A client that changes a database, makes databases from it, reads them, and drops them again.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use rand::RngExt;
use rand::rngs::StdRng;

use super::client::{Done, Trouble, trouble};
use super::judge;
use super::transactions::{Changes, Heard, Rows, Transactions};
use super::world::{Commits, World};
use crate::support::cluster::{Cluster, POSTGRES};
use crate::support::judge::Verdict;
use crate::support::session::{Params, Session, block_on};

/// The template.
pub const SOURCE: &str = "source";

/// A database that was made from it.
struct Copy {
    /// What it was made with.
    rows: Rows,
    /// CREATE DATABASE was acknowledged.
    acknowledged: bool,
    /// DROP DATABASE has begun.
    dropping: bool,
}

/// The template and its copies, as the client knows them.
#[derive(Default)]
pub struct Clones {
    source: Transactions,
    copies: BTreeMap<String, Copy>,
    names: u64,
}

impl Clones {
    /// Makes the template.
    pub fn set_up(cluster: &Cluster) {
        cluster.session().run(&format!("create database {SOURCE}"));
        cluster.session_in(SOURCE).run(
            "create extension rbytea; create table t (id bigint primary key, seed bigint not null, r rbytea)",
        );
    }

    /// Works until the server is killed. An error is a bug.
    pub fn work(&mut self, world: &World) -> Result<(), String> {
        let mut rng = world.rng();
        loop {
            match self.turn(world, &mut rng) {
                Ok(()) => world.count("databases"),
                // The background worker was connected to the template.
                Err(Trouble::Refused) => world.count("database refused"),
                Err(Trouble::Gone) => return Ok(()),
                Err(Trouble::Bug(bug)) => return Err(bug),
            }
        }
    }

    fn turn(&mut self, world: &World, rng: &mut StdRng) -> Done {
        self.change_source(world, rng)?;
        if !world.flushes.load(SeqCst) {
            return Ok(());
        }
        let db = connect(world, POSTGRES)?;
        self.names += 1;
        let name = format!("copy_{}", self.names);
        let rows = self.source.rows().clone();
        self.copies.insert(name.clone(), Copy { rows, acknowledged: false, dropping: false });
        let strategy = if rng.random_bool(0.7) { "wal_log" } else { "file_copy" };
        let made = run(&db, &format!("create database {name} template {SOURCE} strategy {strategy}"));
        match &made {
            Ok(()) => self.copies.entry(name.clone()).and_modify(|copy| copy.acknowledged = true).key(),
            Err(Trouble::Gone) => return made,
            Err(_) => return self.copies.remove(&name).map_or(Ok(()), |_| made),
        };
        let sums = "select id from t where sha256sum(r) is null";
        let copy = connect(world, &name)?;
        block_on(copy.client().query(sums, &[])).map_err(|error| trouble(sums, &error))?;
        drop(copy);
        // Two stay at most, to be read after a crash.
        while self.copies.len() > 2 {
            let Some(name) = self.copies.keys().next().cloned() else { break };
            self.copies.entry(name.clone()).and_modify(|copy| copy.dropping = true);
            run(&db, &format!("drop database {name}"))?;
            self.copies.remove(&name);
        }
        Ok(())
    }

    /// Some transactions in the template.
    fn change_source(&mut self, world: &World, rng: &mut StdRng) -> Done {
        let db = connect(world, SOURCE)?;
        for _ in 0..rng.random_range(1..4) {
            let mut changes = Changes::new();
            run(&db, "begin")?;
            for _ in 0..rng.random_range(1..5) {
                let (id, (seed, payload)) = (self.source.id(), world.payload(rng));
                execute(&db, "insert into t values ($1, $2, $3::bytea)", &[&id, &seed, &payload])?;
                changes.push((("t".to_owned(), id), Some(vec![seed])));
            }
            if let Some((key, _)) = self.source.rows().iter().nth(20) {
                execute(&db, "delete from t where id <= $1", &[&key.1])?;
                let gone = self.source.rows().keys().filter(|other| other.1 <= key.1);
                changes.extend(gone.map(|key| (key.clone(), None)));
            }
            let done = run(&db, "commit");
            match &done {
                Ok(()) => self.source.committed(changes, world.acknowledged()),
                Err(Trouble::Gone) => self.source.committed(changes, Heard::Nothing),
                Err(_) => {}
            }
            done?;
        }
        Ok(())
    }

    /// After a crash: the template against what the client knows, and each database that there is, or has to be.
    pub fn after_a_crash(&mut self, cluster: &Cluster, world: &World, verdict: &mut Verdict) {
        let rows = judge::read_table(&cluster.session_in(SOURCE), world, "t", verdict);
        let losses = self.source.recover(&Default::default(), rows);
        verdict.lost(losses.into_iter().map(|what| format!("{SOURCE}: {what}")));

        let db = cluster.session();
        let found = db
            .rows("select datname::text, datconnlimit = -2 from pg_database where datname like 'copy%'", &[]);
        let mut found: BTreeMap<String, bool> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut known = BTreeMap::new();
        for (name, copy) in std::mem::take(&mut self.copies) {
            match found.remove(&name) {
                // A DROP DATABASE that was interrupted.
                Some(true) => db.run(&format!("drop database {name}")),
                Some(false) => {
                    let rows = judge::read_table(&cluster.session_in(&name), world, "t", verdict);
                    if rows != copy.rows {
                        verdict.lost([format!("{name} is not what its template was")]);
                    }
                    known.insert(name, Copy { acknowledged: true, dropping: false, ..copy });
                }
                None if copy.acknowledged && !copy.dropping => {
                    verdict.lost([format!("database {name} is gone")]);
                }
                None => {}
            }
        }
        verdict.lost(found.into_keys().map(|name| format!("database {name} had been dropped, and is back")));
        self.copies = known;
    }

    /// Drops all of the copies.
    pub fn drop_all(&mut self, db: &Session) {
        for name in std::mem::take(&mut self.copies).into_keys() {
            db.run(&format!("drop database {name}"));
        }
    }
}

fn connect(world: &World, database: &str) -> Done<Session> {
    let mut config = world.config.clone();
    let session =
        Session::try_connect(config.dbname(database)).map_err(|error| trouble("connect", &error))?;
    let waits = world.commits == Commits::Mixed;
    let settings =
        "set lock_timeout = '200ms'; set statement_timeout = '60s'; set client_min_messages = warning";
    run(&session, &format!("{settings}; set synchronous_commit = {waits}"))?;
    Ok(session)
}

fn run(db: &Session, sql: &str) -> Done {
    db.try_run(sql).map_err(|error| trouble(sql, &error))
}

fn execute(db: &Session, sql: &str, params: Params<'_>) -> Done<u64> {
    block_on(db.client().execute(sql, params)).map_err(|error| trouble(sql, &error))
}
