//! Keepers: how they come and go, and checkpoints that wait for them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::broken_store::BrokenStore;
use crate::support::cluster::{PATIENCE, SOON, Shutdown, wait_until};
use crate::support::judge::ledger::Ledger;
use crate::support::keepers::{await_keepers, await_new_holds, has_keepers, holds};
use crate::support::processes::{Log, Process, child, hold, signal};
use crate::support::session::Session;

/// A cluster whose store is on an ext4, and a session with a table.
fn cluster(conf: &[&str]) -> (BrokenStore, Session) {
    let store = BrokenStore::on_ext4(conf);
    let db = store.cluster.session();
    db.run("create table p (n int primary key, r rbytea)");
    (store, db)
}

/// A checkpoint that collects those it waits for after they have let go behind its redo pointer: they let go again.
#[test]
fn a_checkpoint_that_collects_late_completes() {
    let (store, db) = cluster(&["log_checkpoints = on", "rbytea.wal_payload_limit = -1"]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "p", 1..=20);
    let mut log = Log::from_now(&store.cluster);
    let checkpointer = child(&store.cluster, "checkpointer").unwrap();
    // Its redo pointer is set when it says that it starts.
    let running = store.cluster.session().start("checkpoint");
    assert!(log.has("checkpoint starting", PATIENCE));
    hold(&store.cluster, &checkpointer);
    await_new_holds(&db);
    await_new_holds(&db);
    signal(&store.cluster, &checkpointer, Signal::CONT);
    wait_until(SOON, || running.is_finished());
    running.finish().unwrap();
    ledger.assert_equal(&db, "p");
}

