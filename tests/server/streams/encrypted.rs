//! Uploads with rbytea.qss_mode on: the file has none of the bytes that were sent, and each payload one key.

use super::client::{IN_MEMORY, MIB, Uploads, binary, live, open_files, sha256};
use crate::support::encryption::{checksum, counts, encrypting, file_of_row, modes, reload, set_keys, shows};
use crate::support::twin_tables::Twins;
use crate::support::twins::noise;

#[test]
fn an_uploads_file_does_not_show_its_payload() {
    let cluster = encrypting();
    let db = cluster.session();
    let sizes = [1, 100, IN_MEMORY, IN_MEMORY + 1, 400_015, 400_016];
    for (n, size) in (1..).zip(sizes) {
        let payload = noise(size, n as u64);
        db.run("begin");
        let upload = db.begin();
        // Pieces that end in the middle of a block of the cipher.
        let rows: Vec<(i64, &[u8])> = payload.chunks(70_001).map(|chunk| (upload, chunk)).collect();
        db.copy_in("copy rbytea_upload from stdin (format binary)", &binary(&rows));
        db.insert(n, upload);
        db.run("commit");
        db.assert_row(n, &payload);
        let file = file_of_row(&cluster, &db, n);
        let part = &payload[size.saturating_sub(10_000)..];
        assert!(size < 16 || !shows(&file, part), "{size} bytes are in the file as they were sent");
        let stored: String = db.one("select sha256store(r) from t where n = $1", &[&n]);
        assert_eq!(checksum("sha256sum", &file), stored);
    }
    assert_eq!(modes(&db, "t"), format!("1:{}", sizes.len()));
    db.assert_healthy(sizes.len() as i64);
}

/// A payload is one key's, that with which its file was begun; the next one is the new key's.
#[test]
fn keys_that_are_rotated_between_appends_leave_an_upload_readable() {
    let cluster = encrypting();
    let db = cluster.session();
    let payload = noise(3 * MIB, 1);
    let mut thirds = payload.chunks(MIB);
    db.run("begin");
    let (old, small, new) = (db.begin(), db.begin(), db.begin());
    db.append(old, thirds.next().unwrap());
    db.append(small, b"small enough for memory");
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    db.append(old, thirds.next().unwrap());
    db.append(new, &payload);
    set_keys(&cluster, &[1, 2, 3]);
    reload(&cluster, &[&db]);
    db.append(old, thirds.next().unwrap());
    for (n, upload) in [(1, old), (2, new), (3, small)] {
        db.insert(n, upload);
    }
    db.run("commit");
    db.assert_row(1, &payload);
    db.assert_row(2, &payload);
    db.assert_row(3, b"small enough for memory");
    assert_eq!(counts(&db), "1:1 2:1 3:1");
    let fresh = cluster.session();
    fresh.run("call rbytea_reencrypt('t')");
    assert_eq!(counts(&fresh), "1:0 2:0 3:3");
    fresh.assert_row(1, &payload);
    fresh.assert_healthy(3);
}

#[test]
fn without_its_key_an_upload_fails_and_leaves_nothing() {
    let cluster = encrypting();
    let db = cluster.session();
    set_keys(&cluster, &[]);
    reload(&cluster, &[&db]);
    let fresh = cluster.session();
    for size in [10, 2 * MIB] {
        fresh.run("begin");
        let upload = fresh.begin();
        let sql = format!(
            "insert into rbytea_upload select {upload}, repeat('x', {size})::bytea; insert into t (n, r) values (1, rbytea_finish({upload}))"
        );
        assert_eq!(fresh.sqlstate(&sql).code(), "F0000", "a config_file_error");
        fresh.run("rollback");
    }
    assert_eq!(live(&cluster), (0, 0));
    assert!(open_files(&cluster.store(), fresh.pid()).is_empty());
    set_keys(&cluster, &[1]);
    reload(&cluster, &[&fresh]);
    fresh.upload(1, b"goes on", 3);
    fresh.assert_row(1, b"goes on");
}

#[test]
fn aggregates_large_objects_and_ranges_are_encrypted_as_well() {
    let cluster = encrypting();
    let db = cluster.session();
    let payload = noise(400_003, 5);
    db.execute("insert into t (n, r) select 1, rbytea_agg(p) from (select $1::bytea as p) s", &[&payload]);
    let lo: u32 = db.one("select lo_from_bytea(0, $1)", &[&payload]);
    db.execute("insert into t (n, r) values (2, rbytea_from_lo($1))", &[&lo]);
    for n in [1, 2] {
        db.assert_row(n, &payload);
        assert!(!shows(&file_of_row(&cluster, &db, n), &payload[..10_000]));
    }
    assert_eq!(modes(&db, "t"), "1:2");
    let chunks: Vec<Vec<u8>> = db.column("select chunk from t, rbytea_chunks(r, 100003) where n = 1", &[]);
    assert_eq!(sha256(&chunks.concat()), sha256(&payload));
    assert_eq!(
        db.one::<Vec<u8>>("select rbytea_read(r, 300001, 77) from t where n = 2", &[]),
        &payload[300_001..][..77]
    );
    assert_eq!(db.rvacuum(), 0);
}
