//! Connections that are lost while a file is put or got: it is put once, whatever had become of the first attempt.

use std::fs;

use rustix::process::Signal;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::tool::{Running, backend, start, tool};
use crate::support::twins::noise;

use super::files::{GET, PUT, PUT_UNNAMED, cluster_with_files};

/// Waits until the tool runs such a statement, and holds the tool there; its backend.
fn hold_at(running: &Running, db: &Session, statement: &str) -> i32 {
    let mut pid = None;
    wait_until(PATIENCE, || {
        pid = backend(db, statement);
        pid.is_some()
    });
    running.signal(Signal::STOP);
    pid.unwrap()
}

fn terminate(db: &Session, pid: i32) {
    db.execute("select pg_terminate_backend($1, 60000)", &[&pid]);
}

/// That the one row has these bytes.
fn assert_put_once(db: &Session, payload: &[u8]) {
    assert_eq!(db.one::<i64>("select count(*) from files", &[]), 1, "the file was not put exactly once");
    let same: bool = db.one("select sha256sum(content) = encode(sha256($1), 'hex') from files", &[&payload]);
    assert!(same, "other bytes than those of the file");
}

#[test]
fn a_file_whose_backend_is_terminated_in_mid_upload_is_put_once() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    let payload = noise(100 << 20, 1);
    let from = cluster.dir().join("large");
    fs::write(&from, &payload).unwrap();
    let putting = start(tool(&cluster, PUT).arg(&from));
    let pid = hold_at(&putting, &db, "COPY");
    terminate(&db, pid);
    putting.signal(Signal::CONT);
    let put = putting.end().ends_with(0);
    assert!(put.said.contains("trying again"), "{}", put.said);
    assert_put_once(&db, &payload);
}

/// Puts a file whose COMMIT does not come to its end before its backend is terminated.
fn terminate_during_commit(cluster: &Cluster, arguments: &[&str], len: usize) -> (Vec<u8>, String) {
    let db = cluster.session();
    let payload = noise(len, 2);
    let from = cluster.dir().join("file");
    fs::write(&from, &payload).unwrap();
    let putting = start(tool(cluster, arguments).arg(&from));
    let mut pid = None;
    wait_until(PATIENCE, || {
        pid = backend(&db, "COMMIT");
        pid.is_some()
    });
    terminate(&db, pid.unwrap());
    (payload, putting.end().ends_with(0).said)
}

#[test]
fn a_file_whose_commit_was_not_answered_is_put_once() {
    for (arguments, len) in
        [(&PUT[..], 1000), (&PUT_UNNAMED, 1000), (&PUT, 3_000_000), (&PUT_UNNAMED, 3_000_000)]
    {
        // A commit that waits for a standby has happened.
        let cluster = cluster_with_files();
        cluster.set_conf("synchronous_standby_names = 'nobody'");
        cluster.reload();
        let (payload, said) = terminate_during_commit(&cluster, arguments, len);
        assert!(!said.contains("trying again"), "{said}");
        assert_put_once(&cluster.session(), &payload);
    }
}

#[test]
fn a_file_whose_commit_has_failed_is_put_again() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    db.run(
        "create function wait() returns trigger language plpgsql as
           $$ begin if pg_try_advisory_lock(2) then perform pg_sleep(600); end if; return null; end $$;
         create constraint trigger wait after insert on files deferrable initially deferred for each row execute function wait()",
    );
    // Only the first one waits, whose lock ends with it; this session holds it then.
    let from = cluster.dir().join("file");
    let payload = noise(3_000_000, 2);
    fs::write(&from, &payload).unwrap();
    let putting = start(tool(&cluster, PUT_UNNAMED).arg(&from));
    let pid = hold_at(&putting, &db, "COMMIT");
    terminate(&db, pid);
    db.run("select pg_advisory_lock(2)");
    putting.signal(Signal::CONT);
    let put = putting.end().ends_with(0);
    assert!(put.said.contains("trying again"), "{}", put.said);
    assert_put_once(&db, &payload);
}

#[test]
fn files_are_put_though_the_server_restarts() {
    let mut cluster = cluster_with_files();
    let from = cluster.dir().join("from");
    fs::create_dir(&from).unwrap();
    for number in 0..300 {
        fs::write(from.join(number.to_string()), noise(20_000, number)).unwrap();
    }
    let putting = start(tool(&cluster, PUT).args(["--jobs", "2"]).arg(&from));
    let db = cluster.session();
    wait_until(PATIENCE, || db.one::<i64>("select count(*) from files", &[]) > 20);
    drop(db);
    cluster.kill9();
    cluster.start();
    putting.end().ends_with(0);
    let db = cluster.session();
    assert_eq!(
        db.text("select count(*), count(distinct name), count(distinct sha256sum(content)) from files"),
        "300|300|300"
    );
}

#[test]
fn a_file_that_is_got_begins_again() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    let payload = noise(100 << 20, 3);
    let (from, to) = (cluster.dir().join("large"), cluster.dir().join("to"));
    fs::write(&from, &payload).unwrap();
    fs::create_dir(&to).unwrap();
    start(tool(&cluster, PUT).arg(&from)).end().ends_with(0);
    let getting = start(tool(&cluster, GET).arg("-o").arg(&to));
    let pid = hold_at(&getting, &db, "COPY");
    terminate(&db, pid);
    getting.signal(Signal::CONT);
    let got = getting.end().ends_with(0);
    assert!(got.said.contains("trying again"), "{}", got.said);
    assert!(fs::read(to.join("large")).unwrap() == payload, "other bytes than were put");
}

#[test]
fn a_server_that_stays_away_ends_the_attempts() {
    let mut cluster = cluster_with_files();
    let db = cluster.session();
    let from = cluster.dir().join("file");
    fs::write(&from, noise(3_000_000, 1)).unwrap();
    db.run("begin; lock table files");
    let putting = start(tool(&cluster, PUT).args(["--retry", "1"]).arg(&from));
    let watching = cluster.session();
    wait_until(PATIENCE, || backend(&watching, "INSERT").is_some());
    cluster.kill9();
    let put = putting.end().ends_with(1);
    assert!(put.said.contains("connection to server on socket"), "{}", put.said);
}
