//! SIGKILL at the system calls of those who see to it that a checkpoint forgets no payload, one call at a time: keepers, the
//! checkpointer, and on a standby the startup process and the checkpointer. What the store's file system had only in memory is lost at
//! the same moment.
//!
//! Without RBYTEA_FAULTS it is every eighth call.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use crate::evidence::{Found, Promise, proves};
use crate::support::broken_store::{BrokenStore, own};
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::injector::{Injection, Rule};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::keepers::{await_keepers, has_keepers};
use crate::support::processes::children;
use crate::support::session::Session;
use crate::support::shared_store::{primary, replayed};
use crate::support::standby::standby_of;
use crate::support::volumes::{Kind, Volume};

const SETTINGS: &[&str] = &[
    "rbytea.wal_payload_limit = -1",
    "rbytea.trash_retention = 0",
    "checkpoint_timeout = 1d",
    "restart_after_crash = off",
    "autovacuum = off",
];

/// Rows that come while a process is killed.
const MOST_ROWS: i32 = 40;

fn step() -> usize {
    if std::env::var_os("RBYTEA_FAULTS").is_some() { 1 } else { 8 }
}

fn rule<'a>(call: &'a str, when: &'a str) -> Rule<'a> {
    Rule { call, when, action: "signal=SIGKILL", paths: &[] }
}

/// The processes of a server whose titles begin like this, as soon as there is one: a server takes connections before each of its
/// processes has its title.
fn pids(cluster: &Cluster, title: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    wait_until(PATIENCE, || {
        let found = children(cluster).into_iter().filter(|child| child.title.starts_with(title));
        pids = found.map(|child| child.pid).collect();
        !pids.is_empty()
    });
    pids
}

fn is_gone(pids: &[i32]) -> bool {
    pids.iter().any(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may have spaces in it.
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    })
}

/// One number after the other.
struct Numbers(i32);

impl Numbers {
    fn take(&mut self, count: i32) -> std::ops::RangeInclusive<i32> {
        self.0 += count;
        self.0 - count..=self.0 - 1
    }
}

/// Inserts rows with numbers from this one on until that fails or is over, and not too many to be read in each case. Returns the next
/// number, and that of a row of which it is not known whether it was committed.
fn insert_until(over: &AtomicBool, db: &Session, ledger: &mut Ledger, first: i32) -> (i32, Option<i32>) {
    let end = first + MOST_ROWS;
    for n in first..end {
        if over.load(SeqCst) {
            return (n, None);
        }
        if !ledger.try_insert(db, "p", n) {
            return (n + 1, Some(n));
        }
    }
    (end, None)
}

/// A primary's process is killed at each of these calls that it makes while checkpoints and rows come.
fn of_a_primary(title: &str, calls: &[&str]) {
    let mut store = BrokenStore::on_ext4(SETTINGS);
    store.superuser.run("create table p (n int primary key, r rbytea)");
    await_keepers(&store.superuser);
    let (mut ledger, mut numbers) = (Ledger::default(), Numbers(1));
    let (mut found, mut killed_at) = (Found::default(), Vec::new());
    for call in calls {
        for when in (1..).step_by(step()) {
            let db = store.cluster.session();
            wait_until(PATIENCE, || has_keepers(&db));
            ledger.insert(&db, "p", numbers.take(7));
            let victims = pids(&store.cluster, title);
            let output = store.cluster.dir().join("trace");
            // The call may come at once, and then no session any more.
            let (writer, checkpoints) = (store.cluster.session(), store.cluster.session());
            let injection = Injection::into_all(&victims, rule(call, &when.to_string()), &output);
            let over = AtomicBool::new(false);
            let (next, unknown) = thread::scope(|scope| {
                let writing = scope.spawn(|| insert_until(&over, &writer, &mut ledger, numbers.0));
                let mut round = 0;
                // A keeper may have synced for the first one before.
                while !is_gone(&victims) && checkpoints.try_run("checkpoint").is_ok() {
                    round += 1;
                    if round == 3 {
                        break;
                    }
                }
                over.store(true, SeqCst);
                writing.join().unwrap()
            });
            numbers.0 = next;
            // Until here the call may still come.
            drop(injection.end());
            let killed = is_gone(&victims);
            if !killed {
                assert_eq!(unknown, None, "{call} {when}: the server is gone, and {title} is not");
                break;
            }
            killed_at.push(format!("{call} {when}"));
            drop(db);
            store.cluster.kill9();
            store.volume().lose_power();
            store.cluster.start();
            let db = store.cluster.session();
            if let Some(n) = unknown {
                db.execute("delete from p where n = $1", &[&n]);
            }
            found.add(ledger.compare(&db, "p"));
        }
    }
    tell(title, &killed_at, found);
}

