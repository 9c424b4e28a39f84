//! Tables whose access method is another one than PostgreSQL's heap.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use crate::support::installation::Installation;
use crate::support::session::Session;

/// A library with a table access method, for as long as it lives.
pub struct OtherAccessMethod {
    dir: TempDir,
}

impl OtherAccessMethod {
    /// Compiles it for an installation.
    pub fn compile(installation: &Installation) -> Self {
        let dir = tempfile::Builder::new().prefix("rbytea-am-").tempdir_in(std::env::temp_dir()).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let source = dir.path().join("other.c");
        fs::write(&source, include_str!("access_method.c")).unwrap();
        let include = Command::new(&installation.pg_config).arg("--includedir-server").output().unwrap();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(dir.path().join("other.so"))
            .arg(format!("-I{}", String::from_utf8(include.stdout).unwrap().trim_end()))
            .arg(&source)
            .status()
            .unwrap();
        assert!(status.success(), "the access method does not compile");
        Self { dir }
    }

    /// Makes the access method `other` in a database.
    pub fn create(&self, db: &Session) {
        db.run(&format!(
            "create function other_handler(internal) returns table_am_handler as '{}' language c;
             create access method other type table handler other_handler",
            self.dir.path().join("other").display()
        ));
    }

    /// Makes a table of the access method `other` with a column of type rbytea, which no statement allows.
    pub fn create_table(&self, db: &Session, name: &str) {
        self.create(db);
        db.run(&format!(
            "create table {name} (n int, r rbytea);
             update pg_class set relam = (select oid from pg_am where amname = 'other') where oid = '{name}'::regclass"
        ));
    }
}
