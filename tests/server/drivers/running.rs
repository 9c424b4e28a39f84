//! Runs a program of tests/drivers against a table with a bytea and against one with an rbytea.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::scenario::{self, BYTEA, RBYTEA};
use crate::support::cluster::Cluster;

/// A program of tests/drivers.
#[derive(Clone, Copy)]
pub enum Program {
    /// Source, for what its name's extension says.
    Source(&'static str),
    /// What scripts/install-drivers.sh has compiled to machine code.
    Compiled(&'static str),
    /// What it has compiled for Java, with a JAR of Debian's.
    Java(&'static str),
}

/// A file below the directory that scripts/install-drivers.sh was given.
fn installed(path: &str) -> PathBuf {
    let drivers = std::env::var_os("RBYTEA_DRIVERS").expect("RBYTEA_DRIVERS: make driver-test sets it");
    Path::new(&drivers).join(path)
}

impl Program {
    /// The command, with an environment that leads to this cluster.
    fn command(self, cluster: &Cluster) -> Command {
        let mut command = match self {
            Self::Source(path) => {
                let interpreter = match path.rsplit_once('.').unwrap().1 {
                    "py" => "/usr/bin/python3", // the one that the packages were installed for
                    "js" => "node",
                    "rb" => "ruby",
                    "php" => "php",
                    "pl" => "/usr/bin/perl",
                    other => panic!("nothing runs .{other}"),
                };
                let mut command = cluster.client_command(interpreter);
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(path));
                command
            }
            Self::Compiled(path) => cluster.client_command(installed(path)),
            Self::Java(jar) => {
                let classes = format!("{}:/usr/share/java/{jar}", installed("java").display());
                let mut command = cluster.client_command("java");
                command.args(["-cp", &classes, "Main"]);
                command
            }
        };
        command
            .env("PGHOST", "127.0.0.1")
            .env("PYTHONPATH", installed("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", installed("node/node_modules"))
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs it with these arguments.
    pub fn output(self, cluster: &Cluster, arguments: &[&str]) -> Output {
        let mut command = self.command(cluster);
        command.args(arguments);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/install-drivers.sh"))
    }

    /// What it prints; an error fails the test.
    pub fn prints(self, cluster: &Cluster, arguments: &[&str]) -> String {
        let output = self.output(cluster, arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{printed}{errors}", output.status);
        printed
    }
}

/// The program prints the same of both columns, what it prints is what was written, and psql sees the same bytes; in each mode.
pub fn assert_same(program: Program, modes: &[&str]) {
    let cluster = scenario::cluster(&[]);
    for mode in modes {
        let bytea = assert_right(program, mode, &cluster, BYTEA);
        let rbytea = assert_right(program, mode, &cluster, RBYTEA);
        assert_eq!(rbytea, bytea, "{mode}: rbytea on the left, bytea on the right");
    }
}

/// It reads from a column of this type what it has written, and psql sees it; what it prints.
pub fn assert_right(program: Program, mode: &str, cluster: &Cluster, column: &str) -> String {
    let db = cluster.session();
    let table = scenario::create_table(&db, column);
    let files = scenario::files(cluster);
    let output = program.prints(cluster, &[&table, files.to_str().unwrap(), mode]);
    let context = format!("{mode}, {column}");
    scenario::assert_read(&output, &context);
    scenario::assert_stored(cluster, &db, column, &context);
    output
}
