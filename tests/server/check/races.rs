//! rbytea_check() beside other sessions: what they insert, delete, roll back, vacuum, truncate, drop and encrypt meanwhile is no damage.
//! RBYTEA_CHECK_SECONDS bounds the time under load (6 by default).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::check::healthy::{check, finds_nothing};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::model::actor::Actor;
use crate::support::model::world::{Hiding, World};
use crate::support::model::{pairs, verdict};
use crate::support::runs::{number, text};
use crate::support::session::{Session, block_on};
use crate::support::twin_tables::{cluster_with, names};

const SETTINGS: &[&str] = &[
    "rbytea.databases_for_vacuuming = 'postgres'",
    "rbytea.vacuum_naptime = 1s",
    "rbytea.trash_retention = 0",
    "autovacuum = on",
    "autovacuum_naptime = 1s",
    "autovacuum_vacuum_threshold = 5",
];

/// Transactions that end all the time, and statements that wait for each other.
const MAY_FAIL: &[&str] = &["55000", "40P01", "55P03", "57014"];

/// Whatever is going on, no row is without its file. Garbage comes and goes.
#[test]
fn under_load_nothing_is_found_but_garbage() {
    let seconds = number("RBYTEA_CHECK_SECONDS").unwrap_or(6);
    let seed = number("RBYTEA_MODEL_SEED").unwrap_or_else(rand::random);
    let mut cluster = Cluster::with_extension_and(SETTINGS);
    let keys = cluster.data().join("keys");
    crate::support::encryption::put(&cluster, &keys, &crate::support::encryption::key_file(&[1, 2]), 0o600);
    cluster.set_conf("rbytea.key_file = 'keys'");
    cluster.reload();
    cluster.session().run(&pairs::setup());
    let world = World::new(&cluster, seed, Duration::from_secs(seconds), 4, Hiding::Nowhere);
    let (checks, failures) = thread::scope(|scope| {
        let actors: Vec<_> = (0..4)
            .map(|number| {
                let world = &world;
                scope.spawn(move || Actor::new(world, number).live())
            })
            .collect();
        let vacuum = scope.spawn(|| guarded(|| purge_again_and_again(&cluster.session(), &world)));
        let rotation = scope.spawn(|| guarded(|| encrypt_again_and_again(&cluster.session(), &world)));
        let checks = ["", "digest => true"].map(|arguments| {
            let (cluster, world) = (&cluster, &world);
            scope.spawn(move || guarded(|| check_again_and_again(&cluster.session(), world, arguments)))
        });
        let checks: Vec<_> = checks.into_iter().map(|check| check.join().unwrap()).collect();
        let ends = actors.into_iter().map(|actor| actor.join().unwrap_or_else(|panic| Err(text(&*panic))));
        let others = [vacuum.join().unwrap(), rotation.join().unwrap()].map(|end| end.map(drop));
        let ends = ends
            .chain(others)
            .chain(checks.iter().map(|check| check.as_ref().map(drop).map_err(String::clone)));
        let failures: Vec<_> = ends.filter_map(Result::err).collect();
        (checks, failures)
    });
    assert!(failures.is_empty(), "RBYTEA_MODEL_SEED={seed}: {}", failures.join("\nand: "));
    // No row needs what has been called garbage after that: once garbage, always garbage.
    verdict::reach(&mut cluster, &world).unwrap_or_else(|why| panic!("RBYTEA_MODEL_SEED={seed}: {why}"));
    let needed = names(&cluster.live());
    let mut cases = 0;
    for (checks, garbage) in checks.into_iter().flatten() {
        assert!(checks >= 2, "{checks} checks in {seconds} seconds");
        let revived: Vec<_> = garbage.intersection(&needed).collect();
        assert!(revived.is_empty(), "RBYTEA_MODEL_SEED={seed}: not unreferenced: {revived:?}");
        cases += checks + garbage.len() as u64;
    }
    proves_by_assertions(Promise::DamageIsNoticed, cases);
}

fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(text(&*panic)))
}

