//! When rvacuum() refuses to run, stops half-way or keeps its hands off: nothing is moved that it is not sure of
//! (I9, I10).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::access_method::OtherAccessMethod;
use crate::support::cluster::{PATIENCE, Shutdown, wait_until};
use crate::support::twin_tables::{Twins, assert_live_is, cluster, cluster_with, with_garbage};

#[test]
fn the_vacuum_is_for_superusers_until_execute_is_granted() {
    let (cluster, db) = with_garbage();
    db.run("create role alice login");
    let alice = cluster.session_as("alice");

    for call in ["rvacuum()", "rvacuum_plan()", "rbytea_attach()", "rbytea_adopt_store()"] {
        assert_eq!(alice.sqlstate(&format!("select {call}")).code(), "42501", "{call}");
    }
    assert_eq!(cluster.trash().len(), 0);
    db.run("grant execute on function rvacuum(), rvacuum_plan() to alice");
    assert_eq!(alice.one::<i64>("select count(*) from rvacuum_plan()", &[]), 4);
    assert_eq!(alice.rvacuum(), 4, "also of tables that alice may not read");
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

#[test]
fn a_transaction_that_may_not_write_or_has_written_may_not_vacuum() {
    let (cluster, db) = with_garbage();

    assert_eq!(db.sqlstate("begin read only; select rvacuum()").code(), "25006");
    db.run("rollback");
    db.run("set default_transaction_read_only = on");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "25006");
    db.run("reset default_transaction_read_only");
    for write in [
        "truncate t",
        "delete from t",
        "drop table t",
        "select pg_current_xact_id()",
        "savepoint s; delete from t",
    ] {
        assert_eq!(db.sqlstate(&format!("begin; {write}; select rvacuum()")).code(), "25001", "{write}");
        db.run("rollback");
    }
    assert_eq!(cluster.trash().len(), 0);
    db.run("begin; select count(*) from t; select rvacuum(); commit");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 4);
}

#[test]
fn a_store_of_another_cluster_is_read_but_not_vacuumed() {
    let (cluster, db) = with_garbage();
    let owner = cluster.store().join("OWNER");
    let mine: serde_json::Value = serde_json::from_slice(&fs::read(&owner).unwrap()).unwrap();
    let control: String = db.one("select system_identifier::text from pg_control_system()", &[]);
    let timeline: i32 = db.one("select timeline_id from pg_control_checkpoint()", &[]);
    assert_eq!(mine["system_identifier"], control, "OWNER names this cluster");
    assert_eq!(mine["timeline"], timeline);
    assert_eq!(mine["format"], 1);

    let other = |change: &str, value: serde_json::Value| {
        let mut other = mine.clone();
        other[change] = value;
        other.to_string()
    };
    let copied = serde_json::json!({"inode": "1", "created": "2"});
    let others = [
        (other("timeline", (timeline + 1).into()), format!("timeline {}", timeline + 1), true),
        (other("data_directory", copied), "data directory 1-2".to_owned(), true),
        // Two clusters may have databases with the same OID, so the other one would vacuum what this one writes.
        (other("system_identifier", "4711".into()), "4711".to_owned(), false),
    ];
    for (other, named, may_write) in others {
        fs::write(&owner, other).unwrap();
        for call in ["select rvacuum()", "select rvacuum_purge()"] {
            let error = db.error(call);
            assert_eq!(error.code().code(), "55000");
            assert!(error.hint().unwrap().contains("rbytea_adopt_store()"), "{error:?}");
        }
        assert_eq!(cluster.trash().len(), 0, "files of another cluster's rows were moved");
        let n: i32 = db.one("select max(n) + 1 from t", &[]);
        if may_write {
            db.fill("t", n..=n);
        } else {
            let error = db.error("insert into t (n, r) values (0, payload(0))");
            assert_eq!(error.code().code(), "55000");
            assert!(error.hint().unwrap().contains("rbytea_adopt_store()"), "{error:?}");
        }
        db.assert_stored("t", (n - if may_write { 4 } else { 5 }).into());

        let previous: String = db.one("select rbytea_adopt_store()", &[]);
        assert!(previous.contains(&named), "who was the owner before? {previous}");
        let now: serde_json::Value = serde_json::from_slice(&fs::read(&owner).unwrap()).unwrap();
        assert_eq!(now, mine);
    }
    assert_eq!(db.rvacuum(), 4);
    for broken in ["", "{}", "not JSON", "{\"format\":2,\"system_identifier\":\"1\",\"timeline\":1}"] {
        fs::write(&owner, broken).unwrap();
        db.run("delete from t where n = 5");
        db.error("select rvacuum()");
        db.error("select rbytea_adopt_store()");
        assert_eq!(cluster.trash().len(), 4, "moved although OWNER says {broken:?}");
        assert_eq!(
            fs::read_to_string(&owner).unwrap(),
            broken,
            "an OWNER that cannot be read is not for us to replace"
        );
    }
}

#[test]
fn expiring_snapshots_are_refused() {
    let cluster = cluster();
    if cluster.installation().major >= 17 {
        // There is no old_snapshot_threshold any more.
        assert_eq!(cluster.session().sqlstate("show old_snapshot_threshold").code(), "42704");
        return;
    }
    drop(cluster);
    let cluster = cluster_with(&["old_snapshot_threshold = '1min'"]);
    let db = cluster.session();
    db.run("create table t (n int, b bytea, r rbytea)");
    db.fill("t", 1..=2);
    db.run("delete from t where n = 1");

    let error = db.error("select rvacuum()");
    assert_eq!(error.code().code(), "55000");
    assert!(error.hint().unwrap().contains("old_snapshot_threshold"), "{error:?}");
    assert_eq!(db.sqlstate("select rvacuum_plan()").code(), "55000");
    assert_eq!(cluster.live().len(), 2);
    db.assert_stored("t", 1);
}

