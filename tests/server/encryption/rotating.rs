//! Payloads of key 1, and a second key that is the newest now.

use crate::support::cluster::Cluster;
use crate::support::encryption::{encrypting, reload, set_keys};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

/// This many rows of the table `t`.
pub fn rows_to_rotate(rows: i32) -> (Cluster, Session) {
    to_rotate(|db| db.fill("t", 1..=rows))
}

/// Tables that are made and filled by this SQL.
pub fn tables_to_rotate(sql: &str) -> (Cluster, Session) {
    to_rotate(|db| db.run(sql))
}

fn to_rotate(fill: impl FnOnce(&Session)) -> (Cluster, Session) {
    let cluster = encrypting();
    let db = cluster.session();
    fill(&db);
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    (cluster, db)
}
