//! Encrypted and plain payloads side by side, and in transactions that end one way or the other.

use std::fs;

use crate::support::cluster::Shutdown;
use crate::support::encryption::{counts, encrypting, encrypting_with, file_of_row, modes, shows};
use crate::support::payload::Payload;
use crate::support::twin_tables::{Twins, assert_live_is};
use crate::support::twins::noise;

#[test]
fn one_table_has_plain_and_encrypted_payloads() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("set rbytea.qss_mode = off");
    db.fill("t", 1..=5);
    db.run("set rbytea.qss_mode = on");
    db.fill("t", 6..=10);
    db.run("begin; set local rbytea.qss_mode = off; insert into t select n, payload(n), payload(n) from generate_series(11, 12) n; commit");
    db.fill("t", 13..=13);
    assert_eq!(modes(&db, "t"), "0:7 1:6");
    db.assert_stored("t", 13);

    db.run("set rbytea.qss_mode = off");
    db.assert_stored("t", 13);
    db.run("update t set n = n + 100");
    assert_eq!(modes(&db, "t"), "0:7 1:6", "an UPDATE of another column must not touch files");
    db.run("create table copy as select * from t");
    assert_eq!(modes(&db, "copy"), "0:7 1:6", "a copied reference is to the same file");
    assert_eq!(cluster.live().len(), 13, "a copied reference is to the same file");
    db.assert_stored("copy", 13);
    db.run("set rbytea.qss_mode = on; update t set b = payload(n), r = payload(n) where n = 101");
    assert_eq!(modes(&db, "t"), "0:6 1:7");
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("copy", 13);
    db.run("drop table copy");
    assert_eq!(db.rvacuum(), 1, "the plain file that was replaced");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 13);
}

#[test]
fn every_way_into_a_file_encrypts() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run(
        "insert into t select n, payload(n), payload(n) from generate_series(1, 3) n;
         create table made as select n, b, b::rbytea as r from t;
         create table migrated as select n, b, b as r from t;
         alter table migrated alter r type rbytea using rbytea_store(r);
         create table retyped as select n, b, b as r from t; alter table retyped alter r type rbytea;
         create table added as select n, b from t; alter table added add r rbytea; update added set r = b;
         create table split (n int, b bytea, r rbytea) partition by list (n);
         create table split_1 partition of split for values in (1); create table split_x partition of split default;
         insert into split select n, b, b from t;
         create function f(n int, b bytea) returns void language plpgsql as $$
            declare v rbytea := b; begin insert into t values (n, b, v); exception when others then raise; end $$;
         select f(4, payload(4)); do $$ begin insert into t values (5, payload(5), payload(5)); end $$",
    );
    for table in ["made", "migrated", "retyped", "added", "split"] {
        assert_eq!(modes(&db, table), "1:3", "{table}");
        db.assert_stored(table, 3);
    }
    assert_eq!(modes(&db, "t"), "1:5");
    db.assert_stored("t", 5);
    assert_eq!(
        db.text("select qss_mode(v), v::bytea, len_full(v) from rbytea_store('abc') v"),
        "1|\\x616263|16"
    );
}

#[test]
fn a_payload_below_the_threshold_stays_in_its_row_and_plain() {
    let cluster = encrypting_with(&["rbytea.external_threshold = 100"]);
    let db = cluster.session();
    for (n, len) in [0, 16, 99, 100, 101].into_iter().enumerate() {
        let payload = Payload(noise(len, 1));
        db.execute("insert into t values ($1, $2, $3)", &[&(n as i32), &payload, &payload]);
    }
    assert_eq!(
        db.text(
            "select len(r), qss_mode(r), uuid(r) is null, len_full(r), md5store(r) is null from t order by n"
        ),
        "0|0|t||t\n16|0|t||t\n99|0|t||t\n100|1|f|112|f\n101|1|f|112|f"
    );
    db.assert_same("t", 5);
    assert_eq!(counts(&db), "1:2");
    db.run("set rbytea.external_threshold = 0; update t set r = b");
    db.assert_stored("t", 5);
    assert_eq!(modes(&db, "t"), "1:5");
}

