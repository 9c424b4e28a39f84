//! A payload in an encrypted file is to every function what it is as bytea; its file is what md5sum(1), sha256sum(1) and
//! the file system say, and tells nothing of the payload.

use std::collections::HashSet;
use std::fs;

use crate::support::cluster::Cluster;
use crate::support::encryption::{checksum, encrypting, file_of, modes, shows};
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twin_tables::Twins;
use crate::support::twins::noise;

/// Around a block of the cipher, the buffer of the writer, and the pieces that are read at once.
const SIZES: [usize; 15] = [
    0,
    1,
    15,
    16,
    17,
    31,
    4096,
    100_001,
    131_071,
    131_072,
    131_073,
    262_145,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
];

/// Where substring() is asked to begin and how much of it: around all of these.
const EDGES: &str = "array[-2147483648, -5, 0, 1, 2, 15, 16, 17, 18, 32, 33, 131071, 131072, 131073, 131074, 1048576, 1048577, 1048578]";
const LENGTHS: &str = "array[0, 1, 2, 15, 16, 17, 33, 131072, 2147483647]";

/// A cluster with one row in `t` for each size.
fn filled() -> (Cluster, Session) {
    let cluster = encrypting();
    let db = cluster.session();
    for (n, len) in SIZES.into_iter().enumerate() {
        let payload = Payload(noise(len, len as u64));
        db.execute("insert into t values ($1, $2, $3)", &[&(n as i32), &payload, &payload]);
    }
    assert_eq!(modes(&db, "t"), format!("1:{}", SIZES.len()), "the payloads are not encrypted");
    (cluster, db)
}

#[test]
fn sums_and_sizes_are_those_of_the_payload_and_of_its_file() {
    let (cluster, db) = filled();
    let rows = db.rows(
        "select n, b, uuid(r)::text as uuid, len(r), len_full(r), md5sum(r), sha256sum(r), md5store(r), sha256store(r),
                md5(b) as md5, encode(sha256(b), 'hex') as sha256, md5(r) as md5_of_r, length(r) as length, octet_length(r) as octets
           from t order by n",
        &[],
    );
    for (row, len) in rows.iter().zip(SIZES) {
        let file = file_of(&cluster, &row.get::<_, String>("uuid"));
        let size = fs::metadata(&file).unwrap().len();
        assert_eq!(row.get::<_, i64>("len"), len as i64);
        assert_eq!(row.get::<_, i32>("length"), len as i32);
        assert_eq!(row.get::<_, i32>("octets"), len as i32);
        assert_eq!(row.get::<_, i64>("len_full"), size as i64, "len_full is not the size of the file");
        assert_eq!(
            size,
            len.next_multiple_of(16) as u64,
            "the file is not a whole number of blocks, or too many"
        );
        let text = |name: &str| row.get::<_, String>(name);
        assert_eq!(text("md5sum"), text("md5"), "{len} bytes: the sum is not the payload's");
        assert_eq!(text("md5_of_r"), text("md5"), "{len} bytes: the sum is not the payload's");
        assert_eq!(text("sha256sum"), text("sha256"), "{len} bytes: the sum is not the payload's");
        assert_eq!(text("md5store"), checksum("md5sum", &file), "{len} bytes: the sum is not the file's");
        assert_eq!(
            text("sha256store"),
            checksum("sha256sum", &file),
            "{len} bytes: the sum is not the file's"
        );
        if len > 0 {
            assert_ne!(text("md5store"), text("md5"), "{len} bytes: the file is the payload");
        }
        assert!(!shows(&file, &row.get::<_, Payload>("b").0), "{len} bytes: the file shows the payload");
    }
    db.assert_stored("t", SIZES.len() as i64);
}

#[test]
fn every_range_is_the_one_of_bytea() {
    let (_cluster, db) = filled();
    let wrong = db.text(&format!(
        "select n, length(b), s, l from t, unnest({EDGES} || length(b) || length(b) - 1 || length(b) + 1) s, unnest({LENGTHS}) l
          where substring(r from s for l) is distinct from substring(b from s for l)
             or substr(r, s, l) is distinct from substr(b, s, l)"
    ));
    assert_eq!(wrong, "", "row|size|from|for");
    let wrong = db.text(&format!(
        "select n, length(b), s from t, unnest({EDGES} || length(b) || length(b) - 1 || length(b) + 1) s
          where substring(r from s) is distinct from substring(b from s) or substr(r, s) is distinct from substr(b, s)"
    ));
    assert_eq!(wrong, "", "row|size|from");
    // Every range of the small ones.
    let wrong = db.text(
        "select n, s, l from t, generate_series(0, 34) s, generate_series(0, 34) l
          where length(b) < 50 and substring(r from s for l) is distinct from substring(b from s for l)",
    );
    assert_eq!(wrong, "", "row|from|for");
}

