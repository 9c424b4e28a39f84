//! The view rbytea_upload: rows that are copied or inserted into it are appended to their uploads in order, and stored nowhere.

use std::fmt::Write as _;

use super::client::{KIB, MIB, Uploads, binary, hex, live};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, cluster_with_table};
use crate::support::twins::noise;

/// The commands that take data, and the data.
fn copies(rows: &[(i64, &[u8])]) -> [(&'static str, Vec<u8>); 3] {
    let (mut text, mut csv) = (String::new(), String::from("chunk,upload\n"));
    for (upload, chunk) in rows {
        writeln!(text, "{upload}\t\\\\x{}", hex(chunk)).unwrap();
        writeln!(csv, "\"\\x{}\",{upload}", hex(chunk)).unwrap();
    }
    [
        ("copy rbytea_upload from stdin", text.into_bytes()),
        ("copy rbytea_upload (chunk, upload) from stdin (format csv, header)", csv.into_bytes()),
        ("copy rbytea_upload (upload, chunk) from stdin (format binary)", binary(rows)),
    ]
}

#[test]
fn copy_in_each_format_appends_to_several_uploads_in_order() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let (first, second) = (noise(3 * MIB + 5, 1), noise(500 * KIB, 2));
    for kind in 0..3 {
        db.run("begin");
        let (one, two) = (db.begin(), db.begin());
        // Pieces of both in turn, of unequal sizes; the second one ends before the first.
        let mut twos = second.chunks(30_011);
        let mut rows: Vec<(i64, &[u8])> = vec![(two, b"")];
        for chunk in first.chunks(60_001) {
            rows.push((one, chunk));
            rows.extend(twos.next().map(|chunk| (two, chunk)));
        }
        let (sql, data) = &copies(&rows)[kind];
        assert_eq!(db.copy_in(sql, data), rows.len() as u64, "each row is one that was taken");
        let files = live(&cluster).0;
        assert_eq!(db.append(one, b"!"), first.len() as i64 + 1, "{sql}");
        db.insert(2 * kind as i32, one);
        db.insert(2 * kind as i32 + 1, two);
        assert_eq!(live(&cluster).0, files, "{sql}: no files but those of the uploads");
        db.run("commit");
        db.assert_row(2 * kind as i32, &[&first[..], b"!"].concat());
        db.assert_row(2 * kind as i32 + 1, &second);
    }
    assert_eq!(live(&cluster).0, 6);
    db.assert_healthy(6);
}

#[test]
fn inserts_append_as_copy_does() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table pieces (n int, p bytea); insert into pieces select n, payload(n, 5000 * n) from generate_series(1, 20) n");
    let expected: Vec<u8> = db.one("select string_agg(p, '' order by n) from pieces", &[]);
    db.run("begin");
    let upload = db.begin();
    let inserted = db.execute("insert into rbytea_upload select $1, p from pieces order by n", &[&upload]);
    assert_eq!(inserted, 20, "each row is one that was taken");
    db.execute(
        "insert into rbytea_upload (chunk, upload) values ('ab', $1), ('', $1), ('c', $1)",
        &[&upload],
    );
    let returned: Option<Vec<u8>> =
        db.one("insert into rbytea_upload values ($1, 'd') returning chunk", &[&upload]);
    assert_eq!(returned, None, "a row that is returned does not keep its chunk in memory");
    db.execute(
        "with p as (select 'e'::bytea as p) insert into rbytea_upload select $1, p from p",
        &[&upload],
    );
    db.insert(1, upload);
    db.run("commit");
    db.assert_row(1, &[&expected[..], b"abcde"].concat());
}

