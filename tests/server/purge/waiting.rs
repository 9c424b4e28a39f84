//! One file in TRASH, and what keeps the purge from deleting it.

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with_table};

/// A table with two rows.
pub fn tables() -> (Cluster, Session) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    (cluster, db)
}

/// Writes a file that no snapshot can refer to.
pub fn garbage(db: &Session) {
    db.run("begin");
    db.fill("t", 9..=9);
    db.run("rollback");
}

/// The same, and has it moved to TRASH.
#[track_caller]
pub fn trash_one(db: &Session) {
    garbage(db);
    assert_eq!(db.rvacuum(), 1);
}

#[track_caller]
pub fn purge(db: &Session) -> i64 {
    db.one("select rvacuum_purge()", &[])
}

/// What keeps the oldest file in TRASH, the retention aside.
#[track_caller]
pub fn held_by(db: &Session) -> String {
    let stat: Vec<String> = db.column("select purge_held_by[1] from rbytea.rbytea_stat", &[]);
    assert_eq!(stat, ["rbytea.trash_retention = 7d"]);
    db.text("select purge_held_by[2:] from rbytea.rbytea_stat")
}
