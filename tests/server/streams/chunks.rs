//! rbytea_chunks() as a stream: constant memory, no temporary files, no file that stays open, and an error where the bytes are not what was
//! stored.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;

use super::client::{MIB, Uploads, hex, open_files, private_memory, sha256};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::encryption::{encrypting, file_of_row};
use crate::support::session::{Session, block_on};
use crate::support::twin_tables::{Twins, cluster_with_table};
use crate::support::twins::noise;

/// The digest of what a COPY sends, and its length; `look` sees each part come.
fn copied(db: &Session, sql: &str, mut look: impl FnMut()) -> (String, u64) {
    block_on(async {
        let mut stream = Box::pin(db.client().copy_out(sql).await.unwrap());
        let (mut hasher, mut len) = (Sha256::new(), 0);
        while let Some(part) = stream.try_next().await.unwrap() {
            hasher.update(&part);
            len += part.len() as u64;
            look();
        }
        (hex(&hasher.finalize()), len)
    })
}

#[test]
fn a_payload_of_256_mib_passes_through_in_constant_memory() {
    const PIECE: usize = 8 * MIB;
    let cluster = cluster_with_table();
    let db = cluster.session();
    let pid = db.pid();
    let piece = noise(PIECE, 1);
    db.run("begin");
    let upload = db.begin();
    let before = private_memory(pid);
    let mut most = 0;
    for _ in 0..32 {
        db.append(upload, &piece);
        most = most.max(private_memory(pid));
    }
    db.insert(1, upload);
    db.run("commit");
    assert!(most < before + 64 * MIB as u64, "the upload took {} MiB for pieces of 8", (most - before) >> 20);

    let reader = cluster.session();
    let pid = reader.pid();
    reader.run("select sum(length(chunk)) from t, rbytea_chunks(r) where no < 3");
    let temporary = "select temp_files, temp_bytes from pg_stat_database where datname = current_database()";
    let files = db.text(temporary);
    let before = private_memory(pid);
    let (mut parts, mut most) = (0, 0);
    let copy = "copy (select chunk from t, rbytea_chunks(t.r) where t.n = 1) to stdout (format binary)";
    let (_, len) = copied(&reader, copy, || {
        parts += 1;
        if parts % 64 == 0 {
            most = most.max(private_memory(pid));
        }
    });
    let chunks = 256 * (2 + 4 + MIB as u64);
    assert_eq!(len, chunks + 19 + 2, "each chunk, its length before it");
    assert!(
        most > 0 && most < before + 16 * MIB as u64,
        "{} MiB more than before",
        most.saturating_sub(before) >> 20
    );
    assert!(open_files(&cluster.store(), pid).is_empty());
    // Statistics are told when a session ends, at the latest.
    drop(reader);
    wait_until(PATIENCE, || {
        db.text(&format!("select count(*) from pg_stat_activity where pid = {pid}")) == "0"
    });
    assert_eq!(db.text(temporary), files, "rows were put on disk before the first one was sent");
}

