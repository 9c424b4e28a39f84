//! rbytea_begin(), rbytea_append(), rbytea_finish(): the value has the bytes that were appended, in their order, wherever it is put.

use super::client::{IN_MEMORY, KIB, MIB, Uploads, live, sha256};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};
use crate::support::twins::noise;

/// Around what stays in memory, and around the pieces in which interrupts are looked for.
const SIZES: [usize; 12] = [
    0,
    1,
    78,
    IN_MEMORY - 1,
    IN_MEMORY,
    IN_MEMORY + 1,
    2 * IN_MEMORY,
    MIB - 1,
    MIB,
    MIB + 1,
    2 * MIB + 1,
    3 * MIB + 12_345,
];

#[test]
fn uploads_of_every_size_have_the_bytes_that_were_sent() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let mut n = 0;
    for size in SIZES {
        let payload = noise(size, size as u64);
        // At once, and in pieces that end on the limit, just before it, and nowhere near.
        for piece in [size.max(1), IN_MEMORY, IN_MEMORY - 1, 100_003] {
            n += 1;
            db.upload(n, &payload, piece);
            db.assert_row(n, &payload);
        }
    }
    assert_eq!(
        db.one::<i64>("select count(*) from t where uuid(r) is null", &[]),
        0,
        "short ones are in files as any payload is"
    );
    assert_eq!(live(&cluster).0 as i32, n, "one file each");
    assert_eq!(db.rvacuum(), 0);
    db.assert_healthy(n.into());
}

#[test]
fn uploads_that_are_sent_side_by_side_do_not_mix() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let payloads: Vec<Vec<u8>> = SIZES.iter().map(|&size| noise(size, 7 + size as u64)).collect();
    db.run("begin");
    let uploads: Vec<i64> = payloads.iter().map(|_| db.begin()).collect();
    let mut sent = vec![0; uploads.len()];
    for round in 0.. {
        let mut more = false;
        for (at, payload) in payloads.iter().enumerate() {
            let chunk = &payload[sent[at]..];
            // Other pieces in each round, some of them empty.
            let chunk = &chunk[..chunk.len().min((round + at) % 3 * 77_777)];
            sent[at] += chunk.len();
            assert_eq!(db.append(uploads[at], chunk), sent[at] as i64, "the length so far");
            more |= sent[at] < payload.len();
        }
        if !more {
            break;
        }
    }
    for (n, upload) in uploads.iter().enumerate().rev() {
        db.insert(n as i32, *upload);
    }
    db.run("commit");
    for (n, payload) in (0..).zip(&payloads) {
        db.assert_row(n, payload);
    }
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn an_update_takes_a_finished_upload() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for (n, size) in [(1, 10), (2, MIB)] {
        db.upload(n, b"before", 100);
        let payload = noise(size, 3);
        db.run("begin");
        let upload = db.begin();
        db.append(upload, &payload);
        db.execute("update t set r = rbytea_finish($2) where n = $1", &[&n, &upload]);
        db.run("commit");
        db.assert_row(n, &payload);
    }
    assert_eq!(db.rvacuum(), 2, "what was there before is garbage");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

/// The value may be read before the commit, and cast.
#[test]
fn a_finished_upload_is_a_value_as_any_other() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for size in [1000, 2 * MIB] {
        let payload = noise(size, 4);
        let answer =
            "select sha256sum(r) || ' ' || len(r) || ' ' || sha256sum(substring(r, 5, 100)::rbytea) from
            (select rbytea_finish($1) as r offset 0) s";
        db.run("begin");
        let upload = db.begin();
        db.append(upload, &payload);
        let found: String = db.one(answer, &[&upload]);
        assert_eq!(found, format!("{} {size} {}", sha256(&payload), sha256(&payload[4..104])));
        db.run("commit");
    }
}

#[test]
fn a_variable_that_is_stored_twice_is_one_file_for_as_long_as_one_row_has_it() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "do $$ declare upload bigint := rbytea_begin(); v rbytea; begin
             for i in 1..50 loop perform rbytea_append(upload, payload(i, 10000)); end loop;
             v := rbytea_finish(upload);
             insert into t (n, r) values (1, v), (2, v);
         end $$",
    );
    let expected: String = db.one(
        "select encode(sha256(string_agg(payload(i, 10000), '' order by i)), 'hex') from generate_series(1, 50) i",
        &[],
    );
    assert_eq!(cluster.live().len(), 1, "one file, two rows");
    for deleted in [1, 2] {
        assert_eq!(db.rvacuum(), 0, "a row still has it");
        assert_eq!(
            db.column::<String>("select sha256sum(r) from t", &[]),
            vec![expected.clone(); 3 - deleted as usize]
        );
        db.run(&format!("delete from t where n = {deleted}"));
    }
    assert_eq!(db.rvacuum(), 1);
}

/// A temporary table, a column of an array: what no trigger stores.
#[test]
fn a_value_that_is_kept_elsewhere_reads_back_in_its_transaction() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let payload = noise(300 * KIB, 5);
    db.run("create table arrays (rs rbytea[]); begin");
    let upload = db.begin();
    db.append(upload, &payload);
    db.execute("insert into arrays values (array[rbytea_finish($1)])", &[&upload]);
    db.run("commit");
    assert_eq!(db.one::<String>("select sha256sum(rs[1]) from arrays", &[]), sha256(&payload));
    assert_eq!(db.rvacuum(), 0, "an array has it");
}

/// Its transaction is in progress, so nobody knows yet whether it is garbage.
#[test]
fn the_vacuum_leaves_open_and_finished_uploads_alone_until_their_transaction_ends() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    let payload = noise(2 * MIB, 6);
    db.run("begin");
    let upload = db.begin();
    for chunk in payload.chunks(300 * KIB) {
        db.append(upload, chunk);
        for sql in ["select rvacuum()", "select rvacuum_purge()"] {
            assert_eq!(other.one::<i64>(sql, &[]), 0, "{sql}");
        }
    }
    db.insert(1, upload);
    assert_eq!(other.one::<i64>("select rvacuum_purge()", &[]), 0);
    db.run("commit");
    assert_eq!(other.rvacuum(), 0);
    db.assert_row(1, &payload);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
