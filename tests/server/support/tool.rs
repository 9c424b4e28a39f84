//! The program rbytea of the installation, run against a cluster, and what comes of it.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// What a run has come to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// What it wrote to its standard output.
    pub output: Vec<u8>,
    /// What it said.
    pub said: String,
}

impl Ran {
    /// That it ended with this status.
    #[track_caller]
    pub fn ends_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}", self.said);
        self
    }

    /// Its standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.output).unwrap()
    }
}

/// `rbytea` with these arguments, as the superuser in the database `postgres`, in a home directory that has nothing.
pub fn tool<A: AsRef<OsStr>>(cluster: &Cluster, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = cluster.client_command(cluster.tool("rbytea"));
    command.args(arguments).env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    start(command).end()
}

/// The same with this standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut running = start(command.stdin(Stdio::piped()));
    let mut pipe = running.0.stdin.take().unwrap();
    thread::scope(|scope| {
        // A program that ends without having read everything is judged by its exit status.
        scope.spawn(move || pipe.write_all(input));
        running.end()
    })
}

/// Starts a command.
pub fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// A run that goes on.
pub struct Running(Child);

impl Running {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Whether it has not ended.
    pub fn goes_on(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// The most memory that it has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
    }

    /// Waits for its end.
    pub fn end(self) -> Ran {
        let output = self.0.wait_with_output().unwrap();
        Ran {
            status: output.status.code().unwrap_or(-1),
            output: output.stdout,
            said: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The backend of the tool's that runs a statement that begins like this.
pub fn backend(db: &Session, statement: &str) -> Option<i32> {
    let query = "select pid from pg_stat_activity
                  where application_name = 'rbytea' and state = 'active' and starts_with(query, $1)";
    db.column(query, &[&statement]).first().copied()
}
