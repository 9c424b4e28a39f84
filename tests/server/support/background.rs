//! A cluster with a background vacuum that never sleeps for long, and how to see what that is doing.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables;

/// Settings that make the background vacuum quick; the postmaster's log names each worker that it starts.
const QUICK: &[&str] = &[
    "rbytea.databases_for_vacuuming = 'postgres'",
    "rbytea.vacuum_naptime = '1s'",
    "rbytea.trash_retention = 0",
    "rbytea.log_min_duration = 0",
    "rbytea.injection_points = on",
    "log_min_messages = debug1",
];

/// The class of the advisory locks at which the vacuum's injection points wait.
const INJECTION_POINTS: i32 = 0x7262;

/// Injection points of the vacuum.
#[derive(Clone, Copy, Debug)]
pub enum Point {
    /// Between the locking of the relations and the mark.
    BeforeMark = 1,
    /// Between the first relation of the mark and the others.
    BetweenRelations = 2,
    /// Between the mark and the second look at the horizon.
    BeforeSecondHorizon = 3,
    /// Between the sweep's plan and its renames.
    BeforeMoves = 4,
    /// Between the choice of the files to delete and their deletion.
    BeforePurge = 5,
}

/// A running server that vacuums the database `postgres`, which has the extension, the function `payload` and the table
/// `t (n int primary key, b bytea, r rbytea)`, about once a second. Lines of the test's own come after these settings.
pub fn cluster_with(conf: &[&str]) -> Cluster {
    let cluster = twin_tables::cluster_with(&[QUICK, conf].concat());
    cluster.session().run("create table t (n int primary key, b bytea, r rbytea)");
    cluster
}

/// The same with nothing added.
pub fn cluster() -> Cluster {
    cluster_with(&[])
}

/// A running server with these settings whose database `postgres` has no extension.
pub fn bare_cluster_with(conf: &[&str]) -> Cluster {
    Cluster::running_with(&[QUICK, conf].concat())
}

/// Makes a database with the extension and a table `t` as above.
pub fn create_database(cluster: &Cluster, name: &str) -> Session {
    cluster.session().run(&format!("create database \"{name}\""));
    let db = cluster.session_in(name);
    db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    db.run(twin_tables::PAYLOAD_FUNCTION);
    db
}

/// What can be seen of the background vacuum.
pub trait Background {
    /// How often a worker was started for this database.
    fn visits(&self, database: &str) -> usize;
    /// Waits for a visit to this database that begins from now on, and for its end.
    fn await_visit(&self, database: &str);
    /// How often the log has this text.
    fn logged(&self, text: &str) -> usize;
    /// Waits until the log has this text.
    fn await_log(&self, text: &str);
}

impl Background for Cluster {
    fn visits(&self, database: &str) -> usize {
        self.logged(&format!(
            "starting background worker process \"rbytea vacuum worker for database {database}\""
        ))
    }

    #[track_caller]
    fn await_visit(&self, database: &str) {
        // There is one worker at a time: when the one after next begins, the next one has ended.
        let visits = self.visits(database) + 2;
        wait_until(PATIENCE, || self.visits(database) >= visits);
    }

    fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    #[track_caller]
    fn await_log(&self, text: &str) {
        wait_until(PATIENCE, || self.log().contains(text));
    }
}

/// What a session can see of the background vacuum, and do to it.
pub trait Watching {
    /// The launcher's process id.
    fn launcher(&self) -> Option<i32>;
    /// The process id of the worker in this session's database.
    fn worker(&self) -> Option<i32>;
    /// Makes the next runs in this session's database wait at an injection point, until `go_on`.
    fn stop_at(&self, point: Point);
    /// Lets the runs that wait go on.
    fn go_on(&self, point: Point);
    /// Waits for a worker in this session's database that waits at the injection point, which this session or another one
    /// holds; its process id.
    fn await_stopped(&self, point: Point) -> i32;
    /// Runs statements and makes their statistics known at once: the background vacuum goes by them.
    fn run_and_tell(&self, sql: &str);
}

impl Watching for Session {
    fn launcher(&self) -> Option<i32> {
        process(self, "backend_type = 'rbytea vacuum launcher'")
    }

    fn worker(&self) -> Option<i32> {
        process(self, "backend_type = 'rbytea vacuum worker' and datname = current_database()")
    }

    fn stop_at(&self, point: Point) {
        self.execute("select pg_advisory_lock($1, $2)", &[&INJECTION_POINTS, &(point as i32)]);
    }

    #[track_caller]
    fn go_on(&self, point: Point) {
        let held: bool = self.one("select pg_advisory_unlock($1, $2)", &[&INJECTION_POINTS, &(point as i32)]);
        assert!(held, "the test did not hold the injection point {point:?}");
    }

    #[track_caller]
    fn await_stopped(&self, point: Point) -> i32 {
        let query = "select pid from pg_locks where not granted and locktype = 'advisory' and objsubid = 2
              and classid = $1::int::oid and objid = $2::int::oid
              and database = (select oid from pg_database where datname = current_database())";
        let mut stopped = Vec::new();
        wait_until(PATIENCE, || {
            stopped = self.column(query, &[&INJECTION_POINTS, &(point as i32)]);
            !stopped.is_empty()
        });
        stopped[0]
    }

    #[track_caller]
    fn run_and_tell(&self, sql: &str) {
        self.run(sql);
        // From 15 on; the statistics go when the session becomes idle.
        self.run("select pg_stat_force_next_flush()");
    }
}

fn process(db: &Session, which: &str) -> Option<i32> {
    db.column(&format!("select pid from pg_stat_activity where {which}"), &[]).first().copied()
}
