//! rvacuum_purge() says in a NOTICE what keeps everything in TRASH: the count that it returns does not.

use crate::purge::waiting::{purge, tables, trash_one};
use crate::support::session::Session;

/// What the last purge said that keeps everything in TRASH.
fn obstacles(db: &Session) -> Vec<String> {
    let notices = db.notices();
    let told = notices.iter().filter(|notice| notice.message() == "nothing can be deleted from TRASH now");
    told.map(|notice| {
        assert_eq!((notice.severity(), notice.code().code()), ("NOTICE", "00000"));
        notice.detail().unwrap().to_owned()
    })
    .collect()
}

#[test]
fn rvacuum_purge_names_another_session_s_temporary_table() {
    let (cluster, db) = tables();
    let other = cluster.session();
    other.run("create temp table \"Own rows\" (n int, rs rbytea[])");
    let schema = other.text("select nspname from pg_namespace where oid = pg_my_temp_schema()");
    trash_one(&db);
    db.notices();
    for _ in 0..2 {
        assert_eq!(purge(&db), 0);
        let expected = format!("Another session's temporary table {schema}.\"Own rows\" may hold values.");
        assert_eq!(obstacles(&db), [expected], "rvacuum_purge() does not say why TRASH stays full");
    }
    other.run("drop table \"Own rows\"; create temp table own (n int, b bytea)");
    assert_eq!(purge(&db), 1);
    assert!(obstacles(&db).is_empty(), "a temporary table without an rbytea column holds back no file");
}

#[test]
fn rvacuum_purge_tells_of_a_cursor_with_hold() {
    let (cluster, db) = tables();
    let other = cluster.session();
    other.run("set rbytea.client_type = rbytea; declare c cursor with hold for select r from t");
    trash_one(&db);
    db.notices();
    assert_eq!(purge(&db), 0);
    assert_eq!(obstacles(&db), ["A session has a cursor WITH HOLD that may hold values."]);
    other.run("close c");
    assert_eq!(purge(&db), 1);
    assert!(obstacles(&db).is_empty());
}

/// Sessions that call rvacuum(), which waits for the retention anyway, get no NOTICE.
#[test]
fn only_rvacuum_purge_tells_of_obstacles() {
    let (cluster, db) = tables();
    let other = cluster.session();
    db.run("create temp table mine as select * from t");
    trash_one(&db);
    db.notices();
    assert_eq!(purge(&db), 1, "its own temporary tables the vacuum can read");
    assert!(obstacles(&db).is_empty());

    other.run("create temp table own as select * from t");
    trash_one(&db);
    db.run("select rvacuum()");
    assert!(obstacles(&db).is_empty(), "rvacuum() was not asked to delete");
    assert_eq!(cluster.trash().len(), 1);
}
