//! A template with rows, with files that no row needs, and with files in TRASH.

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{PAYLOAD_FUNCTION, Twins};

/// A database `source` with six rows, two payloads in TRASH of rows that are
/// gone, and two in LIVE of rows that are gone.
pub fn cluster_with_source() -> Cluster {
    let cluster = Cluster::running();
    cluster.session().run("create database source");
    fill(&cluster.session_in("source"));
    cluster
}

/// Makes the database of this session such a template.
pub fn fill(db: &Session) {
    db.run("create extension rbytea; create table t (n int primary key, b bytea, r rbytea)");
    db.run(PAYLOAD_FUNCTION);
    db.fill("t", 1..=10);
    db.run("delete from t where n > 8");
    assert_eq!(db.rvacuum(), 2);
    db.run("delete from t where n > 6");
}
