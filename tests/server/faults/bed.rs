//! A store whose system calls fail, one in each case: every call of a scenario in turn, until the scenario makes no more of
//! its kind. Each case must end with an error of the right SQLSTATE (or, where the store can do without the call, as if nothing
//! had happened), and everything that was acknowledged must read back.
//!
//! That takes long, so without RBYTEA_FAULTS only every fourth call fails, with the errors in turn. RBYTEA_FAULTS=each fails
//! each call once, RBYTEA_FAULTS=all with every error.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::evidence::Found;
use crate::support::broken_store::{BrokenStore, text};
use crate::support::cluster::POSTGRES;
use crate::support::injector::{Injection, Rule};
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::session::Session;
use crate::support::volumes::Kind;

/// Errors, and the SQLSTATE of each. EINTR is not among them: a call that is interrupted is tried again.
const ERRNOS: &[(&str, &str)] = &[
    ("EIO", "58030"),
    ("ENOSPC", "53100"),
    ("EDQUOT", "53100"),
    ("EROFS", "58030"),
    ("EACCES", "42501"),
    ("ESTALE", "58030"),
    ("EINTR", ""),
];

/// System calls that only the store makes in a backend whose WAL is written with open_datasync.
pub const CALLS: &[&str] = &[
    "openat2",
    "mkdirat",
    "write",
    "fdatasync",
    "fsync",
    "syncfs",
    "sync_file_range",
    "renameat2",
    "renameat",
    "unlinkat",
    "linkat",
    "getdents64",
    "utimensat",
];

/// Calls that the server makes as well: those on the store's own files and directories.
pub const SHARED_CALLS: &[&str] = &["openat", "newfstatat", "fstat", "pread64"];

/// A scenario: what one backend does while a call of its fails.
pub struct Scenario<'a> {
    /// For messages.
    pub name: &'a str,
    /// Prepares a case; the statements.
    pub begin: &'a dyn Fn(&mut Bed) -> String,
    /// After the statements, with whether they were acknowledged.
    pub end: &'a dyn Fn(&mut Bed, bool),
    /// Calls that the statements can do without: parts of what strace prints of them.
    pub tolerates: &'a [&'a str],
}

/// How much to try.
#[derive(Clone, Copy, PartialEq)]
enum Effort {
    Some,
    Each,
    All,
}

impl Effort {
    fn wanted() -> Self {
        match std::env::var("RBYTEA_FAULTS").as_deref() {
            Ok("all") => Self::All,
            Ok("each") => Self::Each,
            Ok(other) => panic!("RBYTEA_FAULTS={other} is neither each nor all"),
            Err(_) => Self::Some,
        }
    }
}

/// See the module.
pub struct Bed {
    pub store: BrokenStore,
    /// Numbers of the rows of `twins` that must be there.
    pub kept: BTreeSet<i32>,
    /// The next number for a row.
    pub next: i32,
    /// The database whose backend has the faults.
    pub database: &'static str,
    /// A call that fails is a case if it names something whose path begins with one of these.
    pub watched: Vec<PathBuf>,
    found: Found,
}

impl Bed {
    /// A store on an ext4 of its own, where one syncfs takes the place of many fsyncs, or on a tmpfs, where none does.
    pub fn on(kind: Kind) -> Self {
        let store = BrokenStore::on(kind, 32 << 20, None);
        for line in ["wal_sync_method = open_datasync", "rbytea.trash_retention = 0"] {
            store.cluster.set_conf(line);
        }
        store.cluster.reload();
        acknowledged::prepare(&store.superuser);
        let watched = vec![store.root.clone()];
        let (kept, found) = (BTreeSet::new(), Found::default());
        let mut bed = Self { store, kept, next: 1, database: POSTGRES, watched, found };
        bed.keep_rows(3);
        // With a TRASH, as in every store that is in use.
        for sql in
            ["insert into twins values (0, '', '')", "delete from twins where n = 0", "select rvacuum()"]
        {
            bed.db().run(sql);
        }
        bed
    }

    /// Adds what a scenario has found itself.
    pub fn add(&mut self, found: Found) {
        self.found.add(found);
    }

    /// Inserts rows that stay.
    pub fn keep_rows(&mut self, rows: i32) {
        let numbers = self.take(rows);
        self.db().run(&insert(&numbers));
        self.kept.extend(numbers);
    }

    /// Numbers for new rows.
    pub fn take(&mut self, rows: i32) -> std::ops::Range<i32> {
        self.next += rows;
        self.next - rows..self.next
    }

    /// A session that sees no fault.
    pub fn db(&self) -> &Session {
        &self.store.superuser
    }

