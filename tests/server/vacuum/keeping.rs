//! References somewhere, and the vacuum.

use crate::support::twin_tables::{Twins, cluster_with_table};

/// Nothing is collected while the last reference is where `keep` has put it; everything is after `drop`.
#[track_caller]
pub fn keeps(ddl: &str, copy: &str, read: &str, drop: &str) {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=4);
    db.run(ddl);
    db.run(copy);
    let live = cluster.live();
    db.run("truncate t");

    assert_eq!(db.rvacuum(), 0, "the vacuum has not seen the references after: {copy}");
    assert_eq!(cluster.live(), live);
    db.assert_stored(&format!("({read}) s"), 4);
    db.run(drop);
    assert_eq!(db.rvacuum(), 4, "after: {drop}");
}