#[test]
fn the_view_stores_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("begin");
    let upload = db.begin();
    let chunk = noise(MIB, 3);
    db.copy_in(
        "copy rbytea_upload from stdin (format binary)",
        &binary(&[(upload, &chunk), (upload, &chunk)]),
    );
    assert_eq!(db.text("select count(*) from rbytea_upload"), "0");
    assert_eq!(db.text("select pg_total_relation_size('rbytea_upload')"), "0");
    assert_eq!(live(&cluster), (1, 2 * MIB as u64));
    assert_eq!(db.copy_out("copy (select * from rbytea_upload) to stdout"), b"");
    for sql in ["update rbytea_upload set chunk = ''", "delete from rbytea_upload"] {
        db.run("savepoint s");
        assert_eq!(db.sqlstate(sql).code(), "55000", "{sql}");
        db.run("rollback to s");
    }
    db.insert(1, upload);
    db.run("commit");
    db.assert_row(1, &[&chunk[..], &chunk].concat());
}

/// Triggers that do not fire as a replica would lose the bytes in silence.
#[test]
fn with_session_replication_role_replica_nothing_is_lost() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for (n, size) in [(1, 100), (2, 2 * MIB)] {
        let payload = noise(size, 4);
        db.run("set session_replication_role = replica; begin");
        let upload = db.begin();
        let rows: Vec<(i64, &[u8])> = payload.chunks(100_000).map(|chunk| (upload, chunk)).collect();
        db.copy_in("copy rbytea_upload from stdin (format binary)", &binary(&rows));
        db.execute("insert into rbytea_upload values ($1, 'z')", &[&upload]);
        db.insert(n, upload);
        db.run("commit; reset session_replication_role");
        db.assert_row(n, &[&payload[..], b"z"].concat());
    }
    assert_eq!(db.uuids("r", "t").len(), 2);
}

/// What a user needs who has no rights but those that everybody has.
fn by_copy(db: &Session, n: i32, payload: &[u8]) {
    db.run("begin");
    let upload = db.begin();
    db.copy_in(
        "copy rbytea_upload (upload, chunk) from stdin (format binary)",
        &binary(&[(upload, payload)]),
    );
    db.insert(n, upload);
    db.run("commit");
}

#[test]
fn an_ordinary_user_uploads_and_can_break_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create role alice login; grant select, insert on t to alice");
    let alice = cluster.session_as("alice");
    let payload = noise(2 * MIB, 5);
    by_copy(&alice, 1, &payload);
    alice.assert_row(1, &payload);
    for sql in [
        "select * from rbytea_upload",
        "copy rbytea_upload to stdout",
        "drop view rbytea_upload",
        "alter view rbytea_upload owner to alice",
        "create rule r as on insert to rbytea_upload do instead nothing",
        "create trigger mine instead of insert on rbytea_upload for each row execute function rbytea_upload_row()",
        "truncate rbytea_upload",
    ] {
        let code = alice.sqlstate(sql).code().to_owned();
        assert!(["42501", "42809"].contains(&&*code), "{sql}: {code}");
    }
    by_copy(&alice, 2, &payload);
    alice.assert_row(2, &payload);
}

/// A row that is refused ends the COPY, and with it the transaction and its uploads.
#[test]
fn rows_without_an_upload_or_without_bytes_are_refused() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for (values, code) in [
        ("(null, 'x')", "22004"),
        ("(%, null)", "22004"),
        ("(0, 'x')", "42704"),
        ("(-1, 'x')", "42704"),
        ("(% + 1, 'x')", "42704"),
    ] {
        db.run("begin");
        let upload = db.begin();
        db.append(upload, &noise(MIB, 6));
        let values = values.replace('%', &upload.to_string());
        assert_eq!(
            db.sqlstate(&format!("insert into rbytea_upload values {values}")).code(),
            code,
            "{values}"
        );
        db.run("rollback");
    }
    db.run("begin");
    let upload = db.begin();
    for (column, code) in [("upload", "22004"), ("chunk", "22004")] {
        db.run("savepoint s");
        let value = if column == "upload" { upload.to_string() } else { "'x'".to_owned() };
        let sql = format!("insert into rbytea_upload ({column}) values ({value})");
        assert_eq!(db.sqlstate(&sql).code(), code, "{sql}");
        db.run("rollback to s");
    }
    db.run("rollback");
    assert_eq!(live(&cluster).1, 0, "they have kept their bytes");
}
