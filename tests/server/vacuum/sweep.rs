//! rvacuum(): moves exactly the files that no row needs into TRASH, counts them, and says what it did.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table, name, names};

#[test]
fn rvacuum_counts_what_each_committed_statement_has_freed() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table copy (n int, b bytea, r rbytea); create table other (n int, b bytea, r rbytea);
         create materialized view m as select * from other",
    );
    assert_eq!(db.rvacuum(), 0, "a store that was never written to");
    db.fill("t", 1..=20);
    db.fill("other", 1..=5);
    assert_eq!(db.rvacuum(), 0, "every file has its row");

    let statements = [
        ("delete from t where n <= 2", 2),
        ("delete from t where n <= 2", 0),
        ("update t set b = payload(-n), r = payload(-n) where n <= 5", 3),
        ("update t set n = n + 100 where n <= 5", 0),
        ("update t set b = null, r = null where n in (103, 104)", 2),
        ("begin; insert into t values (50, payload(50), payload(50)); delete from t; rollback", 1),
        (
            "begin; insert into t values (50, payload(50), payload(50)); delete from t where n in (6, 50); commit",
            2,
        ),
        (
            "insert into copy select * from t where n between 7 and 9; delete from t where n between 7 and 9",
            0,
        ),
        ("truncate copy", 3),
        ("insert into copy select * from t; drop table t", 0),
        ("alter table copy drop column r", 12),
        ("refresh materialized view m; delete from other where n <= 2", 0),
        ("refresh materialized view m", 2),
        ("drop materialized view m; drop table other", 3),
    ];
    for (statement, freed) in statements {
        db.run(statement);
        assert_eq!(db.rvacuum(), freed, "after: {statement}");
    }
    assert_eq!(cluster.live().len(), 0);
    assert_eq!(cluster.trash().len(), 30);
    assert!(db.notices().is_empty(), "nothing was held back, nothing is wrong");
}

#[test]
fn the_plan_names_each_file_and_the_reason_and_moves_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("begin; insert into t values (1, payload(1, 11), payload(1, 11)), (2, payload(2, 22), payload(2, 22))");
    let committed: String = db.one("select pg_current_xact_id()::text", &[]);
    db.run("commit");
    db.run("begin; insert into t values (3, null, payload(3, 33))");
    let aborted: String = db.one("select pg_current_xact_id()::text", &[]);
    let third = db.uuids("r", "t where n = 3").remove(0);
    db.run("rollback");
    let (first, second) =
        (db.uuids("r", "t where n = 1").remove(0), db.uuids("r", "t where n = 2").remove(0));
    let file = cluster.live().into_iter().find(|file| name(file) == second).unwrap();
    let trashed = trash_by_hand(&cluster, &second);
    db.run("delete from t where n = 1");
    let files = cluster.store_files();

    let plan = "select action, uuid, birth, bytes, reason from rvacuum_plan() order by bytes";
    let expected = format!(
        "trash|{first}|{committed}|11|no row refers to it any more\n\
         restore|{second}|{committed}|22|a row refers to it\n\
         trash|{third}|{aborted}|33|the transaction that wrote it did not commit"
    );
    assert_eq!(db.text(plan), expected);
    assert_eq!(cluster.store_files(), files, "a plan moves nothing");
    assert_eq!(db.text(&format!("begin read only; {plan}; commit")), expected);

    assert_eq!(db.rvacuum(), 2);
    assert_eq!(names(&cluster.trash()), [first, third].into());
    assert_eq!(cluster.live(), [file]);
    assert!(!trashed.exists());
    assert_eq!(db.text(plan), "", "there is nothing left to do");
}

/// Moves a live file to TRASH behind the server's back; where it is then.
fn trash_by_hand(cluster: &Cluster, uuid: &str) -> PathBuf {
    let file = cluster.live().into_iter().find(|file| name(file) == uuid).unwrap();
    let trash = file.ancestors().nth(3).unwrap().join("TRASH");
    if !trash.exists() {
        std::fs::create_dir(&trash).unwrap();
        let owner = std::fs::metadata(&file).unwrap().uid();
        chown(&trash, Some(owner), None).unwrap();
    }
    let trashed = trash.join(file.file_name().unwrap());
    std::fs::rename(&file, &trashed).unwrap();
    trashed
}

