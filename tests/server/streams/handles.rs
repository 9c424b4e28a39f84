//! A handle is good in the session and in the transaction that it comes from, until its upload is finished.

use tokio_postgres::error::SqlState;

use super::client::{MIB, Uploads, live, open_files};
use crate::support::session::Session;
use crate::support::twin_tables::cluster_with_table;
use crate::support::twins::noise;

/// Every way to use a handle raises this error; nothing else of the transaction is lost.
#[track_caller]
fn assert_refused(db: &Session, upload: &str, code: &SqlState) {
    for sql in [
        format!("select rbytea_append({upload}, 'x')"),
        format!("select len(rbytea_finish({upload}))"),
        format!("insert into t (n, r) values (99, rbytea_finish({upload}))"),
        format!("insert into rbytea_upload values ({upload}, 'x')"),
    ] {
        db.run("savepoint refused");
        let error = db.error(&sql);
        assert_eq!(error.code(), code, "{sql}: {error:?}");
        let message = error.message();
        assert!(message.starts_with("upload") && !message.ends_with('.'), "style: {message}");
        assert!(*code != SqlState::UNDEFINED_OBJECT || error.hint().is_some(), "what to do? {error:?}");
        db.run("rollback to refused");
    }
}

#[test]
fn handles_that_are_not_open_are_refused_and_the_open_one_goes_on() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    let payload = noise(MIB, 1);
    db.run("begin");
    let ended = db.begin();
    db.append(ended, &payload);
    db.run("commit; begin");
    let rolled_back = db.begin();
    db.run("rollback; begin");
    other.run("begin");
    let (finished, open, foreign) = (db.begin(), db.begin(), other.begin());
    db.append(open, &payload[..1000]);
    db.insert(1, finished);
    let handles = [
        ended,
        rolled_back,
        finished,
        foreign,
        open + 1,
        0,
        -1,
        1,
        open << 10,
        open & ((1 << 31) - 1),
        open & !((1 << 31) - 1),
        i64::MAX,
        i64::MIN + 1,
    ];
    for handle in handles {
        assert_refused(&db, &format!("({handle})"), &SqlState::UNDEFINED_OBJECT);
    }
    assert_refused(&db, "(-9223372036854775808)", &SqlState::UNDEFINED_OBJECT);
    assert_refused(&db, "null", &SqlState::NULL_VALUE_NOT_ALLOWED);
    assert_eq!(db.append(open, &payload[1000..]), MIB as i64, "none of that has touched it");
    db.insert(2, open);
    other.insert(3, foreign);
    db.run("commit");
    other.run("commit");
    db.assert_row(1, b"");
    db.assert_row(2, &payload);
    db.assert_row(3, b"");
}

/// The error says what has become of it.
#[test]
fn the_error_tells_an_ended_upload_from_a_foreign_and_an_unknown_one() {
    let cluster = cluster_with_table();
    let (db, other) = (cluster.session(), cluster.session());
    other.run("begin");
    let foreign = other.begin();
    db.run("begin");
    let ended = db.begin();
    db.run("commit");
    let message = |upload: i64| db.error(&format!("select rbytea_append({upload}, '')")).message().to_owned();
    assert!(message(ended).ends_with("has ended"), "{}", message(ended));
    assert!(message(foreign).ends_with("belongs to another session"), "{}", message(foreign));
    assert!(message(ended + 1).ends_with("does not exist"), "{}", message(ended + 1));
    assert!(message(4711).ends_with("does not exist"), "{}", message(4711));
    assert!(ended > 0 && ended < 1 << 53, "JavaScript has no such number: {ended}");
}

#[test]
fn a_chunk_of_null_is_refused() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("begin");
    let upload = db.begin();
    db.run("savepoint s");
    let sql = format!("select rbytea_append({upload}, null)");
    assert_eq!(db.sqlstate(&sql).code(), "22004");
    db.run("rollback to s");
    assert_eq!(db.append(upload, b"still there"), 11, "nothing of it was lost by that");
    db.insert(1, upload);
    db.run("commit");
    db.assert_row(1, b"still there");
}