#[test]
fn equality_and_hashes_do_not_know_of_encryption() {
    let (_cluster, db) = filled();
    db.run(
        "create table encrypted as select n, b, b::rbytea as r from t;
         set rbytea.qss_mode = off; create table plain as select n, b, b::rbytea as r from t;",
    );
    assert_eq!(modes(&db, "encrypted"), format!("1:{}", SIZES.len()));
    assert_eq!(modes(&db, "plain"), format!("0:{}", SIZES.len()));
    for other in ["encrypted", "plain", "(select n, b::rbytea as r from t)"] {
        let equal: i64 = db.one(
            &format!(
                "select count(*) from t join {other} o using (n) where t.r = o.r and not t.r <> o.r and rbytea_hash(t.r) = rbytea_hash(o.r)
                    and rbytea_hash_extended(t.r, 42) = rbytea_hash_extended(o.r, 42)"
            ),
            &[],
        );
        assert_eq!(equal, SIZES.len() as i64, "the same payload in {other} is another one");
        let joined: i64 = db.one(&format!("select count(*) from t join {other} o on t.r = o.r"), &[]);
        assert_eq!(joined, SIZES.len() as i64, "a join with {other} finds more or fewer than itself");
    }
    assert_eq!(
        db.text("select count(*), count(distinct b) from (select r::bytea as b from (select r from t union select r from plain) s) s"),
        format!("{0}|{0}", SIZES.len()),
        "UNION keeps a payload once, wherever it is stored"
    );
    db.run("create index on t using hash (r); set enable_seqscan = off");
    for n in [0, 3, 8, 14] {
        let found: i32 = db.one("select n from t where r = (select o.r from plain o where o.n = $1)", &[&n]);
        assert_eq!(found, n);
    }
}

#[test]
fn the_same_payload_is_another_file_each_time() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("insert into t select n, convert_to(repeat(chr(n % 2 + 65), 100000), 'utf8') from generate_series(1, 4) n; update t set r = b");
    let mut blocks = HashSet::new();
    for file in cluster.live() {
        for block in fs::read(&file).unwrap().chunks(16) {
            assert!(
                blocks.insert(block.to_vec()),
                "two blocks of the store are the same: {}",
                file.display()
            );
        }
    }
    assert_eq!(blocks.len(), 4 * 6250);
    db.run("truncate t; insert into t select n, '', '' from generate_series(1, 3) n");
    assert_eq!(db.uuids("r", "t").len(), 3, "empty payloads have files too");
    db.assert_stored("t", 3);
}

#[test]
fn clients_see_plaintext_in_every_format() {
    let (_cluster, db) = filled();
    for row in db.rows("select n, b, r from t", &[]) {
        assert!(
            row.get::<_, Payload>("b") == row.get::<_, Payload>("r"),
            "binary results differ from bytea's"
        );
    }
    for output in ["hex", "escape"] {
        db.run(&format!("set bytea_output = {output}"));
        assert!(
            db.text("select n, r from t order by n") == db.text("select n, b from t order by n"),
            "text, {output}"
        );
    }
    for format in ["text", "csv", "binary"] {
        let copied =
            db.copy_out(&format!("copy (select n, b, r from t order by n) to stdout (format {format})"));
        let twins =
            db.copy_out(&format!("copy (select n, b, b from t order by n) to stdout (format {format})"));
        assert!(copied == twins, "COPY TO differs from bytea's: {format}");
        db.run("create table copy (like t)");
        let before = db.text("select count(*) from copy");
        assert_eq!(before, "0");
        db.copy_in(&format!("copy copy from stdin (format {format})"), &copied);
        db.assert_stored("copy", SIZES.len() as i64);
        assert_eq!(modes(&db, "copy"), format!("1:{}", SIZES.len()), "COPY FROM, {format}");
        db.run("drop table copy");
    }
}
