//! Payloads of more bytes than a text, a datum, an integer has: what cannot be says so, with what to do instead, and everything else works.

use tokio_postgres::error::{DbError, SqlState};

use crate::references::dumped::{NOT_LOGGED, database, dump, restore, restoring, run};
use crate::references::files::{OnXfs, literal, own_directory};
use crate::support::session::Session;

const MIB: u64 = 1 << 20;
/// Too large for a text, and for a message of logical replication.
const FOR_TEXT: u64 = 600 * MIB;
/// Too large for a datum.
const FOR_A_DATUM: u64 = 1200 * MIB;
/// Too large for an integer.
const FOR_AN_INTEGER: u64 = 2500 * MIB;

#[track_caller]
fn error(db: &Session, sql: &str, code: &SqlState, hint: &str) -> DbError {
    let error = db.error(sql);
    assert_eq!(error.code(), code, "{sql}: {error:?}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{sql}: {error:?}");
    error
}

/// One test, so that its payloads are made once.
#[test]
fn payloads_beyond_every_limit_are_stored_found_read_in_parts_and_dumped_by_reference() {
    let xfs = OnXfs::new(&[NOT_LOGGED]);
    let cluster = &xfs.cluster;
    let db = database(cluster, "source");
    db.run("create table t (n int primary key, r rbytea); create table small (n int, r rbytea); insert into small values (1, 'small')");
    for (n, len) in [FOR_TEXT, FOR_A_DATUM, FOR_AN_INTEGER].into_iter().enumerate() {
        db.run(&format!("insert into t values ({n}, {})", xfs.sparse(len)));
    }
    assert_eq!(
        db.text("select n, len(r) from t order by n"),
        format!("0|{FOR_TEXT}\n1|{FOR_A_DATUM}\n2|{FOR_AN_INTEGER}")
    );

    let limit = SqlState::PROGRAM_LIMIT_EXCEEDED;
    for n in 0..3 {
        db.run("set rbytea.client_type = 'rbytea'");
        error(&db, &format!("select r from t where n = {n}"), &limit, "rbytea.dump_references");
        error(&db, &format!("select length(r::text) from t where n = {n}"), &limit, "rbytea_larger_than()");
        db.run("reset rbytea.client_type");
    }
    db.run("create function takes(b bytea) returns int language plpgsql as 'begin return 1; end'; create function fires() returns trigger language plpgsql as
            $$ begin perform takes(new.r); return new; end $$; create table fired (r rbytea);
            create trigger fires before insert on fired for each row execute function fires()");
    for n in 1..3 {
        for sql in [
            "select r::bytea from t",
            "select r || 'x' from t",
            "select takes(r) from t",
            "insert into fired select r from t",
        ] {
            error(&db, &format!("{sql} where n = {n}"), &limit, "rbytea_read()");
        }
    }
    assert_eq!(db.text("select length(r) from t where n = 1"), FOR_A_DATUM.to_string());
    error(&db, "select length(r) from t where n = 2", &SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "len()");
    error(&db, "select octet_length(r) from t where n = 2", &SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "len()");
    for n in 0..3 {
        assert_eq!(
            db.text(&format!("select substring(r from 500000000 for 3) from t where n = {n}")),
            "\\x000000"
        );
    }
    let end = FOR_AN_INTEGER - 2;
    assert_eq!(db.text(&format!("select rbytea_read(r, {end}, 10) from t where n = 2")), "\\x0000");
    assert_eq!(db.text("select r = r, r < r, r is null from t where n = 2"), "t|f|f");

    // In binary format a value is as long as a message may be.
    let out = own_directory(cluster, "out").join("binary");
    db.run(&format!("copy (select r from t where n = 0) to {} (format binary)", literal(&out)));
    assert_eq!(std::fs::metadata(&out).unwrap().len(), 19 + 2 + 4 + FOR_TEXT + 2);
    std::fs::remove_file(&out).unwrap();

    let listed = "select relation, len, ctid = (select ctid from t where len(r) = l.len) from rbytea_larger_than() l order by len";
    assert_eq!(db.text(listed), format!("t|{FOR_TEXT}|t\nt|{FOR_A_DATUM}|t\nt|{FOR_AN_INTEGER}|t"));

    let by_bytes = run(cluster, "pg_dump", "", &["-d", "source", "-f", "/dev/null"]);
    let said = String::from_utf8_lossy(&by_bytes.stderr).into_owned();
    assert!(!by_bytes.status.success() && said.contains("payload is too large for text output"), "{said}");
    assert!(said.contains("rbytea.dump_references"), "{said}");
    let path = dump(cluster, "archive", &["-Fc"]);
    cluster.session().run("create database copy");
    restore(cluster, &restoring("on", Some(&xfs.directory(&db))), "copy", &path, &[]);
    let copy = cluster.session_in("copy");
    let sums = "select n, len(r), uuid(r) from t order by n";
    assert_eq!(copy.text(sums), db.text(sums));
    assert_eq!(copy.text("select problem from rbytea_check()"), "");
    assert_eq!(copy.text(&format!("select rbytea_read(r, {end}, 10) from t where n = 2")), "\\x0000");
}
