//! The data directory of a new cluster, and where clusters live.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::super::installation::Installation;
use super::{Cluster, POSTGRES};

impl Cluster {
    /// Makes the data directory: a copy of one that initdb made once for this installation, which is several times as
    /// fast. All clusters of a run therefore have the same system identifier.
    pub(super) fn initialise(&self) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let Some(template) = template(&self.installation) else { return self.initdb() };
        let making = ONE_AT_A_TIME.lock().unwrap();
        if template.exists() {
            drop(making);
            return copy(&template, &self.data());
        }
        self.initdb();
        let unfinished = template.with_extension(std::process::id().to_string());
        copy(&self.data(), &unfinished);
        // Another process that was as fast has put the same there.
        if fs::rename(&unfinished, &template).is_err() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
    }

    fn initdb(&self) {
        let options = [
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-U",
            POSTGRES,
            "-D",
        ];
        let initdb =
            self.server_command(self.tool("initdb")).args(options).arg(self.data()).output().unwrap();
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        // On by default from 18 on; tests damage pages, and pg_upgrade wants the same of both clusters. It fails where they are off
        // already.
        let _ = self
            .server_command(self.tool("pg_checksums"))
            .arg("--disable")
            .arg(self.data())
            .output()
            .unwrap();
    }
}

/// Where clusters live: in memory if there is enough of it, otherwise in /tmp. Not $TMPDIR: the path of a socket is limited
/// to 107 bytes.
pub(super) fn scratch() -> &'static str {
    const ENOUGH: u64 = 4 << 30;
    let memory = rustix::fs::statvfs("/dev/shm").is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ENOUGH);
    if memory && std::env::var_os("RBYTEA_ON_DISK").is_none() { "/dev/shm" } else { "/tmp" }
}

/// Where the data directory that others are copied from is kept; none outside of cargo's tests.
fn template(installation: &Installation) -> Option<PathBuf> {
    let name = format!("{}-{}", installation.version, installation.bindir.display());
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Some(Path::new(option_env!("CARGO_TARGET_TMPDIR")?).join(format!("cluster-{name}")))
}

/// Copies a directory with owners and modes.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} could not be copied to {}", from.display(), to.display());
}
