//! An UPDATE that gives a column the payload that it has already: applications save all columns of a row.

use std::fs;
use std::path::PathBuf;

use crate::support::cluster::Cluster;
use crate::support::encryption::{encrypting, file_of_row};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

fn uuid(db: &Session, n: i32) -> String {
    db.one("select uuid(r)::text from t where n = $1", &[&n])
}

/// Updates row `n` with the payload that it has; the file that it has afterwards.
fn save(db: &Session, n: i32) -> String {
    db.run(&format!("update t set r = b::rbytea where n = {n}"));
    uuid(db, n)
}

#[test]
fn equal_payloads_write_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=3);
    db.run("create unique index on t (n); alter table t alter r set not null");
    let before = db.uuids("r", "t");
    for _ in 0..20 {
        db.run("update t set n = n, b = b, r = b");
    }
    db.run("merge into t using (select n, b from t) s on t.n = s.n when matched then update set r = s.b");
    db.run("begin; update t set r = b; savepoint s; update t set r = b; rollback to s; update t set r = b; commit");
    assert_eq!(db.uuids("r", "t"), before, "an equal payload was written again");
    assert_eq!(cluster.live().len(), 3);
    assert_eq!(db.rvacuum(), 0);
    db.assert_stored("t", 3);
}

#[test]
fn what_the_same_transaction_has_written_is_kept_as_well() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("begin; insert into t values (1, payload(1), payload(1)); update t set r = b; update t set r = b; commit");
    assert_eq!(cluster.live().len(), 1);
    db.assert_stored("t", 1);
}

#[test]
fn other_bytes_of_the_same_length_are_stored() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("insert into t values (1, 'abc', 'abc'), (2, '', '')");
    let before = uuid(&db, 1);
    db.run("update t set b = 'abd', r = 'abd' where n = 1");
    assert_ne!(uuid(&db, 1), before);
    db.assert_stored("t", 2);
    assert_eq!(db.rvacuum(), 1);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

/// Writing the right bytes again is how a payload is repaired.
#[test]
fn a_file_that_is_not_what_was_stored_is_written_anew() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=4);
    let file = |n: i32| -> PathBuf { file_of_row(&cluster, &db, n) };
    let flip = |path: &PathBuf| {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    flip(&file(1));
    fs::remove_file(file(2)).unwrap();
    fs::write(file(3), "shorter").unwrap();
    for n in 1..=3 {
        let before = uuid(&db, n);
        assert_ne!(save(&db, n), before, "row {n} keeps a file that is not its payload");
    }
    let before = uuid(&db, 4);
    assert_eq!(save(&db, 4), before);
    db.assert_stored("t", 4);
}

#[test]
fn a_file_that_is_in_trash_is_brought_back() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run("delete from t where n = 2");
    assert_eq!(db.rvacuum(), 1);
    let (file, before) = (file_of_row(&cluster, &db, 1), uuid(&db, 1));
    // Which no vacuum does, as the row is there.
    let trash = cluster.trash()[0].with_file_name(file.file_name().unwrap());
    fs::rename(&file, &trash).unwrap();
    assert_eq!(save(&db, 1), before);
    assert!(file.exists() && !trash.exists());
    db.assert_stored("t", 1);
}

#[test]
fn a_plain_payload_is_encrypted_if_new_ones_are() {
    let cluster: Cluster = encrypting();
    let db = cluster.session();
    db.run("set rbytea.qss_mode = off");
    db.fill("t", 1..=1);
    let plain = uuid(&db, 1);
    assert_eq!(save(&db, 1), plain);
    db.run("set rbytea.qss_mode = on");
    let encrypted = save(&db, 1);
    assert_ne!(encrypted, plain, "what is written with encryption on lies there in plain");
    assert_eq!(save(&db, 1), encrypted);
    db.run("set rbytea.qss_mode = off");
    assert_eq!(save(&db, 1), encrypted, "nobody has asked for it to be decrypted");
    db.assert_stored("t", 1);
}
