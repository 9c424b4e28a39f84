//! SIGINT and SIGTERM: the server stops what it was doing, no unfinished file is left, and the exit status tells.

use std::fs;

use rustix::process::Signal;

use crate::support::cluster::{PATIENCE, SOON, wait_until};
use crate::support::tool::{backend, run, start, tool};
use crate::support::twins::noise;

use super::files::{GET, PUT, cluster_with_files};

#[test]
fn an_interrupted_put_leaves_no_row_and_no_statement() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let cluster = cluster_with_files();
        let db = cluster.session();
        let from = cluster.dir().join("file");
        fs::write(&from, noise(3_000_000, 1)).unwrap();
        db.run("begin; lock table files");
        let putting = start(tool(&cluster, PUT).arg(&from));
        let watching = cluster.session();
        wait_until(PATIENCE, || backend(&watching, "INSERT").is_some_and(|pid| watching.sees_waiting(pid)));
        putting.signal(signal);
        putting.end().ends_with(status);
        let gone = "select not exists (select from pg_stat_activity where application_name = 'rbytea')";
        wait_until(SOON, || watching.one(gone, &[]));
        db.run("rollback");
        assert_eq!(db.one::<i64>("select count(*) from files", &[]), 0);
    }
}

#[test]
fn an_interrupted_get_leaves_no_file() {
    let cluster = cluster_with_files();
    let (from, to) = (cluster.dir().join("large"), cluster.dir().join("to"));
    fs::write(&from, noise(100 << 20, 1)).unwrap();
    fs::create_dir(&to).unwrap();
    run(tool(&cluster, PUT).arg(&from)).ends_with(0);
    let getting = start(tool(&cluster, GET).arg("-o").arg(&to));
    let left = || fs::read_dir(&to).unwrap().count();
    wait_until(PATIENCE, || left() > 0);
    getting.signal(Signal::INT);
    getting.end().ends_with(130);
    assert_eq!(left(), 0, "an unfinished file is left");
}

#[test]
fn an_interrupted_check_is_cancelled() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    db.run("begin; lock table files");
    let checking = start(&mut tool(&cluster, ["check"]));
    let watching = cluster.session();
    wait_until(PATIENCE, || {
        backend(&watching, "SELECT coalesce").is_some_and(|pid| watching.sees_waiting(pid))
    });
    checking.signal(Signal::INT);
    checking.end().ends_with(130);
    let gone = "select not exists (select from pg_stat_activity where application_name = 'rbytea')";
    wait_until(SOON, || watching.one(gone, &[]));
}
