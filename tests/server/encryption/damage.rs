//! An encrypted file that is not what was written: every whole read notices, and names payload and file. A range read has no
//! digest to compare with; these tests also say what it notices and what it does not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tokio_postgres::error::{DbError, SqlState};

use crate::support::cluster::Cluster;
use crate::support::encryption::{
    counts, default_key_file, digits, encrypting, file_of_row, put, reload, set_keys,
};
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twin_tables::Twins;
use crate::support::twins::noise;

/// 1003 and 131075 bytes: 5 and 13 bytes of padding.
const SIZES: [usize; 4] = [1003, 131_075, 1, 16];

/// A cluster with a row for each size, numbered from 0, twice: from 10 on with other bytes.
fn cluster() -> (Cluster, Session) {
    let cluster = encrypting();
    let db = cluster.session();
    for (n, len) in SIZES.into_iter().enumerate() {
        for (n, seed) in [(n as i32, 1), (n as i32 + 10, 2)] {
            let payload = Payload(noise(len, seed));
            db.execute("insert into t values ($1, $2, $3)", &[&n, &payload, &payload]);
        }
    }
    (cluster, db)
}

/// Reads the payload of row `n` from beginning to end.
fn whole_reads(n: i32) -> [String; 6] {
    [
        format!("select r::bytea from t where n = {n}"),
        format!("select r from t where n = {n}"),
        format!("select md5sum(r) from t where n = {n}"),
        format!("select sha256sum(r) from t where n = {n}"),
        format!("select encode(r, 'base64') from t where n = {n}"),
        format!("select r || 'x' from t where n = {n}"),
    ]
}