/// Runs the statement until the world is over; how often it succeeded.
fn again_and_again(db: &Session, world: &World, sql: &str) -> Result<u64, String> {
    let mut done = 0;
    while !world.is_over() {
        match db.try_run(sql) {
            Ok(()) => done += 1,
            Err(error) if MAY_FAIL.contains(&error.code().map_or("", |code| code.code())) => {}
            Err(error) => return Err(format!("{sql}: {error:?}")),
        }
    }
    Ok(done)
}

fn purge_again_and_again(db: &Session, world: &World) -> Result<u64, String> {
    // Transactions that were prepared keep their locks to the end.
    db.run("set lock_timeout = '1s'");
    again_and_again(db, world, "select rvacuum_purge()")
}

fn encrypt_again_and_again(db: &Session, world: &World) -> Result<u64, String> {
    db.run("set lock_timeout = '1s'");
    let tables = "select distinct c.oid::text from pg_class c join pg_attribute a on a.attrelid = c.oid
                   where relkind = 'r' and relpersistence <> 't' and atttypid = 'rbytea'::regtype and not attisdropped";
    let mut calls = 0;
    while !world.is_over() {
        db.run(&format!("set rbytea.qss_mode = {}", calls % 2 == 0));
        for table in db.column::<String>(tables, &[]) {
            // Tables and columns come and go.
            let _ = db.try_run(&format!("call rbytea_reencrypt({table}::oid::regclass, 3)"));
        }
        calls += 1;
    }
    Ok(calls)
}

/// How many checks there were, and the uuids of the files that they called unreferenced.
fn check_again_and_again(
    db: &Session,
    world: &World,
    arguments: &str,
) -> Result<(u64, BTreeSet<String>), String> {
    let query = format!("select problem, uuid::text, c::text from rbytea_check({arguments}) c");
    let (mut checks, mut garbage) = (0, BTreeSet::new());
    db.run("set lock_timeout = '1s'");
    while !world.is_over() || checks < 2 {
        match block_on(db.client().query(&query, &[])) {
            Ok(found) => {
                for finding in found {
                    if finding.get::<_, &str>(0) != "unreferenced" {
                        return Err(format!("a false finding: {}", finding.get::<_, &str>(2)));
                    }
                    garbage.extend(finding.get::<_, Option<String>>(1));
                }
                checks += 1;
            }
            Err(error) if MAY_FAIL.contains(&error.code().map_or("", |code| code.code())) => {}
            Err(error) => return Err(format!("{query}: {error:?}")),
        }
    }
    Ok((checks, garbage))
}

/// A table whose only row has a big payload first, then a small one and a TOASTed value, written by a transaction that is still open.
fn half_written() -> (Cluster, Session, Session) {
    let cluster = cluster_with(&[]);
    let db = cluster.session();
    db.run(
        "create table source as select rbytea_store(payload(n)) as r from generate_series(1, 60) n;
         create table t (big rbytea, small rbytea, rs rbytea[]); alter table t alter rs set storage external",
    );
    let writer = cluster.session();
    writer.run("begin");
    writer.run(
        "insert into t select convert_to(repeat('x', 100 * 1024 * 1024), 'UTF8'), 'small', array_agg(r) from source",
    );
    (cluster, db, writer)
}

/// Starts a check and stops its process while it reads the big payload.
fn stopped_check(cluster: &Cluster, checker: &Session) -> (crate::support::session::Running, Pid) {
    let big = cluster.live().into_iter().find(|file| fs::metadata(file).unwrap().size() > 1 << 20).unwrap();
    let pid = checker.pid();
    let process = Pid::from_raw(pid).unwrap();
    let start =
        || checker.start("create temp table found as select problem, path from rbytea_check('t', true)");
    let mut running = start();
    let open = || {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == big))
    };
    wait_until(PATIENCE, || {
        if running.is_finished() {
            std::mem::replace(&mut running, checker.start("")).finish().unwrap();
            checker.run("drop table found");
            running = start();
        }
        kill_process(process, Signal::STOP).unwrap();
        let reading = open();
        if !reading {
            kill_process(process, Signal::CONT).unwrap();
        }
        reading
    });
    (running, process)
}