#[test]
fn a_transaction_that_must_not_write_begins_no_upload() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table pieces (p bytea); insert into pieces select payload(n, 30000) from generate_series(1, 20) n");
    let lo: u32 = db.one("select lo_from_bytea(0, 'large')", &[]);
    for sql in [
        "select rbytea_begin()",
        "select len(rbytea_agg(p)) from pieces",
        &format!("select len(rbytea_from_lo({lo}))"),
    ] {
        db.run("begin read only");
        assert_eq!(db.sqlstate(sql), SqlState::READ_ONLY_SQL_TRANSACTION, "{sql}");
        db.run("rollback");
    }
    assert_eq!(live(&cluster).0, 0);
}

/// An upload of one statement is given up with that: without a transaction block there is nothing to append to.
#[test]
fn outside_of_a_transaction_block_an_upload_ends_with_its_statement() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let upload = db.begin();
    assert_eq!(db.sqlstate(&format!("select rbytea_append({upload}, 'x')")), SqlState::UNDEFINED_OBJECT);
    db.run(
        "do $$ declare upload bigint := rbytea_begin(); begin
             perform rbytea_append(upload, payload(1, 400000));
             insert into t (n, r) values (1, rbytea_finish(upload));
         end $$",
    );
    db.assert_row(1, &db.one::<Vec<u8>>("select payload(1, 400000)", &[]));
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

/// A trigger function reads its rows as those of the extension's view: what has other columns would be read as what it is not.
#[test]
fn the_trigger_function_is_of_use_to_its_view_alone() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create role alice login");
    let alice = cluster.session_as("alice");
    let pid = db.pid();
    assert_eq!(db.sqlstate("select rbytea_upload_row()").code(), "39P01");
    let views = [
        "select 1::bigint as upload, 2::bigint as chunk",
        "select 1::bigint as upload, 'x'::text as chunk",
        "select 'x'::bytea as chunk, 1::bigint as upload",
        "select 1::int as upload, 'x'::bytea as chunk",
        "select 1::bigint as upload",
        "select 1::bigint as upload, 'x'::bytea as chunk, 3 as third",
    ];
    for session in [&db, &alice] {
        for view in views {
            let attach = "create trigger mine instead of insert on v for each row execute function public.rbytea_upload_row()";
            session.run(&format!("begin; create temp view v as {view}"));
            let upload = session.begin();
            let made = session.try_run(attach);
            if let Err(error) = made {
                assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{view}");
            } else {
                let insert = match view.matches(" as ").count() {
                    1 => format!("insert into v values ({upload})"),
                    3 => format!("insert into v values ({upload}, 'x', 3)"),
                    _ if view.contains("2::bigint") => format!("insert into v values ({upload}, 4711)"),
                    _ if view.contains("1::int") => "insert into v values (1, 'x')".to_owned(),
                    _ if view.starts_with("select 'x'") => format!("insert into v values ('x', {upload})"),
                    _ => format!("insert into v values ({upload}, 'x')"),
                };
                assert_eq!(session.sqlstate(&insert).code(), "39P01", "{view}");
            }
            session.run("rollback");
        }
    }
    for (when, each) in [
        ("before insert", "row"),
        ("after insert", "row"),
        ("before insert", "statement"),
        ("after delete", "row"),
    ] {
        db.run("begin; create table other (upload bigint, chunk bytea); insert into other values (1, '')");
        db.run(&format!(
            "create trigger wrong {when} on other for each {each} execute function rbytea_upload_row()"
        ));
        let sql =
            if when.contains("delete") { "delete from other" } else { "insert into other values (1, 'x')" };
        assert_eq!(db.sqlstate(sql).code(), "39P01", "{when} for each {each}");
        db.run("rollback");
    }
    assert_eq!(db.pid(), pid, "the server has crashed");
    assert!(!cluster.log().contains("was terminated by"), "the server has crashed");
}
