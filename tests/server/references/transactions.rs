//! A restored payload is of the transaction that restores it: what becomes of that becomes of the payload.

use std::fs;
use std::path::Path;

use tokio_postgres::error::SqlState;

use crate::references::dumped::{
    LENGTHS, LOGGED, NOT_LOGGED, accept, bytes_below, database, directory, fill, reference,
};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::Twins;

/// A cluster with the databases `source`, which is filled, and `copy`, which takes its payloads; each has `t (n, sum, r)`.
fn pair(conf: &[&str]) -> (Cluster, Session, Session) {
    let cluster = Cluster::running_with(conf);
    let (source, copy) = (database(&cluster, "source"), database(&cluster, "copy"));
    fill(&source);
    copy.run("create table t (n int primary key, sum text, r rbytea); create table twice (n int, r rbytea)");
    accept(&copy, "on", Some(&directory(&cluster, &source)));
    (cluster, source, copy)
}

/// A statement that restores the rows of `t` of the source.
fn insert(source: &Session) -> String {
    source.run("set rbytea.dump_references = on");
    let rows = source.text("select format('(%s, %L, %L)', n, sum, r) from t where r is not null");
    source.run("reset rbytea.dump_references");
    format!("insert into t values {}", rows.replace('\n', ", "))
}

#[track_caller]
fn assert_whole(copy: &Session, rows: usize) {
    assert_eq!(copy.text("select count(*) from t where sum = sha256sum(r)"), rows.to_string());
    assert_eq!(copy.text("select relation, problem, path from rbytea_check(digest => true)"), "");
}

/// Gives up a restore, and then looks whether anything but garbage is left of it, and whether the source is what it was.
#[track_caller]
fn assert_garbage(
    cluster: &Cluster,
    source: &Session,
    copy: &Session,
    before: &[(std::path::PathBuf, String)],
) {
    assert_eq!(bytes_below(&directory(cluster, source)), before, "the source is not what it was");
    assert_eq!(copy.text("select count(*) from t"), "0");
    let left = cluster.files_of(copy).live.len() as i64;
    assert_eq!(copy.rvacuum(), left, "garbage is left for ever");
    copy.run("select rvacuum_purge()");
    assert!(cluster.files_of(copy).trash.is_empty());
    assert_eq!(bytes_below(&directory(cluster, source)), before, "the vacuum has changed the source");
}

/// Its file was never made durable.
#[test]
fn a_reference_to_a_payload_that_was_not_committed_is_not_restored() {
    let cluster = Cluster::with_extension_and(&[NOT_LOGGED]);
    let (db, other) = (cluster.session(), cluster.session());
    db.run("create table t (n int, r rbytea); set rbytea.dump_references = on");
    other.run("set rbytea.restore_references = on");
    let refused = |reference: &str| {
        let state = other.sqlstate(&format!("insert into t values (2, '{reference}')"));
        assert_eq!(state, SqlState::UNDEFINED_FILE);
    };
    db.run("begin; insert into t values (1, 'not committed')");
    let reference = db.text("select format('%s', r) from t");
    refused(&reference);
    db.run("rollback");
    refused(&reference);
    db.run("insert into t values (1, 'committed')");
    other.run(&format!("insert into t values (2, '{}')", db.text("select format('%s', r) from t")));
    assert_eq!(other.text("select string_agg(convert_from(r, 'utf8'), ' ') from t"), "committed committed");
    assert_eq!(other.text("select count(distinct uuid(r)) from t"), "1");
}

#[test]
fn a_restore_that_is_rolled_back_leaves_garbage_alone() {
    for conf in [NOT_LOGGED, "rbytea.wal_payload_limit = '100kB'", LOGGED] {
        let (cluster, source, copy) = pair(&[conf]);
        let before = bytes_below(&directory(&cluster, &source));
        let sql = insert(&source);
        copy.run(&format!("begin; {sql}; rollback"));
        assert_garbage(&cluster, &source, &copy, &before);
        copy.run(&format!(
            "begin; savepoint s; {sql}; rollback to s; savepoint s2; {sql}; release s2; commit"
        ));
        assert_whole(&copy, LENGTHS.len());
        assert_eq!(copy.rvacuum(), 0);
        assert_whole(&copy, LENGTHS.len());
    }
}

/// The second row needs no second file; nor does one after the first one was undone.
#[test]
fn the_same_reference_twice_in_a_transaction_is_one_payload() {
    for conf in [NOT_LOGGED, LOGGED] {
        let (cluster, source, copy) = pair(&[conf]);
        let text = reference(&source, "r from t where n = 9");
        let small = reference(&source, "r from t where n = 4");
        let [text, small] = [&text, &small].map(|text| format!("insert into twice values (1, '{text}')"));
        copy.run(&format!(
        "begin; savepoint a; {text}; {small}; rollback to a; {text}; savepoint b; {text}; {small}; rollback to b; {small}; {small}; commit"
    ));
        assert_eq!(copy.text("select count(*), count(distinct uuid(r)) from twice"), "3|2");
        assert_eq!(cluster.files_of(&copy).live.len(), 2);
        assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
        // The next transaction has one of its own.
        copy.run(&text);
        assert_eq!(copy.rvacuum(), 0);
        assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
    }
}

#[test]
fn a_procedure_that_commits_and_rolls_back_on_the_way_keeps_what_it_stores() {
    let (cluster, source, copy) = pair(&[NOT_LOGGED]);
    let text = reference(&source, "r from t where n = 9");
    copy.run(&format!(
        "create procedure p() language plpgsql as $$
         declare v rbytea := '{text}';
         begin
             insert into twice values (1, v);
             rollback;
             insert into twice values (2, v);
             commit;
             insert into twice values (3, '{text}');
             commit;
         end $$"
    ));
    copy.run("call p()");
    copy.rvacuum();
    assert_eq!(copy.text("select n, len(r) from twice order by n"), "2|300001\n3|300001");
    assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
    drop(cluster);
}