fn tell(title: &str, killed_at: &[String], found: Found) {
    eprintln!("{title}: {killed_at:?} {found:?}");
    assert!(killed_at.len() > 2, "{title} was killed at {killed_at:?} only");
    proves(Promise::Durable, Found { cases: killed_at.len() as u64, ..found });
}

/// A standby's process is killed at each of these calls that it makes while it replays and makes restartpoints.
fn of_a_standby(title: &str, calls: &[&str]) {
    let (primary, _) = primary(SETTINGS);
    let db = primary.session();
    db.run("alter table t rename to p");
    let root = primary.dir().join("of_standby");
    own(&primary, &root, |root| fs::create_dir(root));
    let volume = Volume::mounted(Kind::Ext4, &root, 256 << 20, None);
    own(&primary, &root, |_| Ok(()));
    let conf = [
        format!("rbytea.filesystem_storage_path = '{}'", root.display()),
        "rbytea.recovery_store = own".into(),
    ];
    let mut standby = standby_of(&primary, &conf.each_ref().map(String::as_str));
    let (mut ledger, mut numbers) = (Ledger::default(), Numbers(1));
    let (mut found, mut killed_at) = (Found::default(), Vec::new());
    for call in calls {
        for when in (1..).step_by(step()) {
            let reader = standby.session();
            replayed(&db, &reader);
            let victims = pids(&standby, title);
            assert_eq!(victims.len(), 1, "{title}");
            let injection =
                Injection::into_all(&victims, rule(call, &when.to_string()), &standby.dir().join("trace"));
            let first = *numbers.take(14).start();
            ledger.insert(&db, "p", first..=first + 9);
            ledger.update(&db, "p", first..=first + 2);
            ledger.delete(&db, "p", first + 8..=first + 9);
            db.run("select rvacuum()");
            db.run("checkpoint");
            db.run("select rvacuum_purge()");
            ledger.insert(&db, "p", first + 10..=first + 13);
            let now: String = db.one("select pg_current_wal_lsn()::text", &[]);
            let replayed_all = format!(
                "do $$ begin if pg_last_wal_replay_lsn() < '{now}' then raise 'not yet'; end if; end $$"
            );
            wait_until(PATIENCE, || is_gone(&victims) || reader.try_run(&replayed_all).is_ok());
            let _ = reader.try_run("checkpoint");
            // Until here the call may still come.
            drop(injection.end());
            let killed = is_gone(&victims);
            if !killed {
                break;
            }
            killed_at.push(format!("{call} {when}"));
            drop(reader);
            standby.kill9();
            volume.lose_power();
            standby.start();
            let reader = standby.session();
            replayed(&db, &reader);
            found.add(ledger.compare(&reader, "p"));
        }
    }
    tell(title, &killed_at, found);
    drop(standby);
}

#[test]
fn a_keeper_that_is_killed_at_any_call_loses_no_payload() {
    of_a_primary("rbytea keeper", &["syncfs", "fsync", "utimensat", "fstatfs", "openat2"]);
}

#[test]
fn a_checkpointer_that_is_killed_at_any_call_loses_no_payload() {
    of_a_primary("checkpointer", &["fdatasync", "fsync", "pwrite64", "write", "openat"]);
}

#[test]
fn a_startup_process_that_is_killed_at_any_call_loses_no_payload() {
    let calls = [
        "openat2",
        "mkdirat",
        "pwrite64",
        "ftruncate",
        "syncfs",
        "fsync",
        "utimensat",
        "renameat2",
        "unlinkat",
    ];
    of_a_standby("startup", &calls);
}

#[test]
fn a_checkpointer_of_a_standby_that_is_killed_at_any_call_loses_no_payload() {
    of_a_standby("checkpointer", &["fdatasync", "fsync", "pwrite64", "write"]);
}
