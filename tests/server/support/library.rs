//! Libraries of a server that are written in C for a test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use crate::support::installation::Installation;

/// A library that a server can load, for as long as it lives.
pub struct Library {
    dir: TempDir,
}

impl Library {
    /// Compiles it for an installation.
    pub fn compile(installation: &Installation, source: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("rbytea-library-").tempdir_in(std::env::temp_dir()).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let file = dir.path().join("library.c");
        fs::write(&file, source).unwrap();
        let include = Command::new(&installation.pg_config).arg("--includedir-server").output().unwrap();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(dir.path().join("library.so"))
            .arg(format!("-I{}", String::from_utf8(include.stdout).unwrap().trim_end()))
            .arg(&file)
            .status()
            .unwrap();
        assert!(status.success(), "the library does not compile");
        Self { dir }
    }

    /// Its path, as SQL names it.
    pub fn path(&self) -> String {
        self.dir.path().join("library").display().to_string()
    }
}