#[test]
fn a_prepared_restore_survives_a_crash_and_is_committed_or_not() {
    let (mut cluster, source, copy) = pair(&[NOT_LOGGED]);
    let sql = insert(&source);
    copy.run(&format!("begin; {sql}; prepare transaction 'restore'"));
    copy.run("begin; insert into twice select n, r from t; prepare transaction 'nothing'");
    drop((source, copy));
    cluster.stop(Shutdown::Immediate);
    cluster.start();
    let copy = cluster.session_in("copy");
    assert_eq!(copy.rvacuum(), 0);
    copy.run("commit prepared 'restore'; ");
    copy.run("rollback prepared 'nothing'");
    assert_whole(&copy, LENGTHS.len());
    assert_eq!(copy.rvacuum(), 0);
}

/// The birth is the restoring transaction's already, by chance: the file is that of another payload's transaction all the same.
#[test]
fn a_birth_that_is_the_restoring_transaction_s_own_is_no_obstacle() {
    let (cluster, source, copy) = pair(&[NOT_LOGGED]);
    let text = reference(&source, "r from t where n = 9");
    let next: String = copy.one("select (pg_current_xact_id()::text::bigint + 2)::text", &[]);
    let birth = |next: &str| -> String {
        next.parse::<u64>().unwrap().to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let digits = text.rsplit(':').next().unwrap();
    let forged =
        |next: &str| text.replace(digits, &format!("{}{}{}", &digits[..28], birth(next), &digits[44..]));
    // A file of this name in the source, which has the payload.
    let file = cluster.files_of(&source).find(&copy_uuid(&source)).unwrap().clone();
    let name = file.file_name().unwrap().to_str().unwrap();
    let plant = |next: &str| {
        let next = next.parse::<u64>().unwrap();
        let leaf = directory(&cluster, &source).join(format!("{:012x}/{}", next >> 16, &name[17..19]));
        fs::create_dir_all(&leaf).unwrap();
        let planted = leaf.join(format!("{next:016x}{}", &name[16..]));
        if planted != file {
            fs::hard_link(&file, &planted).unwrap();
        }
        planted
    };
    copy.run("begin");
    let own: String = copy.one("select pg_current_xact_id()::text", &[]);
    assert!(own.parse::<u64>().unwrap() < next.parse::<u64>().unwrap());
    plant(&own);
    copy.run(&format!("insert into twice values (1, '{}'); commit", forged(&own)));
    let later = (own.parse::<u64>().unwrap() + 1_000_000).to_string();
    plant(&later);
    copy.run(&format!("insert into twice values (2, '{}')", forged(&later)));
    assert_eq!(copy.text("select n, len(r) from twice order by n"), "1|300001\n2|300001");
    assert_eq!(copy.text("select problem from rbytea_check(digest => true)"), "");
    assert_eq!(copy.rvacuum(), 0);
}

fn copy_uuid(source: &Session) -> String {
    source.text("select uuid(r) from t where n = 9")
}

/// Kills the backend in the midst of a restore, once a first file is there.
#[test]
fn a_backend_that_is_killed_while_it_restores_leaves_the_source_s_files_as_they_are() {
    for conf in [NOT_LOGGED, LOGGED] {
        let (cluster, source, copy) = pair(&[conf]);
        let before = bytes_below(&directory(&cluster, &source));
        let sql = insert(&source);
        let pid = copy.pid();
        let dir = directory(&cluster, &copy);
        let files = |dir: &Path| if dir.exists() { bytes_below(dir).len() } else { 0 };
        let running = copy.start(&format!("begin; {sql}; select pg_sleep(600)"));
        wait_until(PATIENCE, || files(&dir) >= LENGTHS.len());
        cluster.kill9_backend(pid);
        assert!(running.finish().is_err());
        drop((source, copy));
        let copy = cluster_again(&cluster);
        let source = cluster.session_in("source");
        assert_eq!(bytes_below(&directory(&cluster, &source)), before, "the source is not what it was");
        assert_eq!(copy.text("select count(*) from t"), "0");
        // Transactions that are told by nothing are given out again.
        accept(&copy, "verify", Some(&directory(&cluster, &source)));
        copy.run(&sql);
        assert_whole(&copy, LENGTHS.len());
        copy.rvacuum();
        assert_whole(&copy, LENGTHS.len());
        assert_eq!(bytes_below(&directory(&cluster, &source)), before, "the source is not what it was");
    }
}

/// A session as soon as recovery has ended.
fn cluster_again(cluster: &Cluster) -> Session {
    let mut session = None;
    wait_until(PATIENCE, || {
        session = Session::try_connect(&cluster.config("postgres", "copy")).ok();
        session.is_some()
    });
    session.unwrap()
}

#[test]
fn a_cancelled_restore_can_be_made_again() {
    let (cluster, source, copy) = pair(&[NOT_LOGGED]);
    let sql = insert(&source);
    let before = bytes_below(&directory(&cluster, &source));
    let other = cluster.session_in("copy");
    other.run("begin; lock table t in access exclusive mode");
    let running = copy.start(&sql);
    let pid_waits = "select exists (select from pg_locks where not granted)";
    wait_until(PATIENCE, || other.one(pid_waits, &[]));
    copy.cancel();
    assert_eq!(running.finish().unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    other.run("rollback");
    assert_garbage(&cluster, &source, &copy, &before);
    copy.run(&sql);
    assert_whole(&copy, LENGTHS.len());
}