    /// What is watched, and everything below.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.watched.clone();
        let mut at = 0;
        while let Some(path) = paths.get(at).cloned() {
            at += 1;
            if path.is_dir() {
                paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        paths
    }

    /// Fails every one of these calls that the scenario makes.
    pub fn run(&mut self, scenario: &Scenario<'_>, calls: &[&str], shared: bool) {
        let effort = Effort::wanted();
        let step = if effort == Effort::Some { 4 } else { 1 };
        for (at, call) in calls.iter().enumerate() {
            // Not the first of each kind, which is the same for most scenarios.
            for nth in (1 + at % step..).step_by(step) {
                let errnos =
                    if effort == Effort::All { ERRNOS } else { &ERRNOS[(at + nth) % ERRNOS.len()..][..1] };
                let (mut made, when) = (false, nth.to_string());
                for (errno, code) in errnos {
                    made |= self.case(
                        scenario,
                        Rule { call, when: &when, action: errno, paths: &[] },
                        code,
                        shared,
                    );
                }
                if !made {
                    break;
                }
            }
        }
        self.judge(scenario.name);
    }

    /// False if the scenario makes no such call.
    fn case(&mut self, scenario: &Scenario<'_>, rule: Rule<'_>, code: &str, shared: bool) -> bool {
        let sql = (scenario.begin)(self);
        let paths = if shared { self.paths() } else { Vec::new() };
        let victim = self.store.cluster.session_in(self.database);
        // What a session reads of the catalogs for the first time is not the subject.
        victim.run("select count(r), count(uuid(r)) from twins where n < 0; set statement_timeout = '60s'");
        let pid = victim.pid();
        let output = self.store.cluster.dir().join("trace");
        let injection = Injection::into(pid, Rule { paths: &paths, ..rule }, &output);
        let outcome = victim.try_run(&sql);
        let all_hits = injection.end();
        let what = format!("{}: {rule:?}: {all_hits:?}", scenario.name);
        let log = self.store.cluster.log();
        assert!(
            !log.contains("PANIC") && !log.contains("was terminated by"),
            "{what}: the server has not lived on"
        );
        let _ = victim.try_run("rollback");
        assert_eq!(victim.pid(), pid, "{what}: the session has not survived");
        (scenario.end)(self, outcome.is_ok());
        // The server itself writes to its log, for instance.
        let watched = |hit: &&String| self.watched.iter().any(|path| hit.contains(text(path)));
        let hits: Vec<&String> = all_hits.iter().filter(watched).collect();
        if hits.is_empty() {
            outcome.unwrap_or_else(|error| panic!("{what}: an error without a fault: {error:?}"));
            return !all_hits.is_empty();
        }
        self.found.cases += 1;
        let tried_again = rule.action == "EINTR" && !is_not_repeated(rule.call);
        match outcome {
            Ok(()) if tried_again || hits.iter().all(|hit| is_optional(hit, scenario.tolerates)) => {}
            Ok(()) => panic!("{what} and the statement succeeds all the same"),
            Err(error) => {
                let error = error.as_db_error().unwrap_or_else(|| panic!("{what}: {error:?}")).clone();
                let expected = if code.is_empty() && !tried_again { "58030" } else { code };
                assert_eq!(error.code().code(), expected, "{what}: {error:?}");
            }
        }
        if self.found.cases.is_multiple_of(4) || Effort::wanted() != Effort::Some {
            self.judge(&what);
        }
        true
    }

    /// Runs statements, each in a transaction of its own, that must succeed although their calls fail as the rule says.
    pub fn succeed(&mut self, rule: Rule<'_>, statements: &[&str]) {
        let victim = self.store.cluster.session();
        let output = self.store.cluster.dir().join("trace");
        let injection = Injection::into(victim.pid(), rule, &output);
        for sql in statements {
            victim.try_run(sql).unwrap_or_else(|error| panic!("{rule:?}: {sql}: {error:?}"));
        }
        let hits = injection.end().len() as u64;
        assert!(hits > 0, "{rule:?}: no such call was made");
        self.found.cases += hits;
        self.judge(rule.call);
    }

    /// Compares every row and file with what was acknowledged, and removes garbage.
    fn judge(&mut self, what: &str) {
        let found = acknowledged::judge(self.db(), &self.store.root, &self.kept);
        if found.lost + found.dangling + found.leaked > 0 {
            eprintln!("{what}: {found:?}");
        }
        self.found.add(found);
        remove_empty_leaves(&self.store.root);
    }

    /// What all cases have found.
    pub fn found(self) -> Found {
        self.store.assert_repaired();
        eprintln!("{:?}", self.found);
        self.found
    }
}

/// Inserts rows with these numbers.
pub fn insert(numbers: &std::ops::Range<i32>) -> String {
    format!(
        "insert into twins select n, payload(n), payload(n) from generate_series({}, {}) n",
        numbers.start,
        numbers.end - 1
    )
}

/// What must not be tried again after an interruption, and what Rust's library does not.
fn is_not_repeated(call: &str) -> bool {
    matches!(call, "fsync" | "fdatasync" | "syncfs" | "rename")
}

/// What the store only asks to find out what the kernel can do, or whether the root that it has open is still the one (otherwise it opens
/// it), and what the scenario can do without.
fn is_optional(hit: &str, tolerates: &[&str]) -> bool {
    hit.contains("\".\", {flags=O_RDONLY|O_CLOEXEC|O_PATH,")
        || hit.contains("newfstatat(AT_FDCWD<") && hit.contains("/store\", ")
        || tolerates.iter().any(|part| hit.contains(part))
}

/// So that a scenario makes as many calls in the last case as in the first. No other session uses the store, and every case has a
/// new session.
fn remove_empty_leaves(root: &Path) {
    for database in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        for era in fs::read_dir(&database).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            for leaf in fs::read_dir(&era).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                // Files, and directories that are not empty, stay.
                let _ = fs::remove_dir(leaf);
            }
        }
    }
}