#[test]
fn checkpoints_complete_soon_whatever_the_keepers_are_doing() {
    let (_store, db) = cluster(&[]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    for n in 1..=30 {
        ledger.insert(&db, "p", n..=n);
        db.run("set statement_timeout = '20s'; checkpoint; reset statement_timeout");
    }
    ledger.assert_equal(&db, "p");
    assert!(has_keepers(&db));
    // They hold nobody else back.
    for sql in ["vacuum p", "create index concurrently on p (len(r))", "reindex table concurrently p"] {
        db.run(sql);
    }
    let horizon = "select count(*) from pg_stat_activity where backend_type = 'rbytea keeper' and (backend_xmin is not null or backend_xid is not null)";
    assert_eq!(db.text(horizon), "0");
}

#[test]
fn keepers_that_are_terminated_are_started_again_and_nothing_is_lost() {
    let (mut store, db) = cluster(&[]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    let mut n = 0;
    for which in [&[0][..], &[1], &[0, 1]] {
        let before = holds(&db);
        // Written while there are keepers, committed when they are gone.
        let other = store.cluster.session();
        other.run("begin");
        n += 1;
        ledger.insert(&other, "p", n..=n);
        for &which in which {
            db.run(&format!("select pg_terminate_backend({}, 60000)", before[which].0));
        }
        n += 1;
        ledger.insert(&db, "p", n..=n);
        other.run("commit; checkpoint");
        wait_until(PATIENCE, || has_keepers(&db) && holds(&db).len() == 2);
        n += 1;
        ledger.insert(&db, "p", n..=n);
        for &which in which {
            assert!(holds(&db).iter().all(|(pid, _)| *pid != before[which].0));
        }
    }
    ledger.assert_equal(&db, "p");
    drop(db);
    store.cluster.kill9();
    store.cluster.start();
    ledger.assert_equal(&store.cluster.session(), "p");
}

#[test]
fn a_keeper_that_is_killed_takes_the_server_through_recovery() {
    let (store, db) = cluster(&[]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "p", 1..=10);
    let mut log = Log::from_now(&store.cluster);
    let (pid, _) = holds(&db)[0];
    store.cluster.kill9_backend(pid);
    assert!(log.confirms(&Process::of(pid)));
    assert!(log.has("database system is ready to accept connections", PATIENCE));
    let db = store.cluster.session();
    ledger.assert_equal(&db, "p");
    wait_until(PATIENCE, || has_keepers(&db));
}

/// Without a slot for one of them there are none, and payloads are synced as ever.
#[test]
fn without_slots_for_both_there_are_none() {
    // The first one is PostgreSQL's own launcher's.
    for (slots, keepers) in [(0, 0), (2, 1)] {
        let (mut store, db) = cluster(&[&format!("max_worker_processes = {slots}")]);
        let mut ledger = Ledger::default();
        ledger.insert(&db, "p", 1..=5);
        wait_until(PATIENCE, || holds(&db).len() == keepers);
        db.run("checkpoint");
        assert!(!has_keepers(&db));
        ledger.insert(&db, "p", 6..=9);
        drop(db);
        store.cluster.restart();
        let db = store.cluster.session();
        ledger.assert_equal(&db, "p");
        assert!(!has_keepers(&db));
    }
}

/// A file system whose syncfs cannot be trusted, no fsync at all, no store: nobody relies on keepers.
#[test]
fn keepers_are_there_for_what_they_can_sync_only() {
    let (store, db) = cluster(&[]);
    await_keepers(&db);
    store.cluster.set_conf("fsync = off");
    store.cluster.reload();
    wait_until(PATIENCE, || !has_keepers(&db));
    store.cluster.set_conf("fsync = on");
    store.cluster.reload();
    wait_until(PATIENCE, || has_keepers(&db));
    let volume = crate::support::broken_store::BrokenStore::on_small_file_system(4 << 20);
    volume.cluster.set_conf("rbytea.external_threshold = 0");
    volume.cluster.reload();
    await_new_holds(&volume.superuser);
    await_new_holds(&volume.superuser);
    assert!(!has_keepers(&volume.superuser), "a tmpfs");
}

/// Another root in the same file system.
fn move_to_another_directory(store: &BrokenStore) -> PathBuf {
    let elsewhere = store.root.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    if let Some((uid, gid)) = store.cluster.installation().server_user {
        chown(&elsewhere, Some(uid), Some(gid)).unwrap();
    }
    store.cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", elsewhere.display()));
    store.cluster.reload();
    elsewhere
}

#[test]
fn a_store_that_is_moved_by_a_reload_has_keepers_again() {
    let (mut store, db) = cluster(&[]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "p", 1..=10);
    move_to_another_directory(&store);
    db.run("create table u (n int primary key, r rbytea)");
    let mut other = Ledger::default();
    other.insert(&db, "u", 1..=10);
    wait_until(PATIENCE, || has_keepers(&db));
    other.insert(&db, "u", 11..=20);
    db.run("checkpoint");
    other.insert(&db, "u", 21..=30);
    drop(db);
    store.cluster.kill9();
    store.cluster.start();
    other.assert_equal(&store.cluster.session(), "u");
    store.cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", store.root.display()));
    store.cluster.restart();
    ledger.assert_equal(&store.cluster.session(), "p");
}

/// The root is renamed and another directory takes its name.
#[test]
fn a_root_that_is_exchanged_is_noticed() {
    let (store, db) = cluster(&[]);
    let root = move_to_another_directory(&store);
    await_keepers(&db);
    let before = holds(&db);
    let aside = root.with_extension("aside");
    fs::rename(&root, &aside).unwrap();
    let copied = std::process::Command::new("cp").args(["-a"]).arg(&aside).arg(&root).status();
    assert!(copied.unwrap().success());
    assert!(!has_keepers(&db), "they hold for the other one");
    wait_until(PATIENCE, || has_keepers(&db));
    let after: Vec<i32> = holds(&db).into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(after, before.into_iter().map(|(pid, _)| pid).collect::<Vec<_>>(), "the same processes");
}

#[test]
fn every_shutdown_leaves_everything_there() {
    let (mut store, db) = cluster(&["rbytea.wal_payload_limit = -1"]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    drop(db);
    for (n, how) in (0..).zip([Shutdown::Fast, Shutdown::Immediate, Shutdown::Smart, Shutdown::Fast]) {
        let db = store.cluster.session();
        wait_until(PATIENCE, || has_keepers(&db));
        ledger.insert(&db, "p", n * 10..=n * 10 + 9);
        ledger.assert_equal(&db, "p");
        // A transaction that is still running.
        let open = store.cluster.session();
        if !matches!(how, Shutdown::Smart) {
            open.run("begin; insert into p values (1000, 'not committed')");
        }
        drop((db, open));
        let status = store.cluster.stop(how);
        assert!(status.success(), "{how:?}: {status}");
        store.cluster.start();
        ledger.assert_equal(&store.cluster.session(), "p");
    }
}

/// In single-user mode there are no workers; what it writes is synced, and its records are replayed.
#[test]
fn single_user_mode_writes_without_keepers() {
    let (mut store, db) = cluster(&[]);
    await_keepers(&db);
    let mut ledger = Ledger::default();
    ledger.insert(&db, "p", 1..=10);
    drop(db);
    store.cluster.kill9();
    let mut single = store
        .cluster
        .server_command(store.cluster.tool("postgres"))
        .args(["--single", "-D"])
        .arg(store.cluster.data())
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let statements = "insert into p select n + 100, r from p where n <= 5;\ninsert into p values (0, 'alone');\ncheckpoint;\n";
    std::io::Write::write_all(&mut single.stdin.take().unwrap(), statements.as_bytes()).unwrap();
    assert!(single.wait().unwrap().success());
    store.cluster.start();
    let db = store.cluster.session();
    assert_eq!(db.text("select convert_from(r, 'utf8') from p where n = 0"), "alone");
    assert_eq!(
        db.text("select count(*) from p a join p b on a.n = b.n + 100 and sha256sum(a.r) = sha256sum(b.r)"),
        "5"
    );
    db.run("delete from p where n = 0 or n > 100");
    ledger.assert_equal(&db, "p");
}

/// Checkpoints every few moments under load, with sessions that end and begin.
#[test]
fn checkpoints_and_commits_do_not_stand_in_each_others_way() {
    let (mut store, db) = cluster(&["rbytea.wal_payload_limit = -1"]);
    await_keepers(&db);
    let mut ledgers: Vec<Ledger> = vec![Ledger::default(); 3];
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (at, ledger) in ledgers.iter_mut().enumerate() {
            let (cluster, done) = (&store.cluster, &done);
            scope.spawn(move || {
                for n in 0..40 {
                    let n = n * 3 + at as i32;
                    let db = cluster.session();
                    ledger.insert(&db, "p", n..=n);
                }
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        let mut checkpoints = 0;
        while done.load(std::sync::atomic::Ordering::SeqCst) < 3 {
            db.run("checkpoint");
            checkpoints += 1;
        }
        assert!(checkpoints > 3, "{checkpoints} checkpoints only");
    });
    drop(db);
    store.cluster.kill9();
    store.cluster.start();
    let all = ledgers.iter().fold(Ledger::default(), Ledger::with);
    all.assert_equal(&store.cluster.session(), "p");
}
