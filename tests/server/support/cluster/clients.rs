//! Clients of a cluster: sessions, and PostgreSQL's programs.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use super::super::session::{Notices, Session, connect, connect_with_notices};
use super::{Cluster, PATIENCE, POSTGRES, wait_until};

impl Cluster {
    /// A blocking session of the superuser in the database `postgres`.
    #[track_caller]
    pub fn session(&self) -> Session {
        Session::connect(&self.config(POSTGRES, POSTGRES))
    }

    /// The same as soon as the server takes one.
    #[track_caller]
    pub fn connected(&self) -> Session {
        let mut session = None;
        wait_until(PATIENCE, || {
            session = Session::try_connect(&self.config(POSTGRES, POSTGRES)).ok();
            session.is_some()
        });
        session.unwrap()
    }

    /// A blocking session of this role in the database `postgres`.
    #[track_caller]
    pub fn session_as(&self, user: &str) -> Session {
        Session::connect(&self.config(user, POSTGRES))
    }

    /// A blocking session of the superuser in this database.
    #[track_caller]
    pub fn session_in(&self, database: &str) -> Session {
        Session::connect(&self.config(POSTGRES, database))
    }

    /// An asynchronous client of the superuser in the database `postgres`.
    pub async fn client(&self) -> tokio_postgres::Client {
        self.client_as(POSTGRES).await
    }

    /// An asynchronous client of this role in the database `postgres`.
    pub async fn client_as(&self, user: &str) -> tokio_postgres::Client {
        connect(&self.config(user, POSTGRES)).await
    }

    /// An asynchronous client of the superuser and the notices that it was sent.
    pub async fn client_with_notices(&self) -> (tokio_postgres::Client, Notices) {
        connect_with_notices(&self.config(POSTGRES, POSTGRES)).await.unwrap()
    }

    /// How to connect, for a client with options of its own.
    pub fn config(&self, user: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&self.root)
            .port(self.port)
            .user(user)
            .dbname(database)
            .application_name("rbytea tests");
        config
    }

    /// Runs psql as the superuser in the database `postgres`, unaligned and without a header; its output. Any
    /// error in the script fails the test.
    #[track_caller]
    pub fn psql(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> String {
        let output = self.try_psql(args, stdin);
        assert!(output.status.success(), "psql {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, errors included.
    pub fn try_psql(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        let all = [&["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"], args].concat();
        self.run_tool("psql", &all, stdin.as_ref())
    }

    /// Runs pg_dump as the superuser; what it writes to its standard output.
    #[track_caller]
    pub fn pg_dump(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run_tool("pg_dump", args, b"");
        assert!(output.status.success(), "pg_dump {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs pg_restore as the superuser with the dump as its standard input.
    #[track_caller]
    pub fn pg_restore(&self, args: &[&str], dump: &[u8]) -> String {
        let output = self.run_tool("pg_restore", args, dump);
        assert!(output.status.success(), "pg_restore {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one of PostgreSQL's client programs as the superuser in the database `postgres`.
    pub fn run_tool(&self, name: &str, args: &[&str], stdin: &[u8]) -> Output {
        let mut tool = self
            .client_command(self.tool(name))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = tool.stdin.take().unwrap();
        thread::scope(|scope| {
            // A program that ends without having read everything is judged by its exit status.
            scope.spawn(move || input.write_all(stdin));
            tool.wait_with_output().unwrap()
        })
    }

    /// A command whose environment leads libpq to this cluster.
    pub fn client_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", &self.root)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", POSTGRES)
            .env("PGDATABASE", POSTGRES)
            .env("LC_ALL", "C");
        command
    }

    /// A command that runs as the server's user, in a directory that this user can read.
    pub fn server_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        // A server must not outlive a test run that was killed.
        command.args(["--pdeathsig", "QUIT"]);
        if self.installation.server_user.is_some() {
            command.args(["--reuid", POSTGRES, "--regid", POSTGRES, "--clear-groups", "--inh-caps=-all"]);
        }
        // Clients must not see a backtrace, wherever the server was started from.
        command
            .arg(program)
            .current_dir(&self.root)
            .env("LC_ALL", "C")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        command
    }
}