#[test]
fn a_payload_is_what_its_transaction_left() {
    let mut cluster = encrypting();
    let db = cluster.session();
    db.run("begin");
    db.fill("t", 1..=2);
    db.run("savepoint a");
    db.fill("t", 3..=4);
    db.assert_stored("t", 4);
    db.run("rollback to a");
    db.fill("t", 5..=6);
    db.run("release a; commit");
    db.run("begin");
    db.fill("t", 7..=9);
    db.run("update t set b = payload(-n), r = payload(-n); rollback");
    for (gid, n) in [("keep", 20), ("drop", 30)] {
        db.run("begin");
        db.fill("t", n..=n + 1);
        db.run(&format!("prepare transaction '{gid}'"));
    }
    db.assert_stored("t", 4);
    drop(db);
    cluster.kill9();
    cluster.start();

    let db = cluster.session();
    assert_eq!(counts(&db), "1:8", "payloads of prepared transactions need their keys too");
    db.run("commit prepared 'keep'");
    db.run("rollback prepared 'drop'");
    db.assert_stored("t", 6);
    assert_eq!(modes(&db, "t"), "1:6");
    db.rvacuum();
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 6);
    cluster.stop(Shutdown::Fast);
    cluster.start();
    cluster.session().assert_stored("t", 6);
}

#[test]
fn the_store_of_a_dump_is_encrypted_again_where_it_is_restored() {
    let cluster = encrypting();
    let db = cluster.session();
    db.run("set rbytea.qss_mode = off");
    db.fill("t", 1..=3);
    db.run("set rbytea.qss_mode = on");
    db.fill("t", 4..=10);
    for format in ["--format=plain", "--format=custom"] {
        db.run("create database restored");
        let dump = cluster.pg_dump(&[format, "--table=t", "postgres"]);
        if format == "--format=plain" {
            let payload: String = db.one("select encode(b, 'hex') from t where n = 4", &[]);
            let dump = String::from_utf8(dump.clone()).unwrap();
            assert_eq!(dump.matches(&payload).count(), 2, "a dump has the plaintext, of bytea and of rbytea");
        }
        let restored = cluster.session_in("restored");
        restored.run("create extension rbytea");
        if format == "--format=plain" {
            cluster.psql(&["-d", "restored"], &dump);
        } else {
            cluster.pg_restore(&["-d", "restored", "--exit-on-error"], &dump);
        }
        restored.assert_stored("t", 10);
        assert_eq!(modes(&restored, "t"), "1:10", "what is restored is stored as new payloads are");
        assert_eq!(counts(&restored), "1:10");
        drop(restored);
        db.run("drop database restored with (force)");
    }
    assert_eq!(modes(&db, "t"), "0:3 1:7");
}

#[test]
fn nothing_of_an_encrypted_payload_is_in_the_data_directory() {
    let cluster = encrypting_with(&["full_page_writes = off"]);
    let db = cluster.session();
    let secret = Payload(noise(200_000, 5));
    db.execute("insert into t values (1, null, $1)", &[&secret]);
    db.run("update t set r = r::bytea || 'x'; create index on t using hash (r); analyze t; checkpoint");
    assert!(!shows(&file_of_row(&cluster, &db, 1), &secret.0));
    // Everything: tables, WAL, statistics, temporary files, both payload files.
    let marker = &secret.0[1600..1632];
    let mut directories = vec![cluster.data()];
    let mut looked_at = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                looked_at += 1;
                let found = bytes.windows(marker.len()).any(|window| window == marker);
                assert!(!found, "{} has bytes of an encrypted payload", path.display());
            }
        }
    }
    assert!(looked_at > 100);
}