/// Flips a byte of a file for as long as `check` takes.
fn with_damage(file: &Path, at: u64, check: impl FnOnce()) {
    let flip = || {
        let file = File::options().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    flip();
    check();
    flip();
}

/// All that was sent before the error was right or wrong: only who has got the last chunk has got the payload.
#[test]
fn damage_anywhere_in_the_file_fails_the_last_chunk() {
    let cluster = encrypting();
    let db = cluster.session();
    let payload = noise(MIB + 100, 2);
    db.upload(1, &payload, MIB);
    db.run("set rbytea.qss_mode = off");
    db.upload(2, &payload, MIB);
    let mut cases = 0;
    for n in [1, 2] {
        let file = file_of_row(&cluster, &db, n);
        for at in [0, 300_000, MIB as u64, MIB as u64 + 99] {
            for size in [1000, 500_000, 2 * MIB as i32] {
                with_damage(&file, at, || {
                    let rows = format!("select no, chunk from t, rbytea_chunks(r, {size}) where n = {n}");
                    let error = db.error(&format!("select count(*) from ({rows}) s"));
                    assert_eq!(
                        *error.code(),
                        SqlState::DATA_CORRUPTED,
                        "row {n}, byte {at}, chunks of {size}"
                    );
                    let last = payload.len() as i32 / size;
                    db.run(&format!("begin; declare c cursor for {rows}"));
                    assert_eq!(
                        db.execute(&format!("move forward {last} in c"), &[]),
                        last as u64,
                        "up to the last one they come"
                    );
                    assert_eq!(db.sqlstate("fetch c"), SqlState::DATA_CORRUPTED);
                    db.run("rollback");
                    assert!(open_files(&cluster.store(), db.pid()).is_empty());
                });
                cases += 1;
            }
        }
        // A file that is too short, or too long.
        for len in [0, 1000, payload.len() as u64 + 1] {
            let whole = std::fs::read(&file).unwrap();
            File::options().write(true).open(&file).unwrap().set_len(len).unwrap();
            assert_eq!(
                db.sqlstate(&format!("select count(*) from t, rbytea_chunks(r) where n = {n}")),
                SqlState::DATA_CORRUPTED,
                "row {n}, {len} bytes"
            );
            std::fs::write(&file, whole).unwrap();
            cases += 1;
        }
        db.assert_row(n, &payload);
        std::fs::rename(&file, file.with_extension("away")).unwrap();
        assert_eq!(
            db.sqlstate(&format!("select count(*) from t, rbytea_chunks(r) where n = {n}")).code(),
            "58P01"
        );
        assert_eq!(db.sqlstate(&format!("select rbytea_read(r, 0, 1) from t where n = {n}")).code(), "58P01");
        std::fs::rename(file.with_extension("away"), &file).unwrap();
    }
    db.assert_healthy(2);
    proves_by_assertions(Promise::DamageIsNoticed, cases);
}

#[test]
fn a_stream_that_is_not_read_to_its_end_leaves_no_file_open() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.upload(1, &noise(3 * MIB, 3), MIB);
    db.upload(2, &noise(3 * MIB, 4), MIB);
    let rows = "select no, chunk from t, rbytea_chunks(r, 100000)";
    let pid = db.pid();
    let open = || open_files(&cluster.store(), pid).len();
    for end in ["close c", "close all", "commit", "rollback", "rollback to s; commit", "select 1 / 0"] {
        db.run(&format!("begin; savepoint s; declare c cursor for {rows}; fetch c"));
        assert_eq!(open(), 1, "the test is about a file that is open");
        let _ = db.try_run(end);
        let _ = db.try_run("rollback");
        assert_eq!(open(), 0, "{end}");
    }
    for sql in [
        format!("{rows} limit 1"),
        "select (select chunk from rbytea_chunks(r, 1000) limit 1) from t, generate_series(1, 100)".to_owned(),
        format!("select 1 / (no - 5) from ({rows}) s"),
        format!("select exists ({rows})"),
        "do $$ declare f record; begin for f in select * from t, rbytea_chunks(r, 1000) loop exit; end loop; end $$".to_owned(),
    ] {
        let _ = db.try_run(&sql);
        assert_eq!(open(), 0, "{sql}");
    }
    // A client that cancels.
    for _ in 0..5 {
        let running =
            db.start("select sum(length(chunk)) from t, generate_series(1, 1000), rbytea_chunks(r, 1)");
        wait_until(PATIENCE, || open() > 0);
        db.cancel();
        assert_eq!(running.finish().unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        assert_eq!(open(), 0);
    }
}

/// A cursor's snapshot keeps what it reads, whatever the vacuum does.
#[test]
fn a_stream_survives_the_deletion_of_its_row_and_the_vacuum() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    let payload = noise(2 * MIB, 5);
    db.upload(1, &payload, MIB);
    db.run("begin; declare c cursor for select chunk from t, rbytea_chunks(r, 100000)");
    let mut read: Vec<Vec<u8>> = db.column("fetch 3 c", &[]);
    other.run("delete from t");
    for sql in ["select rvacuum()", "select rvacuum_purge()", "vacuum t"] {
        other.run(sql);
        read.extend(db.column::<Vec<u8>>("fetch 2 c", &[]));
    }
    assert_eq!(cluster.trash().len() + cluster.live().len(), 1, "it is still there");
    read.extend(db.column::<Vec<u8>>("fetch all c", &[]));
    assert_eq!(sha256(&read.concat()), sha256(&payload));
    db.run("commit");
    // What the first one moves, the second one deletes.
    other.run("select rvacuum()");
    other.run("select rvacuum_purge()");
    assert_eq!(cluster.trash().len() + cluster.live().len(), 0, "nothing keeps it any longer");
    // In TRASH it is read as well: here for a value that is in a variable only, of a transaction that was rolled back.
    db.run(
        "create table said (digest text);
         create procedure p() language plpgsql as $$ declare upload bigint := rbytea_begin(); v rbytea; begin
             perform rbytea_append(upload, payload(1, 300000));
             v := rbytea_finish(upload);
             rollback;
             perform pg_advisory_lock(1);
             insert into said select encode(sha256(string_agg(chunk, ''::bytea order by no)), 'hex') from rbytea_chunks(v, 1000);
         end $$",
    );
    other.run("select pg_advisory_lock(1)");
    let pid = db.pid();
    let running = db.start("call p()");
    wait_until(PATIENCE, || other.sees_waiting(pid));
    other.run("select rvacuum()");
    assert_eq!((cluster.live().len(), cluster.trash().len()), (0, 1));
    other.run("select pg_advisory_unlock(1)");
    running.finish().unwrap();
    assert_eq!(db.text("select digest = encode(sha256(payload(1, 300000)), 'hex') from said"), "t");
    assert_eq!(db.rvacuum(), 0);
}
