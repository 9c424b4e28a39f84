//! The PostgreSQL installation under test: the one whose pg_config PG_CONFIG names, as in the Makefile.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::getuid;

/// Where PostgreSQL keeps what a test needs, and as whom its server runs.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The pg_config that said all this.
    pub pg_config: PathBuf,
    /// The programs.
    pub bindir: PathBuf,
    /// The loadable libraries, rbytea.so among them.
    pub pkglibdir: PathBuf,
    /// Holds `extension`.
    pub sharedir: PathBuf,
    /// What `pg_config --version` says.
    pub version: String,
    /// 15, 16, …
    pub major: u32,
    /// User and group `postgres` when the tests run as root, which no server may.
    pub server_user: Option<(u32, u32)>,
}

impl Installation {
    /// Asks the pg_config of the environment.
    pub fn from_environment() -> Self {
        Self::of(std::env::var_os("PG_CONFIG").map_or_else(|| "pg_config".into(), PathBuf::from))
    }

    /// Asks this pg_config.
    pub fn of(pg_config: PathBuf) -> Self {
        let version = ask(&pg_config, "--version");
        let number = version.trim_start_matches("PostgreSQL ");
        let major = number.chars().take_while(char::is_ascii_digit).collect::<String>();
        Self {
            bindir: ask(&pg_config, "--bindir").into(),
            pkglibdir: ask(&pg_config, "--pkglibdir").into(),
            sharedir: ask(&pg_config, "--sharedir").into(),
            version,
            major: major.parse().expect("the version of PostgreSQL starts with a number"),
            server_user: getuid().is_root().then(postgres_user),
            pg_config,
        }
    }
}

fn ask(pg_config: &Path, what: &str) -> String {
    let output = Command::new(pg_config)
        .arg(what)
        .output()
        .unwrap_or_else(|error| panic!("PG_CONFIG={}: {error}", pg_config.display()));
    assert!(output.status.success(), "{} {what} failed", pg_config.display());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn postgres_user() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("as root the tests need the user postgres")
        .split(':')
        .collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}
