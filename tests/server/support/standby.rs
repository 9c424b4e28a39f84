//! A second cluster that follows a first one.

use std::fs;

use crate::support::cluster::Cluster;

/// A running standby, made by pg_basebackup, that uses the slot `standby`. Its store is the copy of the primary's
/// that the backup contains.
pub fn standby_of(primary: &Cluster, conf: &[&str]) -> Cluster {
    let mut standby = Cluster::stopped_with(&[]);
    fs::remove_dir_all(standby.data()).unwrap();
    let backup = standby
        .server_command(standby.tool("pg_basebackup"))
        .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--create-slot", "--slot=standby"])
        .args(["--username=postgres", "--port", &primary.port().to_string(), "--host"])
        .arg(primary.dir())
        .arg("--pgdata")
        .arg(standby.data())
        .output()
        .unwrap();
    assert!(backup.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&backup.stderr));
    standby.set_conf(&format!("port = {}", standby.port()));
    standby.set_conf(&format!("unix_socket_directories = '{}'", standby.dir().display()));
    for line in conf {
        standby.set_conf(line);
    }
    standby.start();
    standby
}