#[test]
fn settings_that_make_damaged_pages_look_empty_are_refused() {
    let (cluster, db) = with_garbage();
    for setting in ["zero_damaged_pages", "ignore_checksum_failure"] {
        db.run(&format!("set {setting} = on"));
        let error = db.error("select rvacuum()");
        assert_eq!(error.code().code(), "55000");
        assert!(error.hint().unwrap().contains(setting), "{error:?}");
        assert_eq!(db.sqlstate("select rvacuum_plan()").code(), "55000");
        db.run(&format!("reset {setting}"));
    }
    assert_eq!(cluster.trash().len(), 0);
    assert_eq!(db.rvacuum(), 4);
}

#[test]
fn a_relation_that_cannot_be_locked_stops_the_run() {
    let (cluster, db) = with_garbage();
    let other = cluster.session();
    db.run("create table later (r rbytea)");

    for lock in [
        "lock table t in access exclusive mode",
        "create table fresh as select * from t",
        "drop table later",
        "alter table t add x rbytea",
        "truncate t",
    ] {
        other.run(&format!("begin; {lock}"));
        db.run("set lock_timeout = '100ms'");
        assert_eq!(db.sqlstate("select rvacuum()").code(), "55P03", "{lock}");
        let notices = db.notices();
        assert!(
            notices.iter().any(|notice| notice.message().contains("waits for a lock")),
            "{lock}: {notices:?}"
        );
        assert_eq!(cluster.trash().len(), 0, "{lock}");
        other.run("rollback");
    }
    db.run("set lock_timeout = 0");
    assert_eq!(db.rvacuum(), 4);
    assert_live_is(&cluster, &db, &[("r", "t")]);
    let pid = db.pid();
    other.run("begin; lock table t in access exclusive mode");
    let run = db.start("select rvacuum()");
    wait_until(PATIENCE, || other.sees_waiting(pid));
    db.cancel();
    assert_eq!(
        run.finish().unwrap_err().code().unwrap().code(),
        "57014",
        "a waiting vacuum can be cancelled"
    );
}

#[test]
fn a_table_that_cannot_be_read_stops_the_run() {
    let (mut cluster, db) = with_garbage();
    let other = OtherAccessMethod::compile(cluster.installation());
    other.create_table(&db, "odd");
    assert_eq!(
        db.sqlstate("select rvacuum()").code(),
        "0A000",
        "who knows what another access method keeps where?"
    );
    assert_eq!(cluster.trash().len(), 0);
    db.run("drop table odd");

    db.run("create table broken (n int, r rbytea); insert into broken values (1, '\\x01')");
    let path = cluster.data().join(db.one::<String>("select pg_relation_filepath('broken')", &[]));
    cluster.stop(Shutdown::Fast);
    let mut page = fs::read(&path).unwrap();
    page[..16].fill(0xff);
    fs::write(&path, page).unwrap();
    cluster.start();
    let db = cluster.session();
    assert_eq!(db.sqlstate("select rvacuum()").code(), "XX001");
    assert_eq!(cluster.trash().len(), 0, "what the broken table refers to is not known");
    db.assert_stored("t", 4);
    db.run("drop table broken");
    assert_eq!(db.rvacuum(), 5);
}

#[test]
fn a_header_of_a_later_version_stops_the_run() {
    let (mut cluster, db) = with_garbage();
    let path = cluster.data().join(db.one::<String>("select pg_relation_filepath('t')", &[]));
    let uuid: Vec<u8> = db.one("select uuid_send(uuid(r)) from t where n = 8", &[]);
    cluster.stop(Shutdown::Fast);
    let mut page = fs::read(&path).unwrap();
    let at = page.windows(16).position(|bytes| bytes == uuid).unwrap();
    // 0x02, flags, key id, store, length and birth are before it.
    assert_eq!(page[at - 22], 0x02);
    page[at - 22] = 0x7f;
    fs::write(&path, page).unwrap();
    cluster.start();

    let db = cluster.session();
    // From 18 on, pages have checksums by default. What has been read once is not checked again.
    db.run("set ignore_checksum_failure = on");
    assert_eq!(db.sqlstate("select r from t where n = 8").code(), "XX001");
    db.run("reset ignore_checksum_failure");
    assert_eq!(db.sqlstate("select rvacuum()").code(), "XX001");
    assert_eq!(cluster.trash().len(), 0, "what an unknown header refers to is not known");
    // The row of history has a transaction of its own, which would keep the deleted row for a moment.
    wait_until(PATIENCE, || {
        db.text("select count(*) from rbytea.rbytea_vacuum_history where error is not null") == "1"
    });
    db.run("delete from t where n = 8");
    assert_eq!(db.rvacuum(), 5, "the header goes with its row");
}

#[test]
fn a_directory_that_cannot_be_listed_stops_the_run() {
    let (cluster, db) = with_garbage();
    let live = cluster.live();
    let last = live.last().unwrap().parent().unwrap();
    let era = last.parent().unwrap();

    for dir in [last, era, era.parent().unwrap()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(db.sqlstate("select rvacuum()").code(), "42501", "{}", dir.display());
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(cluster.live(), live, "files were moved although a listing failed");
    }
    assert_eq!(db.rvacuum(), 4);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}
