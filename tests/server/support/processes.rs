//! The server's processes: finding one, killing it, and making sure that it died by this signal.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::support::cluster::{Cluster, PATIENCE, wait_until};

/// A child of the postmaster; the title says what it does.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// As `ps` shows it, without the `postgres: ` before it.
    pub title: String,
}

impl Process {
    /// The one with this id.
    pub fn of(pid: i32) -> Self {
        Self { pid, ..Self::default() }
    }
}

/// The postmaster's children.
pub fn children(cluster: &Cluster) -> Vec<Process> {
    let postmaster = cluster.postmaster();
    let list = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
    let pids = list
        .expect("the kernel does not list children (CONFIG_PROC_CHILDREN)")
        .split_whitespace()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let process = |pid: String| {
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let title = title.trim_end_matches(['\0', ' ']).strip_prefix("postgres: ")?.to_owned();
        Some(Process { pid: pid.parse().ok()?, title })
    };
    pids.into_iter().filter_map(process).collect()
}

/// The child whose title begins like this.
pub fn child(cluster: &Cluster, title: &str) -> Option<Process> {
    children(cluster).into_iter().find(|process| process.title.starts_with(title))
}

/// Sends a signal to one of the postmaster's children, if it is still there.
pub fn signal(cluster: &Cluster, process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Another process may have got the process id before the handle was there.
    if fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|cwd| cwd == cluster.data()) {
        // One that has ended meanwhile needs none.
        let _ = pidfd_send_signal(&handle, signal);
    }
}

/// Stops one of the postmaster's children where it is; a system call that it is in comes to its end.
pub fn hold(cluster: &Cluster, process: &Process) {
    signal(cluster, process, Signal::STOP);
    wait_until(PATIENCE, || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
        // The name in parentheses may have spaces in it.
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        matches!(state, None | Some('T' | 'Z'))
    });
}

/// Ends the launcher's sleep: it reads the settings, and then looks at its databases.
pub fn hurry(cluster: &Cluster) {
    if let Some(launcher) = child(cluster, "rbytea vacuum launcher") {
        signal(cluster, &launcher, Signal::HUP);
    }
}

/// Kills the postmaster, and then all its children; whether the postmaster died by that.
pub fn kill_all(cluster: &mut Cluster) -> bool {
    cluster.kill9_in_turn().signal() == Some(Signal::KILL.as_raw())
}

/// The server's log from some moment on.
pub struct Log {
    path: PathBuf,
    read: u64,
    text: String,
}

impl Log {
    /// What will be logged from now on.
    pub fn from_now(cluster: &Cluster) -> Self {
        let path = cluster.dir().join("log");
        let read = fs::metadata(&path).map_or(0, |log| log.len());
        Self { path, read, text: String::new() }
    }

    /// Everything that was logged since.
    pub fn text(&mut self) -> &str {
        let mut more = Vec::new();
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        file.read_to_end(&mut more).unwrap();
        self.read += more.len() as u64;
        self.text.push_str(&String::from_utf8_lossy(&more));
        &self.text
    }

    /// Whether the postmaster says that this child was killed, which it does as soon as it knows.
    pub fn confirms(&mut self, victim: &Process) -> bool {
        let known = || !Path::new(&format!("/proc/{}", victim.pid)).exists();
        wait_until(PATIENCE, known);
        let line = format!("(PID {}) was terminated by signal 9", victim.pid);
        self.has(&line, Duration::from_secs(5))
    }

    /// Whether the log has this text before the time is up.
    pub fn has(&mut self, text: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if self.text().contains(text) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lines that no server may log, whatever is killed by us.
    pub fn alarming(&mut self, ours: &[i32]) -> Vec<String> {
        let ours: Vec<String> =
            ours.iter().map(|pid| format!("(PID {pid}) was terminated by signal 9")).collect();
        let bad = |line: &&str| {
            let killed =
                line.contains("was terminated by signal") && !ours.iter().any(|ours| line.contains(ours));
            let says = ["PANIC: ", "TRAP: ", "neither in the store nor in TRASH", "exited with exit code 2"];
            killed || says.iter().any(|says| line.contains(says))
        };
        self.text().lines().filter(bad).map(str::to_owned).collect()
    }
}
