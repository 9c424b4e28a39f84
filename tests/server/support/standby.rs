//! A second cluster that follows a first one.

use std::fs;
use std::os::unix::fs::chown;

use crate::support::cluster::Cluster;

/// A running standby, made by pg_basebackup, that uses the slot `standby`. Its store is the copy of the primary's
/// that the backup contains.
pub fn standby_of(primary: &Cluster, conf: &[&str]) -> Cluster {
    standby_in(Cluster::stopped_with(&[]), primary, conf)
}

/// The same in place of a cluster that was never started.
pub fn standby_in(mut standby: Cluster, primary: &Cluster, conf: &[&str]) -> Cluster {
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

/// Makes a stopped cluster a standby of another one, as Patroni does it.
pub fn rewind(stopped: &mut Cluster, of: &Cluster) {
    let conf = fs::read_to_string(stopped.data().join("postgresql.conf")).unwrap();
    let source = format!("host={} port={} user=postgres dbname=postgres", of.dir().display(), of.port());
    let rewound = stopped
        .server_command(stopped.tool("pg_rewind"))
        .args(["--write-recovery-conf", "--no-sync", "--source-server", &source, "--target-pgdata"])
        .arg(stopped.data())
        .output()
        .unwrap();
    assert!(rewound.status.success(), "{}", String::from_utf8_lossy(&rewound.stderr));
    let path = stopped.data().join("postgresql.conf");
    fs::write(&path, conf).unwrap();
    if let Some((uid, gid)) = stopped.installation().server_user {
        chown(&path, Some(uid), Some(gid)).unwrap();
    }
    // The last line wins; the source's own slot is not there.
    let mut auto =
        fs::File::options().append(true).open(stopped.data().join("postgresql.auto.conf")).unwrap();
    std::io::Write::write_all(&mut auto, b"primary_slot_name = ''\n").unwrap();
}
