//! pg_rewind: a former primary follows the one that was promoted. A store in the data directory becomes the source's with
//! everything else there; a store outside is brought up to date by a copy.

use std::fs;

use crate::backup::payloads::{TABLE, judge, store};
use crate::backup::restored::{
    adopt, base_backup, copy_into, leaked, own_dir, restored, rsync, store_at, text,
};
use crate::evidence::{Found, Promise, proves};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::session::Session;

/// Waits until the cluster has left recovery.
fn promoted(db: &Session) {
    wait_until(PATIENCE, || !db.one::<bool>("select pg_is_in_recovery()", &[]));
}

/// Both clusters write after they have parted; the old one is rewound and started in the place of the new one.
fn rewind(outside: bool) -> Found {
    let mut old = Cluster::stopped_with(&["wal_log_hints = on", "wal_keep_size = 1GB"]);
    let mut old_store = old.store();
    if outside {
        old_store = own_dir(&old, "store");
        old.set_conf(&store_at(&old_store));
    }
    old.start();
    let db = old.session();
    db.run("create extension rbytea");
    db.run(TABLE);
    store(&db, 1..=10);
    let backup = old.dir().join("backup");
    base_backup(&old, &backup, &["--write-recovery-conf"]);
    let mut new = restored(&backup, &[]);
    let mut new_store = new.store();
    if outside {
        new_store = new.dir().join("store");
        copy_into(&old_store, &new_store);
        new.set_conf(&store_at(&new_store));
    }
    new.start();
    new.session().run("select pg_promote()");
    promoted(&new.session());
    // What is written to the old primary from here on is lost, as pg_rewind intends.
    store(&db, 101..=103);
    db.run("delete from p where n <= 2");
    db.run("select rvacuum()");
    drop(db);
    old.stop(Shutdown::Fast);
    let db = new.session();
    adopt(&db);
    store(&db, 11..=14);
    db.run("delete from p where n = 3");
    db.run("select rvacuum()");
    drop(db);
    new.stop(Shutdown::Fast);

    let conf = fs::read_to_string(old.data().join("postgresql.conf")).unwrap();
    let rewound = old
        .server_command(old.tool("pg_rewind"))
        .args(["--no-sync", "--target-pgdata", text(&old.data()), "--source-pgdata", text(&new.data())])
        .output()
        .unwrap();
    assert!(rewound.status.success(), "pg_rewind: {}", String::from_utf8_lossy(&rewound.stderr));
    fs::write(old.data().join("postgresql.conf"), conf).unwrap();
    if outside {
        for _ in 0..2 {
            rsync(&new_store, &old_store, &[]);
        }
    }
    old.start();
    let db = old.session();
    promoted(&db);
    let rows = (1..=14).filter(|n| *n != 3);
    let mut found = judge(&db, rows.clone());
    assert_eq!(found.cases, 13, "rows of both pasts");
    adopt(&db);
    found.leaked = leaked(&db, &old_store);
    let vacuumed = judge(&db, rows);
    (found.lost, found.dangling) = (found.lost + vacuumed.lost, found.dangling + vacuumed.dangling);
    found
}

#[test]
fn a_rewound_cluster_with_the_store_inside_has_every_payload_of_the_new_primary() {
    proves(Promise::Backups, rewind(false));
}

#[test]
fn a_rewound_cluster_with_the_store_outside_has_them_after_a_copy() {
    proves(Promise::Backups, rewind(true));
}
