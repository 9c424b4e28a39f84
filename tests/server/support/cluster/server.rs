//! Starting a cluster's server and ending it, in order, at once, or by SIGKILL.

use std::collections::HashSet;
use std::fs::{self, File};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Cluster, PATIENCE, Shutdown, wait_until};

impl Cluster {
    /// Starts the server and waits until it takes connections.
    #[track_caller]
    pub fn start(&mut self) {
        if let Err(why) = self.try_start() {
            panic!("the server did not start: {why}");
        }
    }

    /// The same for a start that may be refused: the error says why, with the end of the log.
    pub fn try_start(&mut self) -> Result<(), String> {
        let postmaster = self.launch();
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(postmaster) {
            if let Some(status) = self.server.as_mut().and_then(|server| server.try_wait().unwrap()) {
                self.server = None;
                return Err(format!("{status}\n{}", self.log_tail()));
            }
            if Instant::now() > deadline {
                self.kill9();
                return Err(format!("not ready after {PATIENCE:?}\n{}", self.log_tail()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts the server and waits for nothing; its process id.
    pub fn launch(&mut self) -> u32 {
        assert!(self.server.is_none(), "the server is running already");
        let log = File::options().create(true).append(true).open(self.root.join("log")).unwrap();
        let server = self
            .server_command(self.tool("postgres"))
            .arg("-D")
            .arg(self.data())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server.insert(server).id()
    }

    /// The postmaster's process id.
    #[track_caller]
    pub fn postmaster(&self) -> u32 {
        self.server.as_ref().expect("the server is not running").id()
    }

    /// Stops the server and waits for its end.
    #[track_caller]
    pub fn stop(&mut self, how: Shutdown) -> ExitStatus {
        let signal = match how {
            Shutdown::Smart => Signal::TERM,
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        };
        self.signal(signal);
        let mut server = self.server.take().unwrap();
        let mut status = None;
        wait_until(PATIENCE, || {
            status = server.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Stops the server fast and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop(Shutdown::Fast);
        self.start();
    }

    /// SIGKILL for the postmaster and everything it started, as when the power fails; returns when all of them
    /// are gone. (What the kernel holds in its page cache stays, though.) `start` recovers. Returns how the
    /// postmaster has ended.
    #[track_caller]
    pub fn kill9(&mut self) -> ExitStatus {
        // All at once: no process goes on after it has seen that another one has died.
        let mut stopped = HashSet::new();
        wait_until(PATIENCE, || {
            let new: Vec<Pid> = self.processes().into_iter().filter(|pid| stopped.insert(*pid)).collect();
            for pid in &new {
                let _ = kill_process(*pid, Signal::STOP);
            }
            new.is_empty()
        });
        self.kill9_in_turn()
    }

    /// The same one after another, as if a user had killed the postmaster: its children notice that, or go on for a while.
    pub fn kill9_in_turn(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server is not running");
        server.kill().unwrap();
        let status = server.wait().unwrap();
        wait_until(PATIENCE, || {
            let family = self.processes();
            for pid in &family {
                // One that has ended meanwhile is what is wanted.
                let _ = kill_process(*pid, Signal::KILL);
            }
            family.is_empty()
        });
        status
    }

    /// SIGKILL for one backend: the postmaster ends all sessions and recovers.
    pub fn kill9_backend(&self, pid: i32) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    /// Sends a signal to the postmaster.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("the server is not running");
        kill_process(Pid::from_child(server), signal).unwrap();
    }

    /// The status line of postmaster.pid, as pg_ctl reads it.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str())
            && matches!(lines.get(7), Some(&"ready" | &"standby"))
    }

    /// Every process of this cluster: PostgreSQL's all have the data directory as their working directory.
    fn processes(&self) -> Vec<Pid> {
        let data = self.data();
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data) {
                pids.extend(Pid::from_raw(pid));
            }
        }
        pids
    }

    /// The shared memory segment of a server that was killed stays behind until the next start.
    fn remove_shared_memory(&self) {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else { return };
        if let Some(id) = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            // One that is gone already is fine.
            let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Cluster {
    /// Stops the server at once and removes everything; a failed test shows the end of the log, and with
    /// RBYTEA_KEEP set it keeps its directory.
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill_process(Pid::from_child(&server), Signal::QUIT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(server.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.remove_shared_memory();
        if thread::panicking() {
            eprintln!("--- the end of the server's log ---\n{}", self.log_tail());
            if std::env::var_os("RBYTEA_KEEP").is_some()
                && let Some(dir) = self.dir.take()
            {
                eprintln!("--- kept: {} ---", dir.keep().display());
            }
        }
    }
}
