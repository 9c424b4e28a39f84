//! The keepers that checkpoints wait for.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;

/// Whether there are keepers.
pub fn has_keepers(db: &Session) -> bool {
    db.one("select rbytea_has_keepers()", &[])
}

/// Makes the store if it does not exist, and waits until commits may rely on keepers.
#[track_caller]
pub fn await_keepers(db: &Session) {
    db.run("do $$ declare r rbytea; begin r := rbytea_store('claims the store'); end $$");
    wait_until(PATIENCE, || has_keepers(db));
}

/// Has a running server log nothing, and waits until no keeper holds its store open.
#[track_caller]
pub fn without_keepers(cluster: &Cluster) {
    cluster.set_conf("rbytea.wal_payload_limit = 0");
    cluster.reload();
    let db = cluster.session();
    wait_until(PATIENCE, || !has_keepers(&db));
    // Each of them ends by itself.
    await_new_holds(&db);
    await_new_holds(&db);
}

/// The process ids of the keepers, and when each took hold.
pub fn holds(db: &Session) -> Vec<(i32, String)> {
    let sql = "select pid, coalesce(xact_start::text, '') from pg_stat_activity where backend_type = 'rbytea keeper' order by pid";
    db.rows(sql, &[]).iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Waits until both have let go and taken hold again.
#[track_caller]
pub fn await_new_holds(db: &Session) {
    let before = holds(db);
    assert_eq!(before.len(), 2, "{before:?}");
    wait_until(PATIENCE, || {
        let now = holds(db);
        now.len() == 2 && before.iter().zip(now).all(|(before, now)| !now.1.is_empty() && *before != now)
    });
}
