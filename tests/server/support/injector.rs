//! Errors of system calls in one backend of a real server, by strace(1): the N-th call of a kind is not made, and the backend
//! is told that it failed. What libc offers for this would see nothing, as the store makes its system calls without libc.
//!
//! Needs the right to trace a process of the server's user: root's, or `sudo`. Where that is refused the tests fail.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::support::broken_store::{as_root, root_command};

/// What to do to which call.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// The system call's name.
    pub call: &'a str,
    /// Which of these calls, from 1 on; each thread of the backend counts for itself. `1+2` is every second one.
    pub when: &'a str,
    /// The error's name, or another action of strace(1).
    pub action: &'a str,
    /// Only calls that name one of these files or directories, or a descriptor of one, count; all calls if there is none.
    pub paths: &'a [PathBuf],
}

/// A backend that is being traced.
pub struct Injection {
    strace: Child,
    output: PathBuf,
}

impl Injection {
    /// From the backend's next call on. `output` is a file that this may write.
    pub fn into(pid: i32, rule: Rule<'_>, output: &Path) -> Self {
        Self::into_all(&[pid], rule, output)
    }

    /// The same into several processes, each of which counts for itself.
    pub fn into_all(pids: &[i32], rule: Rule<'_>, output: &Path) -> Self {
        let Rule { call, when, action, paths } = rule;
        let action = if action.contains('=') { action.to_owned() } else { format!("error={action}") };
        let mut strace = root_command("strace");
        strace.args(["-f", "-y", "-o"]).arg(output).args(["-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:{action}:when={when}")]);
        for pid in pids {
            strace.args(["-p", &pid.to_string()]);
        }
        for path in paths {
            strace.arg("-P").arg(path);
        }
        let mut strace = strace.stderr(Stdio::piped()).spawn().expect("strace is not installed");
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        let mut said = String::new();
        while said.matches("attached").count() < pids.len() {
            let before = said.len();
            stderr.read_line(&mut said).unwrap();
            assert!(
                said.len() > before,
                "strace cannot trace a backend, so nothing can be said about failing system calls: {said}"
            );
        }
        // The rest, a line for each new thread, is thrown away.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { strace, output: output.to_owned() }
    }

    /// Lets the backend go. What it was told a lie about, as strace prints it.
    pub fn end(mut self) -> Vec<String> {
        as_root("kill", &["-INT", &self.strace.id().to_string()]);
        self.strace.wait().unwrap();
        let trace = fs::read(&self.output).unwrap();
        let trace = String::from_utf8_lossy(&trace);
        let mut begun: HashMap<&str, &str> = HashMap::new();
        let mut hits = Vec::new();
        for line in trace.lines() {
            let (thread, call) = line.split_once(' ').unwrap_or_default();
            if call.ends_with("<unfinished ...>") {
                begun.insert(thread, call);
            } else if call.contains("(INJECTED") || call.contains("(DELAYED") {
                // What another thread did meanwhile splits the line in two.
                let begun =
                    begun.get(thread).filter(|_| call.contains(" resumed>")).copied().unwrap_or_default();
                hits.push(format!("{begun}{call}"));
            }
        }
        hits
    }
}
