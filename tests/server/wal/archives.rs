//! Point-in-time recovery from a base backup and an archive alone: the WAL has the payloads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::evidence::{Found, Promise, proves};
use crate::support::cluster::{Cluster, PATIENCE, Shutdown, wait_until};
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::session::Session;

const ALL: &[&str] = &[
    "rbytea.wal_payload_limit = -1",
    "rbytea.vacuum_naptime = 1d",
    "rbytea.trash_retention = 0",
    "archive_mode = on",
];

/// A directory beside the data directory, for the server's user.
fn directory(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.dir().join(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    own(cluster, &path);
    path
}

fn own(cluster: &Cluster, path: &Path) {
    if let Some((uid, gid)) = cluster.installation().server_user {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Runs one of the system's programs as the server's user.
#[track_caller]
fn run(cluster: &Cluster, program: impl Into<PathBuf>, args: &[&str]) -> String {
    let output = cluster.server_command(program.into()).args(args).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Names this moment and waits until the archive has it.
fn restore_point(db: &Session, name: &str) {
    db.execute("select pg_create_restore_point($1)", &[&name]);
    let file: String = db.one("select pg_walfile_name(pg_switch_wal())", &[]);
    wait_until(PATIENCE, || {
        db.one::<bool>("select coalesce(last_archived_wal >= $1, false) from pg_stat_archiver", &[&file])
    });
}

/// Waits until recovery has ended, and compares.
fn judge(cluster: &Cluster, ledger: &Ledger) -> Found {
    let db = cluster.session();
    wait_until(PATIENCE, || db.text("select pg_is_in_recovery()") == "f");
    let before = ledger.compare(&db, "t");
    assert_eq!(
        db.text("select problem, path from rbytea_check(digest => true) where problem <> 'unreferenced'"),
        ""
    );
    // It is a cluster as any other.
    db.run("insert into t values (-1, 'new')");
    db.run("delete from t where n = -1");
    for _ in 0..2 {
        db.one::<i64>("select rvacuum()", &[]);
        db.one::<i64>("select rvacuum_purge()", &[]);
    }
    assert_eq!(db.text("select problem, path from rbytea_check(digest => true)"), "");
    before.and(ledger.compare(&db, "t"))
}

#[test]
fn a_base_backup_and_the_archive_lead_to_any_moment() {
    let mut cluster = Cluster::stopped_with(ALL);
    let archive = directory(&cluster, "archive");
    cluster.set_conf(&format!("archive_command = 'cp %p {}/%f'", archive.display()));
    cluster.start();
    let db = cluster.session();
    db.run("create extension rbytea; create table t (n int primary key, r rbytea)");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=20);
    let backup = directory(&cluster, "backup");
    run(
        &cluster,
        cluster.tool("pg_basebackup"),
        &[
            "-U",
            "postgres",
            "-h",
            cluster.dir().to_str().unwrap(),
            "-p",
            &cluster.port().to_string(),
            "-c",
            "fast",
            "-X",
            "none",
            "-D",
            backup.to_str().unwrap(),
        ],
    );
    let mut moments = Vec::new();
    let mut moment = |name: &'static str, ledger: &Ledger| {
        restore_point(&db, name);
        moments.push((name, ledger.clone()));
    };
    ledger.insert(&db, "t", 21..=30);
    moment("written", &ledger);
    ledger.update(&db, "t", 1..=5);
    ledger.delete(&db, "t", 6..=10);
    moment("deleted", &ledger);
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 10);
    moment("trashed", &ledger);
    db.one::<i64>("select rvacuum_purge()", &[]);
    assert!(cluster.trash().is_empty());
    moment("purged", &ledger);
    db.run("create database copy template postgres strategy wal_log");
    ledger.insert(&db, "t", 31..=35);
    moment("cloned", &ledger);
    db.run("drop database copy");
    db.one::<i64>("select rvacuum()", &[]);
    db.one::<i64>("select rvacuum_purge()", &[]);
    ledger.delete(&db, "t", 31..=33);
    moment("dropped", &ledger);
    let last = moments.len();
    drop(db);
    let mut found = Found::default();
    for (n, (name, ledger)) in moments.into_iter().enumerate() {
        let mut recovered = Cluster::stopped_with(&[]);
        fs::remove_dir_all(recovered.data()).unwrap();
        let copied = Command::new("cp").args(["-a"]).arg(&backup).arg(recovered.data()).status().unwrap();
        assert!(copied.success());
        recovered.set_conf(&format!("port = {}", recovered.port()));
        recovered.set_conf(&format!("unix_socket_directories = '{}'", recovered.dir().display()));
        recovered.set_conf("archive_mode = off");
        recovered.set_conf(&format!("restore_command = 'cp {}/%f %p'", archive.display()));
        recovered.set_conf(&format!("recovery_target_name = '{name}'"));
        recovered.set_conf("recovery_target_action = promote");
        fs::write(recovered.data().join("recovery.signal"), "").unwrap();
        recovered.start();
        found = found.and(judge(&recovered, &ledger));
        if name == "cloned" {
            let copy = recovered.session_in("copy");
            assert_eq!(copy.text("select count(*) from t"), "25");
            assert_eq!(
                copy.text(
                    "select problem, path from rbytea_check(digest => true) where problem <> 'unreferenced'"
                ),
                ""
            );
        }
        assert!(n < last);
    }
    cluster.stop(Shutdown::Fast);
    proves(Promise::Backups, found);
}

/// With pgBackRest, incrementally, and back into the same directory, which keeps what has not changed.
#[test]
fn pgbackrest_brings_every_payload_back() {
    let mut cluster = Cluster::stopped_with(ALL);
    // Debian 12's version knows 15.
    if cluster.installation().major > 15 {
        return;
    }
    let dir = cluster.dir().to_owned();
    let (repository, log) = (directory(&cluster, "repository"), directory(&cluster, "pgbackrest"));
    let conf = dir.join("pgbackrest.conf");
    fs::write(
        &conf,
        format!(
            "[global]\nrepo1-path={}\nlog-path={}\nlock-path={}\nspool-path={}\nlog-level-console=warn\nlog-level-file=off\nstart-fast=y\n\
             repo1-retention-full=2\n[p]\npg1-path={}\npg1-port={}\npg1-socket-path={}\npg1-user=postgres\n",
            repository.display(),
            log.display(),
            log.display(),
            log.display(),
            cluster.data().display(),
            cluster.port(),
            dir.display()
        ),
    )
    .unwrap();
    own(&cluster, &conf);
    let config = format!("--config={}", conf.display());
    let pgbackrest = |cluster: &Cluster, args: &[&str]| {
        run(cluster, "pgbackrest", &[&[config.as_str(), "--stanza=p"], args].concat())
    };
    cluster.set_conf(&format!("archive_command = 'pgbackrest {config} --stanza=p archive-push %p'"));
    cluster.start();
    let db = cluster.session();
    db.run("create extension rbytea; create table t (n int primary key, r rbytea)");
    let mut ledger = Ledger::default();
    ledger.insert(&db, "t", 1..=20);
    pgbackrest(&cluster, &["stanza-create"]);
    pgbackrest(&cluster, &["backup", "--type=full"]);
    ledger.insert(&db, "t", 21..=30);
    ledger.delete(&db, "t", 1..=3);
    db.one::<i64>("select rvacuum()", &[]);
    pgbackrest(&cluster, &["backup", "--type=incr"]);
    ledger.insert(&db, "t", 31..=40);
    ledger.update(&db, "t", 10..=14);
    let then = ledger.clone();
    restore_point(&db, "then");
    ledger.delete(&db, "t", 20..=30);
    db.one::<i64>("select rvacuum()", &[]);
    db.one::<i64>("select rvacuum_purge()", &[]);
    ledger.insert(&db, "t", 41..=45);
    restore_point(&db, "now");
    drop(db);
    cluster.stop(Shutdown::Fast);
    let mut found = Found::default();
    for (target, ledger) in [("then", then), ("now", ledger)] {
        let options = ["restore", "--delta", "--type=name", "--target-action=promote", "--target-timeline=1"];
        pgbackrest(&cluster, &[&options[..], &[&format!("--target={target}")]].concat());
        cluster.set_conf("archive_mode = off");
        cluster.start();
        found = found.and(judge(&cluster, &ledger));
        cluster.stop(Shutdown::Fast);
    }
    proves(Promise::Backups, found);
}