/// Each whole read fails; the error names the file, and the payload unless its size alone is wrong.
#[track_caller]
fn assert_noticed(db: &Session, n: i32, file: &Path) -> DbError {
    let uuid: String = db.one("select uuid(r)::text from t where n = $1", &[&n]);
    let mut last = None;
    for sql in whole_reads(n) {
        let error = db.error(&sql);
        assert_eq!(*error.code(), SqlState::DATA_CORRUPTED, "{sql}: {error:?}");
        assert!(error.message().contains(&uuid), "which payload? {error:?}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.message().contains(name), "which file? {error:?}");
        assert!(error.hint().unwrap_or_default().contains("backup"), "{error:?}");
        last = Some(error);
    }
    last.unwrap()
}

/// Flips one bit, runs `check`, and flips it back.
fn with_flipped(file: &Path, at: u64, bit: u8, check: impl FnOnce()) {
    let flip = || {
        let file = File::options().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
    };
    flip();
    check();
    flip();
}

fn swap(a: &Path, b: &Path) {
    let (first, second) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    fs::write(a, second).unwrap();
    fs::write(b, first).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_in_the_payload() {
    let (cluster, db) = cluster();
    for (n, len) in (0..).zip(SIZES) {
        let file = file_of_row(&cluster, &db, n);
        for at in [0, len / 2, len - 1, 131_071.min(len - 1), 131_072.min(len - 1)] {
            for bit in [0, 7] {
                with_flipped(&file, at as u64, bit, || {
                    assert_noticed(&db, n, &file);
                });
            }
        }
    }
    db.assert_stored("t", 8);
}

/// The padding is no part of the payload, and is not looked at.
#[test]
fn a_flipped_bit_in_the_padding() {
    let (cluster, db) = cluster();
    for (n, len) in (0..).zip(SIZES) {
        let file = file_of_row(&cluster, &db, n);
        let size = fs::metadata(&file).unwrap().len();
        for at in len as u64..size {
            with_flipped(&file, at, 3, || {
                let error = db.try_run(&format!("select md5sum(r) from t where n = {n}")).err();
                let code = error.as_ref().and_then(|error| error.code());
                assert_eq!(
                    code,
                    Some(&SqlState::DATA_CORRUPTED),
                    "a flipped bit in the padding of {len} bytes is not noticed"
                );
            });
        }
    }
}

#[test]
fn a_pair_of_files_of_one_length_that_were_swapped() {
    let (cluster, db) = cluster();
    for n in 0..SIZES.len() as i32 {
        let (one, other) = (file_of_row(&cluster, &db, n), file_of_row(&cluster, &db, n + 10));
        swap(&one, &other);
        assert_noticed(&db, n, &one);
        assert_noticed(&db, n + 10, &other);
        swap(&one, &other);
    }
    // Two files of the same payload are different files: each is encrypted with a key of its own.
    db.run("insert into t values (20, payload(1), payload(1)), (21, payload(1), payload(1))");
    let (one, other) = (file_of_row(&cluster, &db, 20), file_of_row(&cluster, &db, 21));
    swap(&one, &other);
    assert_noticed(&db, 20, &one);
    swap(&one, &other);
    db.assert_stored("t", 10);
}

/// The size is in the row, so these are noticed by ranges as well.
#[test]
fn a_file_that_is_shorter_or_longer() {
    let (cluster, db) = cluster();
    for (n, len) in (0..).zip(SIZES) {
        let file = file_of_row(&cluster, &db, n);
        let bytes = fs::read(&file).unwrap();
        let longer = |more: usize| [&bytes[..], &vec![0; more]].concat();
        let shorter = |less: usize| bytes[..bytes.len() - less].to_vec();
        for damaged in [
            longer(1),
            longer(16),
            shorter(1),
            shorter(16),
            Vec::new(),
            bytes[..len.min(bytes.len() - 1)].to_vec(),
        ] {
            fs::write(&file, &damaged).unwrap();
            let error = assert_noticed(&db, n, &file);
            assert!(error.message().contains(&format!("{} bytes", damaged.len())), "{error:?}");
            for range in ["substring(r from 1 for 1)", "substr(r, 1)", "md5store(r)"] {
                let sql = format!("select {range} from t where n = {n}");
                assert_eq!(db.sqlstate(&sql), SqlState::DATA_CORRUPTED, "{sql}");
            }
        }
        fs::write(&file, &bytes).unwrap();
    }
    db.assert_stored("t", 8);
}

#[test]
fn a_file_that_was_replaced_by_its_plaintext() {
    let (cluster, db) = cluster();
    let file = file_of_row(&cluster, &db, 3);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, noise(16, 1)).unwrap();
    assert_noticed(&db, 3, &file);
    fs::write(&file, &bytes).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(db.sqlstate(&whole_reads(3)[0]), SqlState::UNDEFINED_FILE);
    fs::write(&file, bytes).unwrap();
    put_back(&cluster, &file);
    db.assert_stored("t", 8);
}

fn put_back(cluster: &Cluster, file: &PathBuf) {
    if let Some((uid, gid)) = cluster.installation().server_user {
        std::os::unix::fs::chown(file, Some(uid), Some(gid)).unwrap();
    }
}

#[test]
fn another_key_under_the_same_id() {
    let (cluster, db) = cluster();
    put(&cluster, &default_key_file(&cluster), &format!("1 {}\n", digits(2)), 0o600);
    reload(&cluster, &[&db]);
    for n in 0..SIZES.len() as i32 {
        assert_noticed(&db, n, &file_of_row(&cluster, &db, n));
    }
    // The last key that a payload was written with is the one that reads it.
    db.run("insert into t values (30, 'new', 'new')");
    set_keys(&cluster, &[1]);
    reload(&cluster, &[&db]);
    assert_noticed(&db, 30, &file_of_row(&cluster, &db, 30));
    db.assert_stored("(select * from t where n < 30) s", 8);
}

/// Without the digest: a changed byte of the file is the same change of the payload, without an error.
#[test]
fn what_a_range_and_a_read_without_a_digest_do_not_notice() {
    let (cluster, db) = cluster();
    let file = file_of_row(&cluster, &db, 0);
    let plain = noise(1003, 1);
    let range = "select substring(r from 501 for 3) from t where n = 0";
    with_flipped(&file, 501, 2, || {
        let Payload(read) = db.one(range, &[]);
        assert_eq!(read, [plain[500], plain[501] ^ 4, plain[502]], "exactly the bit that was flipped");
        let Payload(read) = db.one("select substring(r from 502 for 2) from t where n = 0", &[]);
        assert_eq!(read, [plain[501] ^ 4, plain[502]]);
        let Payload(read) = db.one("select substring(r for 501) from t where n = 0", &[]);
        assert_eq!(read, plain[..501], "ranges elsewhere are right");
        assert_eq!(db.text("select r = b::rbytea from t where n = 0"), "t", "a comparison reads no file");
        assert_noticed(&db, 0, &file);
        db.run("set rbytea.verify = off");
        let Payload(read) = db.one("select r::bytea from t where n = 0", &[]);
        assert_eq!(read[501], plain[501] ^ 4);
        for sum in ["md5sum", "sha256sum"] {
            let code = db.sqlstate(&format!("select {sum}(r) from t where n = 0"));
            assert_eq!(code, SqlState::DATA_CORRUPTED, "sums always check");
        }
        db.run("reset rbytea.verify");
    });
    // A swapped file, or another key: bytes that mean nothing, and no error.
    let other = file_of_row(&cluster, &db, 10);
    swap(&file, &other);
    let Payload(read) = db.one(range, &[]);
    assert_ne!(read, plain[500..503]);
    swap(&file, &other);
    let Payload(read) = db.one(range, &[]);
    assert_eq!(read, plain[500..503]);
}

#[test]
fn a_damaged_payload_is_not_carried_over_to_the_next_key() {
    let (cluster, db) = cluster();
    set_keys(&cluster, &[1, 2]);
    reload(&cluster, &[&db]);
    let file = file_of_row(&cluster, &db, 11);
    db.run("set rbytea.verify = off");
    with_flipped(&file, 7, 1, || {
        let error = db.error("call rbytea_reencrypt('t', 1)");
        assert_eq!(*error.code(), SqlState::DATA_CORRUPTED, "{error:?}");
        assert!(error.message().contains(file.file_name().unwrap().to_str().unwrap()), "{error:?}");
        assert_eq!(
            db.text("select uuid(r)::text from t where n = 11"),
            crate::support::twin_tables::name(&file)
        );
    });
    db.run("call rbytea_reencrypt('t', 1)");
    assert_eq!(counts(&db), "1:0 2:8");
    db.assert_stored("t", 8);
}
