//! A file system that fills up in the middle of an upload: the transaction fails, its space comes back, and what fits works.

use tokio_postgres::error::SqlState;

use super::client::{KIB, MIB, Uploads, binary, open_files};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::broken_store::BrokenStore;
use crate::support::session::{Session, block_on};
use crate::support::twins::noise;
use crate::support::volumes::KINDS;

const SIZE: usize = 16 << 20;

/// Sends what is too much for the disk, as a COPY or in calls; the error.
fn too_much(db: &Session, upload: i64, chunk: &[u8], by_copy: bool) -> SqlState {
    if by_copy {
        let rows = vec![(upload, chunk); 2 * SIZE / chunk.len()];
        let data = binary(&rows);
        return block_on(async {
            use futures_util::SinkExt;
            let mut sink =
                Box::pin(db.client().copy_in("copy rbytea_upload from stdin (format binary)").await.unwrap());
            for part in data.chunks(1 << 16) {
                if let Err(error) = sink.send(bytes::Bytes::copy_from_slice(part)).await {
                    return error.code().cloned().unwrap_or(SqlState::DISK_FULL);
                }
            }
            sink.as_mut().finish().await.expect_err("there is not as much room").code().unwrap().clone()
        });
    }
    for _ in 0..2 * SIZE / chunk.len() {
        if let Err(error) = block_on(db.client().query("select rbytea_append($1, $2)", &[&upload, &chunk])) {
            return error.code().unwrap().clone();
        }
    }
    panic!("the disk does not become full");
}

#[test]
fn an_upload_that_fills_the_disk_fails_alone_and_what_fits_works() {
    let mut cases = 0;
    for kind in KINDS {
        let store = BrokenStore::on(kind, SIZE, None);
        let db = &store.superuser;
        db.run("alter table t rename to u");
        db.run("create table t (n int primary key, r rbytea)");
        let chunk = noise(300 * KIB, 1);
        db.upload(0, &chunk, MIB);
        db.run("delete from t");
        db.run("select rvacuum_purge()");
        let before = store.volume().free().0;
        let room = || {
            let left = store.volume().free().0;
            assert!(left + 300 * 4096 >= before, "{kind:?}: of {before} free bytes {left} are left");
        };
        for by_copy in [false, true] {
            // The transaction fails.
            db.run("begin");
            let (upload, other) = (db.begin(), db.begin());
            db.append(other, &chunk);
            assert_eq!(too_much(db, upload, &chunk, by_copy), SqlState::DISK_FULL);
            let _ = db.try_run("select 1");
            room();
            db.run("rollback");
            assert!(open_files(&store.root, db.pid()).is_empty());
            // A savepoint catches it: the upload is over, the transaction is not, and one that fits takes its place.
            db.run("begin");
            let (cut, other) = (db.begin(), db.begin());
            db.append(other, &chunk);
            db.run("savepoint s");
            assert_eq!(too_much(db, cut, &chunk, by_copy), SqlState::DISK_FULL);
            db.run("rollback to s");
            room();
            assert_eq!(
                db.sqlstate(&format!("savepoint x; select rbytea_append({cut}, 'x')")).code(),
                "55000"
            );
            db.run("rollback to x");
            let retry = db.begin();
            for _ in 0..20 {
                db.append(retry, &chunk);
            }
            db.insert(1, retry);
            db.insert(2, other);
            db.run("commit");
            db.assert_row(1, &chunk.repeat(20));
            db.assert_row(2, &chunk);
            db.run("delete from t");
            for _ in 0..2 {
                db.run("select rvacuum_purge()");
            }
            room();
            cases += 2;
        }
        // An aggregate of as much.
        db.run("create table pieces as select repeat('x', 300000)::bytea as p from generate_series(1, 100)");
        assert_eq!(
            db.sqlstate("insert into t (n, r) select 1, rbytea_agg(p) from pieces"),
            SqlState::DISK_FULL
        );
        room();
        assert!(open_files(&store.root, db.pid()).is_empty());
        db.run("insert into t (n, r) select 1, rbytea_agg(p) from (select * from pieces limit 20) s");
        db.assert_row(1, &b"x".repeat(6_000_000));
        db.run("alter table t rename to v; alter table u rename to t");
        store.assert_repaired();
        cases += 1;
    }
    proves_by_assertions(Promise::ErrorsLoseNothing, cases);
}
