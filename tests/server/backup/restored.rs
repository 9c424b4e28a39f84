//! Taking a base backup and the store beside it, and starting a cluster from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::judge::disk::{garbage_after_vacuum, outlive_births};
use crate::support::session::Session;

/// Runs a program of the system, for instance cp, as the user who runs the test: root where the server has a user of its own.
#[track_caller]
pub fn system(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `from/` into the directory `to`, which may have an older copy, as `cp -a` does: nothing is deleted there.
#[track_caller]
pub fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // The directory itself has an owner, too.
    system("cp", &["-a", "--no-target-directory", text(from), text(to)]);
}

/// What rsync says when files that it had listed were gone: the vacuum has moved them.
const VANISHED: i32 = 24;

/// `rsync -a` of the directory's content.
#[track_caller]
pub fn rsync(from: &Path, to: &Path, options: &[&str]) {
    let (from, to) = (format!("{}/", from.display()), format!("{}/", to.display()));
    let output = Command::new("rsync").arg("-a").args(options).args([from, to]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || output.status.code() == Some(VANISHED), "rsync: {errors}");
}

/// A directory for the server's user, in that of the cluster.
pub fn own_dir(cluster: &Cluster, name: &str) -> PathBuf {
    let dir = cluster.dir().join(name);
    fs::create_dir(&dir).unwrap();
    if let Some((uid, gid)) = cluster.installation().server_user {
        std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    dir
}

/// Where a cluster's store is.
pub fn store_at(path: &Path) -> String {
    format!("rbytea.filesystem_storage_path = '{}'", path.display())
}

/// Runs pg_basebackup of the running cluster into a new directory of its owner's; `options` come after the usual ones.
#[track_caller]
pub fn base_backup(cluster: &Cluster, to: &Path, options: &[&str]) {
    let backup = cluster
        .server_command(cluster.tool("pg_basebackup"))
        .args(["--checkpoint=fast", "--no-sync", "--username=postgres"])
        .args(["--port", &cluster.port().to_string(), "--host", text(cluster.dir())])
        .args(["--pgdata", text(to)])
        .args(options)
        .output()
        .unwrap();
    assert!(backup.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&backup.stderr));
}

/// A cluster that is not running, whose data directory is a copy of the backup's. It has an address of its own and these
/// settings.
#[track_caller]
pub fn restored(backup: &Path, conf: &[&str]) -> Cluster {
    let cluster = Cluster::stopped_with(&[]);
    fs::remove_dir_all(cluster.data()).unwrap();
    system("cp", &["-a", text(backup), text(&cluster.data())]);
    cluster.set_conf(&format!("port = {}", cluster.port()));
    cluster.set_conf(&format!("unix_socket_directories = '{}'", cluster.dir().display()));
    cluster.set_conf("archive_mode = off");
    for line in conf {
        cluster.set_conf(line);
    }
    cluster
}

/// Takes a restored store into possession: nothing moves before, and afterwards the vacuum works. A store in the data directory of a
/// cluster that went through archive recovery is its own already.
#[track_caller]
pub fn adopt(db: &Session) {
    let recovered: bool = db.one("select timeline_id > 1 from pg_control_checkpoint()", &[]);
    let inside = !db.text("show rbytea.filesystem_storage_path").starts_with('/');
    if recovered && inside && db.try_run("select rvacuum()").is_ok() {
        return;
    }
    let refusals =
        || db.one::<i64>("select count(*) from rbytea.rbytea_vacuum_history where error is not null", &[]);
    let before = refusals();
    assert_eq!(db.sqlstate("select rvacuum()").code(), "55000", "the vacuum moves files of another cluster");
    // Another process writes that down, in a transaction that would keep garbage from the next run.
    wait_until(PATIENCE, || refusals() > before);
    db.run("select rbytea_adopt_store()");
}

/// Vacuums when only transactions to come could have garbage, so that also what the lost future of the cluster has left is garbage to
/// it; the number of files in LIVE of this database that no row refers to then.
#[track_caller]
pub fn leaked(db: &Session, store: &Path) -> u64 {
    let last = outlive_births(store, db);
    let ended = format!("select pg_snapshot_xmin(pg_current_snapshot()) > '{last}'::xid8");
    wait_until(PATIENCE, || db.one::<bool>(&ended, &[]));
    garbage_after_vacuum(store, db)
}