#[test]
fn a_payload_in_trash_is_read_and_brought_back() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table copies (n int, b bytea, r rbytea)");
    db.fill("t", 1..=4);
    let uuids = db.uuids("r", "t");
    for uuid in &uuids {
        trash_by_hand(&cluster, uuid);
    }

    db.assert_stored("t", 4);
    let sums: i64 = db.one(
        "select count(*) from t where md5sum(r) = md5(b) and md5store(r) = md5(b) and substring(r from 5 for 6) = substring(b from 5 for 6)",
        &[],
    );
    assert_eq!(sums, 4, "every way of reading looks into TRASH");
    assert_eq!(cluster.trash().len(), 4, "reading moves nothing");

    db.run("insert into copies select * from t where n = 1; update t set r = (select r from t where n = 2) where n = 3");
    assert_eq!(cluster.live().len(), 2, "a reference that is stored needs its file in LIVE");
    db.run("update t set n = n; update t set b = (select b from t where n = 2) where n = 3");
    assert_eq!(cluster.live().len(), 2);

    assert_eq!(db.rvacuum(), 0);
    let warnings = db.notices();
    assert_eq!(warnings.len(), 1, "the payload of row 4");
    assert_eq!((warnings[0].severity(), warnings[0].code().code()), ("WARNING", "01000"));
    assert!(warnings[0].message().contains(&db.uuids("r", "t where n = 4")[0]), "{}", warnings[0].message());
    assert_live_is(&cluster, &db, &[("r", "t"), ("r", "copies")]);
    assert_eq!(cluster.trash().len(), 1, "that of row 3 is garbage");
    db.assert_stored("t", 4);
}

#[test]
fn a_payload_that_is_lost_is_an_error_to_readers_and_a_warning_of_the_vacuum() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=2);
    db.run("delete from t where n = 2");
    let lost = db.uuids("r", "t").remove(0);
    std::fs::remove_file(cluster.live().iter().find(|file| name(file) == lost).unwrap()).unwrap();

    assert_eq!(db.sqlstate("select r from t").code(), "58P01");
    assert_eq!(db.sqlstate("create table u as select * from t").code(), "58P01", "the loss must not spread");
    assert_eq!(db.one::<i64>("select len(r) from t", &[]), 1000, "the header is there");
    assert_eq!(db.rvacuum(), 1, "the loss of one file is no reason to keep another");
    assert_eq!(db.notices()[0].severity(), "WARNING");
}

#[test]
fn each_run_leaves_its_figures_in_the_history() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table u (n int, b bytea, r rbytea)");
    db.fill("t", 1..=10);
    db.fill("u", 1..=5);
    trash_by_hand(&cluster, &db.uuids("r", "u")[0]);
    db.run("delete from t where n <= 4");
    db.run("vacuum t");
    let before: String = db.one("select clock_timestamp()::text", &[]);
    let (lsn, id): (String, String) = (
        db.one("select pg_current_wal_insert_lsn()::text", &[]),
        db.one("select pg_snapshot_xmax(pg_current_snapshot())::text", &[]),
    );

    assert_eq!(db.rvacuum(), 4);
    assert_eq!(
        db.text("select trashed, restored, purged, bytes, tuples, lower, upper, error is null from rbytea.rbytea_vacuum_history"),
        format!("4|1|0|4000|11|0|{id}|t"),
        "six rows of t and five of u were looked at, four files of 1000 bytes moved"
    );
    assert_eq!(db.text("select files from rbytea.rbytea_vacuum_history"), "14", "files in LIVE");
    assert!(db.one::<bool>("select relations between 2 and 10 from rbytea.rbytea_vacuum_history", &[]));
    let times = "select started <= finished and started >= $1::text::timestamptz and lsn >= $2::text::pg_lsn
                    and lsn <= pg_current_wal_flush_lsn() from rbytea.rbytea_vacuum_history";
    assert!(db.one::<bool>(times, &[&before, &lsn]), "when, and up to where the WAL was flushed");

    db.run("begin; select rvacuum(); rollback");
    assert_eq!(db.rvacuum(), 0);
    assert_eq!(
        db.text("select id is not null, trashed from rbytea.rbytea_vacuum_history order by id"),
        "t|4\nt|0"
    );
}

#[test]
fn one_vacuum_waits_for_the_other() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    db.fill("t", 1..=4);
    db.run("delete from t where n <= 2");
    let pid = other.pid();

    db.run("begin");
    assert_eq!(db.rvacuum(), 2);
    let second = other.start("select rvacuum()");
    wait_until(PATIENCE, || db.sees_waiting(pid));
    db.run("commit");
    second.finish().unwrap();
    assert_eq!(db.text("select trashed from rbytea.rbytea_vacuum_history order by id"), "2\n0");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
