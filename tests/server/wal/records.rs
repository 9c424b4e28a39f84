//! Which payloads are in the WAL, and how their records look to whoever reads it.

use crate::support::cluster::Cluster;
use crate::support::encryption::set_keys;
use crate::support::session::Session;

/// A cluster with pg_walinspect and a table.
fn cluster(conf: &[&str]) -> Option<(Cluster, Session)> {
    let cluster = Cluster::with_extension_and(&[&["rbytea.vacuum_naptime = 1d"], conf].concat());
    let db = inspected(&cluster)?;
    Some((cluster, db))
}

/// A session with both; None where the package has no contrib modules, which the other majors do not differ from.
fn inspected(cluster: &Cluster) -> Option<Session> {
    let db = cluster.session();
    if !db
        .one::<bool>("select exists (select from pg_available_extensions where name = 'pg_walinspect')", &[])
    {
        assert!(matches!(cluster.installation().major, 16 | 18), "where is contrib?");
        return None;
    }
    db.run("create extension pg_walinspect; create table p (n int, r rbytea)");
    Some(db)
}

/// What the records of rbytea since a position say, one line each.
fn records(db: &Session, since: &str) -> Vec<String> {
    // Nothing is shown that is not flushed.
    db.run("begin; select pg_current_xact_id(); commit");
    let sql = format!(
        "select record_type || ' ' || description from pg_get_wal_records_info('{since}', pg_current_wal_flush_lsn())
          where resource_manager = 'rbytea' order by start_lsn"
    );
    db.column(&sql, &[])
}

fn position(db: &Session) -> String {
    db.text("select pg_current_wal_insert_lsn()")
}

fn of_kind<'a>(records: &'a [String], kind: &str) -> Vec<&'a String> {
    records.iter().filter(|record| record.split(' ').next() == Some(kind)).collect()
}

#[test]
fn payloads_up_to_the_limit_are_in_the_wal_and_say_what_they_are() {
    let Some((cluster, db)) = cluster(&["rbytea.key_file = 'keys'"]) else { return };
    assert_eq!(db.text("show rbytea.wal_payload_limit"), "64kB");
    let stored = |limit: &str, len: usize| {
        let since = position(&db);
        db.run(&format!(
            "set rbytea.wal_payload_limit = '{limit}'; insert into p values ({len}, rbytea(repeat('x', {len})::bytea))"
        ));
        let found = records(&db, &since);
        (
            of_kind(&found, "PUT").into_iter().cloned().collect::<Vec<_>>(),
            db.text(&format!("select uuid(r) from p where n = {len}")),
        )
    };
    let (puts, uuid) = stored("64kB", 65536);
    assert_eq!(puts.len(), 1, "{puts:?}");
    assert!(
        puts[0].contains(&format!("payload {uuid}")) && puts[0].contains("65536 bytes at 0, last"),
        "{puts:?}"
    );
    assert_eq!(stored("64kB", 65537).0, [""; 0]);
    assert_eq!(stored("0", 1).0, [""; 0]);
    let (puts, _) = stored("-1", 3_000_000);
    assert!(puts.len() > 2 && puts.iter().filter(|put| put.contains(", last")).count() == 1, "{puts:?}");
    let sum: usize = puts
        .iter()
        .map(|put| {
            put.split(", ")
                .find_map(|part| part.split_once(" bytes at "))
                .unwrap()
                .0
                .parse::<usize>()
                .unwrap()
        })
        .sum();
    assert_eq!(sum, 3_000_000);
    // Encrypted as the file is.
    set_keys(&cluster, &[1]);
    cluster.reload();
    db.run("set rbytea.qss_mode = on");
    let (puts, _) = stored("64kB", 1001);
    assert!(puts[0].contains("1001 bytes at 0"), "{puts:?}");
    assert!(puts.last().unwrap().contains("7 bytes at 1001, last"), "filled up to whole blocks: {puts:?}");
}

#[test]
fn moves_are_in_the_wal() {
    let Some((_cluster, db)) = cluster(&["rbytea.trash_retention = 0"]) else { return };
    db.run(
        "insert into p select n, rbytea(n::text::bytea) from generate_series(1, 5) n; delete from p where n < 4",
    );
    let since = position(&db);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 3);
    db.one::<i64>("select rvacuum_purge()", &[]);
    db.run("create database copy template postgres strategy wal_log");
    db.run("drop database copy");
    db.one::<i64>("select rvacuum()", &[]);
    db.one::<i64>("select rvacuum_purge()", &[]);
    let found = records(&db, &since);
    let database = db.database();
    let one = |kind: &str, text: &str| {
        let of = of_kind(&found, kind);
        assert!(of.iter().any(|record| record.contains(text)), "{kind} with \"{text}\": {found:?}");
    };
    one("TRASH", &format!("database {database}, 3 payloads:"));
    one("PURGE", &format!("database {database}, horizon "));
    one("CLONE", &format!(", from database {database}, 2 payloads:"));
    one("DROP", ", put aside at ");
    one("PURGE_DROPPED", ", put aside at ");
    // What the server itself says of its resource managers.
    assert_eq!(
        db.text("select rm_name, rm_builtin from pg_get_wal_resource_managers() where rm_id = 186"),
        "rbytea|f"
    );
}

/// What is in the WAL is not brought back, whoever deletes it.
#[test]
fn moves_by_a_role_that_logs_no_payloads_are_in_the_wal() {
    let Some((cluster, db)) = cluster(&["rbytea.trash_retention = 0"]) else { return };
    db.run(
        "insert into p select n, rbytea(n::text::bytea) from generate_series(1, 5) n; delete from p where n < 4;
         alter role postgres set rbytea.wal_payload_limit = 0",
    );
    let (since, other) = (position(&db), cluster.session());
    assert_eq!(other.text("show rbytea.wal_payload_limit"), "0");
    assert_eq!(other.one::<i64>("select rvacuum()", &[]), 3);
    other.one::<i64>("select rvacuum_purge()", &[]);
    let found = records(&db, &since);
    assert!(["TRASH", "PURGE"].iter().all(|kind| !of_kind(&found, kind).is_empty()), "{found:?}");
}

/// Nothing is logged where no payloads are.
#[test]
fn without_a_limit_there_are_no_records() {
    let Some((_cluster, db)) = cluster(&["rbytea.wal_payload_limit = 0"]) else { return };
    let since = position(&db);
    db.run(
        "insert into p select n, rbytea(n::text::bytea) from generate_series(1, 5) n; delete from p where n < 4",
    );
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 3);
    db.run("checkpoint");
    assert_eq!(records(&db, &since), [""; 0]);
}
