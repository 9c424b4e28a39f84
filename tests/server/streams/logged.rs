//! Uploads in the WAL: recovery and standbys have them as their transactions have ended.

use std::fs;

use super::client::{IN_MEMORY, MIB, Uploads, binary, live, open_files};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::session::Session;
use crate::support::shared_store::replayed;
use crate::support::standby::standby_of;
use crate::support::twin_tables::{Twins, cluster_with};
use crate::support::twins::noise;

const ALL: &[&str] = &["rbytea.wal_payload_limit = -1", "rbytea.vacuum_naptime = 1d", "max_wal_size = 4GB"];

fn cluster() -> (Cluster, Session) {
    let cluster = cluster_with(ALL);
    let db = cluster.session();
    db.run("create table t (n int primary key, r rbytea)");
    (cluster, db)
}

fn by_copy(db: &Session, n: i32, payload: &[u8], piece: usize) {
    db.run("begin");
    let upload = db.begin();
    let rows: Vec<(i64, &[u8])> = payload.chunks(piece).map(|chunk| (upload, chunk)).collect();
    db.copy_in("copy rbytea_upload (upload, chunk) from stdin (format binary)", &binary(&rows));
    db.insert(n, upload);
    db.run("commit");
}

#[test]
fn a_standby_with_a_store_of_its_own_has_what_was_uploaded() {
    let (cluster, db) = cluster();
    db.upload(0, b"there before the backup", 5);
    let standby = standby_of(&cluster, &[]);
    let reader = standby.session();
    let sizes = [10, IN_MEMORY, IN_MEMORY + 1, MIB, 5 * MIB + 7];
    for (n, size) in (1..).zip(sizes) {
        by_copy(&db, n, &noise(size, n as u64), 300_007);
    }
    // A part that is taken back, one that is given up, and all of a transaction that is rolled back.
    let large = noise(3 * MIB, 9);
    db.run("begin; savepoint s");
    let taken_back = db.begin();
    db.append(taken_back, &large);
    db.run("rollback to s");
    let given_up = db.begin();
    db.append(given_up, &large);
    let kept = db.begin();
    db.append(kept, &large);
    db.insert(20, kept);
    db.run("commit; begin");
    let rolled_back = db.begin();
    db.append(rolled_back, &large);
    let seen = || live(&standby).1;
    let before = sizes.iter().sum::<usize>() + 3 * MIB + 23;
    replayed(&db, &reader);
    db.run("rollback");
    db.run("select pg_logical_emit_message(true, 'flush', '')");
    replayed(&db, &reader);
    assert_eq!(seen(), before as u64, "what was given up has no bytes there");
    assert_eq!(live(&cluster), (10, before as u64));
    assert_eq!(live(&standby).0, 10, "the same files");
    for (n, size) in (1..).zip(sizes) {
        reader.assert_row(n, &noise(size, n as u64));
    }
    reader.assert_row(20, &large);
    reader.assert_healthy(7);
    // A standby takes none itself, and reads.
    for sql in [
        "select rbytea_begin()",
        "select rbytea_agg(chunk) from t, rbytea_chunks(r)",
        "insert into rbytea_upload values (1, '')",
    ] {
        assert_eq!(reader.sqlstate(sql).code(), "25006", "{sql}");
    }
    let chunks: Vec<Vec<u8>> =
        reader.column("select chunk from t, rbytea_chunks(r, 100000) where n = 5", &[]);
    assert!(chunks.concat() == noise(5 * MIB + 7, 5), "chunks on the standby");
    assert_eq!(db.rvacuum(), 3);
    replayed(&db, &reader);
    reader.run("select pg_promote()");
    wait_until(PATIENCE, || reader.text("select pg_is_in_recovery()") == "f");
    reader.upload(30, &large, 100_000);
    reader.assert_row(30, &large);
    reader.assert_healthy(8);
    proves_by_assertions(Promise::Replication, 9);
}

/// Whatever has become of their files, the WAL has their bytes.
#[test]
fn what_was_committed_comes_back_from_the_wal() {
    let (mut cluster, db) = cluster();
    let payload = noise(4 * MIB + 1, 1);
    db.run("select rvacuum()");
    db.run("checkpoint");
    by_copy(&db, 1, &payload, 400_000);
    db.upload(2, b"a small one", 3);
    db.run("begin");
    let open = db.begin();
    db.append(open, &payload);
    let other = cluster.session();
    other.run("begin");
    let inserted = other.begin();
    other.append(inserted, &payload);
    other.insert(3, inserted);
    let committed: Vec<_> = db.uuids("r", "t");
    cluster.session().upload(4, &payload, MIB);
    let files: Vec<_> = cluster.live();
    cluster.stop(Shutdown::Immediate);
    drop((db, other));
    // As if the power had failed before they were synced.
    for file in
        files.iter().filter(|file| committed.iter().any(|uuid| file.to_str().unwrap().ends_with(uuid)))
    {
        fs::File::options().write(true).open(file).unwrap().set_len(1000).unwrap();
    }
    cluster.start();
    let db = cluster.session();
    db.assert_row(1, &payload);
    db.assert_row(2, b"a small one");
    db.assert_row(4, &payload);
    db.assert_healthy(3);
    assert_eq!(db.rvacuum(), 2, "the open one, and the one whose transaction had not committed");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
    proves_by_assertions(Promise::Durable, 3);
}
