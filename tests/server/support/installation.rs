//! The PostgreSQL installation under test: the one whose pg_config PG_CONFIG names, as in the Makefile.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::fs;
use std::os::unix::fs::symlink;
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

    /// This installation once more below `root`, with libraries and a control file of rbytea that a test may replace. The server
    /// is copied, because it looks for its files from where it lies; everything else is links.
    pub fn copied_to(&self, root: &Path) -> Self {
        let own = [
            self.bindir.join("postgres"),
            self.pkglibdir.join("rbytea.so"),
            self.pkglibdir.join("librbytea.so"),
            self.sharedir.join("extension/rbytea.control"),
        ];
        let common = |dir: &Path, other: &Path| {
            dir.ancestors().find(|ancestor| other.starts_with(ancestor)).unwrap().to_owned()
        };
        let common = common(&common(&self.bindir, &self.pkglibdir), &self.sharedir);
        mirror(&common, root, &own);
        let copied = |dir: &Path| root.join(dir.strip_prefix(&common).unwrap());
        Self {
            bindir: copied(&self.bindir),
            pkglibdir: copied(&self.pkglibdir),
            sharedir: copied(&self.sharedir),
            ..self.clone()
        }
    }

    /// The directory of scripts and control files.
    pub fn extensions(&self) -> PathBuf {
        self.sharedir.join("extension")
    }
}

/// Makes `to` what `from` is: copies of these files, directories of its own on the way to them, links to all the rest.
fn mirror(from: &Path, to: &Path, own: &[PathBuf]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let (path, new) = (entry.path(), to.join(entry.file_name()));
        if own.contains(&path) {
            fs::copy(&path, &new).unwrap();
        } else if own.iter().any(|file| file.starts_with(&path)) {
            mirror(&path, &new, own);
        } else {
            symlink(&path, &new).unwrap();
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