/// VACUUM removes the TOAST rows of a transaction that was rolled back also while a check reads its row.
#[test]
fn a_row_whose_toast_goes_with_a_rollback_while_it_is_looked_at_is_no_damage() {
    let (cluster, db, writer) = half_written();
    let checker = cluster.session();
    let (running, process) = stopped_check(&cluster, &checker);
    writer.run("rollback");
    let toast: String =
        db.one("select reltoastrelid::regclass::text from pg_class where oid = 't'::regclass", &[]);
    db.run(&format!("vacuum {toast}"));
    db.run("select rvacuum()");
    kill_process(process, Signal::CONT).unwrap();
    running.finish().unwrap_or_else(|error| panic!("a rollback meanwhile ends the check: {error:?}"));
    assert_eq!(checker.text("select * from found"), "");
    proves_by_assertions(Promise::DamageIsNoticed, 1);
}

/// The other way round: a row that is deleted, and vacuumed away as far as possible, while it is looked at.
#[test]
fn a_row_that_is_deleted_while_it_is_looked_at_keeps_its_files() {
    let (cluster, db, writer) = half_written();
    writer.run("commit");
    let checker = cluster.session();
    let (running, process) = stopped_check(&cluster, &checker);
    db.run("delete from t");
    db.run("delete from source");
    db.run("vacuum source");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0);
    kill_process(process, Signal::CONT).unwrap();
    running.finish().unwrap();
    assert_eq!(checker.text("select * from found"), "");
    proves_by_assertions(Promise::DamageIsNoticed, 1);
}

/// Rows that lost a race for their key are no rows, though they were in the table for a moment.
#[test]
fn every_state_of_live_and_dead_tuples_is_recognized() {
    let cluster = cluster_with(&[]);
    let db = cluster.session();
    db.run("create table t (n int primary key, x int, r rbytea); create table other (n int, r rbytea)");
    db.run("insert into t select n, 0, payload(n) from generate_series(1, 20) n");
    // HOT chains, frozen rows, rows that were locked by several, updated, and locked again.
    for round in 0..3 {
        db.run(&format!(
            "update t set x = {round} where n <= 5; update t set r = payload(100 + {round}) where n = 6"
        ));
    }
    db.run("vacuum freeze t");
    db.run("select rvacuum()");
    db.run("update t set x = 9 where n <= 3");
    let lockers: Vec<_> = (0..3).map(|_| cluster.session()).collect();
    for (number, locker) in lockers.iter().enumerate() {
        locker.run(&format!(
            "begin; select from t where n = 7 for key share; update t set x = 5 where n = {}",
            8 + number
        ));
    }
    // Speculative insertions.
    let (first, second) = (cluster.session(), cluster.session());
    first.run("begin; insert into t values (30, 1, payload(30)) on conflict do nothing");
    let upsert = "insert into t values (30, 2, payload(31)) on conflict (n) do update set r = excluded.r";
    let pid = second.pid();
    let waiting = second.start(upsert);
    wait_until(PATIENCE, || db.sees_waiting(pid));
    // Several commands of one transaction on one row.
    db.run(
        "begin; insert into t values (40, 0, payload(40)); update t set r = payload(41) where n = 40;
            savepoint s; delete from t where n = 40; rollback to s; update t set x = 1 where n = 40",
    );
    finds_nothing(&db);
    let outside = cluster.session();
    finds_nothing(&outside);
    first.run("commit");
    waiting.finish().unwrap();
    db.run("commit");
    finds_nothing(&outside);
    assert_eq!(check(&outside, "'t', true"), [] as [String; 0]);
    // Every row that a snapshot sees, and no other, is missed when all files are gone. (A lock is no deletion.)
    cluster.live().iter().for_each(|file| fs::remove_file(file).unwrap());
    let rows: i64 = outside.one("select count(*) from t", &[]);
    let versions = 3;
    assert_eq!(check(&outside, "'t'").len() as i64, rows + versions, "and what is not committed yet");
    for locker in &lockers {
        locker.run("rollback");
    }
    assert_eq!(check(&outside, "'t'").len() as i64, rows);
    proves_by_assertions(Promise::DamageIsNoticed, rows as u64);
}
